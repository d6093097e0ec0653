"""EASE (Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019): a linear model of each item on all
other items, in closed form.

    P = (Xᵀ X + λ I)⁻¹,   B = I - P · diag(1 / P_jj),   score(u) = x_u B           (eq. 8)

X [U, V] is the matrix of users and items in training, x_u the items of a history; order and repetition do not count.

Letters: V items, U users, S targets of a batch, E input events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from facta import jagged
from facta.data.dataset.catalogue import Catalogue
from facta.data.split.statistics import Statistics
from facta.errors import ResourceError
from facta.hardware import human, memory_free
from facta.models.baselines import co_occurrences
from facta.models.counted import CountedConfig, positive_only
from facta.models.model import Judge, Model
from facta.types import SequenceBatch

REGULARISATIONS = (50.0, 150.0, 400.0, 1000.0, 2500.0)


class EASEConfig(CountedConfig):
    kind: Literal["ease"] = "ease"
    window: int = Field(default=2000, ge=1, description="newest events of a history that are read")
    regularisation: float = Field(default=400.0, gt=0, description="λ; larger for few events per item")

    def build(self, catalogue: Catalogue, seed: int = 0) -> EASE:
        return EASE(self, catalogue.items)

    def tuned(self, statistics: Statistics, judge: Judge) -> Model:
        """The best λ; pairs are counted once."""
        configs = [EASEConfig(positive=self.positive, regularisation=value) for value in REGULARISATIONS]
        return judge(fit_all(configs, statistics))


class EASE(Model):
    """Scores are sums of rows of B [V, V], so memory grows with the square of the catalogue."""

    config: EASEConfig
    weight: Tensor  # B

    def __init__(self, config: EASEConfig, num_items: int) -> None:
        super().__init__()
        self.config, self.window = config, config.window
        if not torch.empty(0).is_meta:
            check_fits(num_items, models=1)
        self.register_buffer("weight", torch.zeros(num_items, num_items))

    def fit_statistics(self, statistics: Statistics) -> Self:
        """Count the pairs and solve. Raises ResourceError if V x V does not fit into memory."""
        self.weight = solved(gram(statistics, self.config.positive), self.config.regularisation)
        return self

    @torch.no_grad()
    def catalogue_scores(self, batch: SequenceBatch) -> Tensor:
        """[S, V]; zeros, all tied, for an empty history. Targets see their row's events up to `after`."""
        targets = batch.targets
        row = jagged.rows(targets.offsets)
        read = jagged.spans(batch.offsets[row], targets.num_visible)
        request = torch.repeat_interleave(torch.arange(len(row)), targets.num_visible)
        met = torch.unique(torch.stack([request, batch.events.item[read]]), dim=1)  # an item counts once
        shown = torch.zeros(len(row), len(self.weight)).index_put_((met[0], met[1]), torch.ones(met.shape[1]))
        return shown @ self.weight

    @property
    def similar_by(self) -> str:
        return "weight of EASE from the item to the other one"

    def item_similarities(self, rows: Tensor) -> Tensor:
        """[n] rows -> [n, V] of B; -inf for entries that are not positive."""
        return positive_only(self.weight[rows])


def fit_all(configs: Sequence[EASEConfig], statistics: Statistics) -> list[EASE]:
    """A model for each setting, from one count of the pairs."""
    (positive,) = {config.positive for config in configs}
    check_fits(statistics.items, models=len(configs))
    counted, found = gram(statistics, positive), []
    for config in configs:
        found.append(EASE(config, statistics.items))
        found[-1].weight = solved(counted, config.regularisation)
    return found


def gram(statistics: Statistics, positive: str | None) -> Tensor:
    """Xᵀ X [V, V] float64: the number of users with both items of a pair in training; the diagonal is of each item."""
    users, items = statistics.users, statistics.items
    check_fits(items, models=1)
    found = torch.zeros(items, items, dtype=torch.float64)
    for first, together in co_occurrences(*statistics.events(positive).met(items), users, items):
        found[first : first + len(together)] = together
    return found


def solved(counted: Tensor, regularisation: float) -> Tensor:
    """B [V, V] float32, zeros on its diagonal."""
    inverse: Tensor = torch.linalg.inv(counted + regularisation * torch.eye(len(counted), dtype=counted.dtype))
    weight = -inverse / inverse.diagonal()
    weight.fill_diagonal_(0.0)
    return weight.float()


def check_fits(items: int, *, models: int) -> None:
    """Raises ResourceError if `models` matrices and the solving of one do not fit into memory."""
    needed, free = items**2 * (4 * models + 3 * 8), memory_free()
    if free is not None and needed > free:
        raise ResourceError(
            f"EASE needs a matrix of all pairs of the {items:,} items: about {human(needed)} of memory, and "
            f"{human(free)} are free. Take a model without one, such as item-knn or rules, or a smaller catalogue."
        )
