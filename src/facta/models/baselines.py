"""Baselines for every model: popularity, time-decayed popularity and item-kNN; pairwise rules are in `rules.py`.

They are fitted on the training events of a split and rank like any model. Their state is in buffers, so artifacts save
and load it as that of any model.

Letters: U users, V items, S targets of a batch, E input events, K neighbours kept of each item.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from facta import arrays
from facta.arrays import Ints
from facta.data.dataset.catalogue import Catalogue
from facta.data.split.statistics import Statistics
from facta.errors import DataError
from facta.models.counted import CountedConfig, neighbour_scores, neighbour_similarities
from facta.models.model import Judge, Model
from facta.types import SequenceBatch

_DAY_MS = 86_400_000.0
PAIRS_AT_ONCE = 500_000  # temporaries of 4 MB each, which stay in the CPU's cache


class PopularityConfig(CountedConfig):
    kind: Literal["popularity"] = "popularity"

    def build(self, catalogue: Catalogue, seed: int = 0) -> Popularity:
        return Popularity(self, catalogue.items)


class DecayedPopularityConfig(CountedConfig):
    kind: Literal["decayed-popularity"] = "decayed-popularity"
    half_life_days: float = Field(default=30.0, gt=0)

    def build(self, catalogue: Catalogue, seed: int = 0) -> DecayedPopularity:
        return DecayedPopularity(self, catalogue.items)

    def tuned(self, statistics: Statistics, judge: Judge) -> Model:
        """The best half-life."""
        return judge(DecayedPopularity.variants(statistics, self.positive))


class ItemKNNConfig(CountedConfig):
    kind: Literal["item-knn"] = "item-knn"
    window: int = Field(default=200, ge=1, description="events of a history that are read")
    neighbours: int = Field(default=200, ge=1, description="K, kept of each item")
    shrinkage: float = Field(default=20.0, ge=0, description="added to the cosine's denominator, against rare pairs")
    half_life: float | None = Field(
        default=10.0, gt=0, description="half-life of an event's weight, in newer events; null: no decay"
    )

    def build(self, catalogue: Catalogue, seed: int = 0) -> ItemKNN:
        return ItemKNN(self, catalogue.items)

    def tuned(self, statistics: Statistics, judge: Judge) -> Model:
        """The best shrinkage and half-life."""
        return judge(ItemKNN.variants(statistics, self.positive))


class _OneList(Model):
    """One score per item, equal for all requests."""

    window = 1  # histories are not read
    popularity: Tensor  # [V]

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.register_buffer("popularity", torch.zeros(num_items))

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Rename the tensor `scores` of artifacts of facta 0.1."""
        if f"{prefix}scores" in state:
            state[f"{prefix}popularity"] = state.pop(f"{prefix}scores")
        super()._load_from_state_dict(state, prefix, *rest)

    @torch.no_grad()
    def catalogue_scores(self, batch: SequenceBatch) -> Tensor:
        """[S, V], the same row for each target."""
        return self.popularity.expand(len(batch.targets.num_visible), -1)


class Popularity(_OneList):
    """Every request gets the items with the most training events."""

    config: PopularityConfig

    def __init__(self, config: PopularityConfig, num_items: int) -> None:
        super().__init__(num_items)
        self.config = config

    def fit_statistics(self, statistics: Statistics) -> Self:
        """Count the training events of each item."""
        self.popularity = statistics.counts_of(self.config.positive).float()
        return self


class DecayedPopularity(_OneList):
    """Every request gets the items with the most training events, each weighted by 2^(-age / half-life)."""

    config: DecayedPopularityConfig
    HALF_LIVES = (1.0, 3.0, 7.0, 14.0, 30.0, 90.0, 365.0)

    def __init__(self, config: DecayedPopularityConfig, num_items: int) -> None:
        super().__init__(num_items)
        self.config = config

    def fit_statistics(self, statistics: Statistics) -> Self:
        """Sum 2^(-age / half-life) by item. Raises DataError for data without times.

        Stores the logarithm of the sum, since sums of a short half-life underflow float32. Ages count from the newest
        training event; any other moment would give the same order.
        """
        events = statistics.events(self.config.positive)
        times = events.time
        if times is None:
            raise DataError("Time-decayed popularity needs timestamps; this dataset has only an order: leave it out.")
        newest = times.max() if len(times) else 0  # the field has no success in training
        weights = np.exp2((times - newest) / (self.config.half_life_days * _DAY_MS))
        sums = np.bincount(events.item, weights=weights, minlength=statistics.items)
        logs = np.log2(np.maximum(sums, np.finfo(np.float64).tiny))  # an item without events: the lowest, and finite
        self.popularity = torch.from_numpy(logs.astype(np.float32))
        return self

    @classmethod
    def variants(cls, statistics: Statistics, positive: str | None = None) -> list[Self]:
        """A fitted model for each half-life; validation chooses."""
        configs = [DecayedPopularityConfig(half_life_days=days, positive=positive) for days in cls.HALF_LIVES]
        return [cls(config, statistics.items).fit_statistics(statistics) for config in configs]


class ItemKNN(Model):
    """Item-item similarity by common users: score(j) = Σ over the history's items i of 2^(-place / half-life) · sim(i,
    j).

    sim(i, j) = n_ij / (√(n_i n_j) + shrinkage), where n counts users with training events on one item or on both
    (shrunk cosine of binary vectors); the K most similar items of each item are kept. `place` counts from the newest
    event. With `positive`, n counts only successes, such as purchases; every event of a history is read.
    """

    SHRINKAGES = (0.0, 5.0, 20.0, 50.0)
    HALF_LIVES = (None, 10.0, 4.0, 2.0, 1.0)

    config: ItemKNNConfig
    neighbours: Tensor  # [V, K] int32 rows
    similarity: Tensor  # [V, K], descending; 0 after the last neighbour

    def __init__(self, config: ItemKNNConfig, num_items: int) -> None:
        super().__init__()
        self.config, self.window = config, config.window
        kept = min(config.neighbours, num_items)
        self.register_buffer("neighbours", torch.zeros(num_items, kept, dtype=torch.int32))
        self.register_buffer("similarity", torch.zeros(num_items, kept))

    def fit_statistics(self, statistics: Statistics) -> Self:
        """Count the pairs and keep the neighbours; work grows with the squared lengths of the histories."""
        fit_neighbours([self], statistics)
        return self

    @classmethod
    def variants(cls, statistics: Statistics, positive: str | None = None) -> list[Self]:
        """A fitted model for each shrinkage and half-life, with one count of the pairs; validation chooses."""
        configs = [ItemKNNConfig(shrinkage=shrinkage, positive=positive) for shrinkage in cls.SHRINKAGES]
        bases = [cls(config, statistics.items) for config in configs]
        fit_neighbours(bases, statistics)
        return [base._sibling(half_life) for base in bases for half_life in cls.HALF_LIVES]

    def _sibling(self, half_life: float | None) -> Self:
        """A model with another half-life that shares the neighbours."""
        sibling = type(self)(self.config.change(half_life=half_life), 1)
        sibling.neighbours, sibling.similarity = self.neighbours, self.similarity
        return sibling

    @torch.no_grad()
    def catalogue_scores(self, batch: SequenceBatch) -> Tensor:
        """[S, V]; zeros, all tied, for an empty history. Targets see the first `num_visible` events of their row."""
        return neighbour_scores(batch, self.neighbours, self.similarity, self._place_weight)

    @property
    def similar_by(self) -> str:
        return "shrunk cosine of the users with both items"

    def item_similarities(self, rows: Tensor) -> Tensor:
        """[n] rows -> [n, V]; -inf beyond the K neighbours."""
        return neighbour_similarities(rows, self.neighbours, self.similarity)

    def _place_weight(self, place: Tensor) -> Tensor:
        """[E] places, 0 for the newest event -> [E] weights of each event's neighbours."""
        if self.config.half_life is None:
            return torch.ones(len(place))
        return torch.exp2(-place / self.config.half_life)


def fit_neighbours(models: Sequence[ItemKNN], statistics: Statistics) -> None:
    """Fit several item-kNN with different shrinkage and numbers of neighbours, from one count of the pairs."""
    (positive,) = {model.config.positive for model in models}
    items = statistics.items
    user, item = statistics.events(positive).met(items)
    norm = torch.from_numpy(np.sqrt(np.bincount(item, minlength=items))).float()
    for first, together in co_occurrences(user, item, statistics.users, items):
        rows = slice(first, first + len(together))
        together[torch.arange(len(together)), torch.arange(first, first + len(together))] = 0  # not its own neighbour
        product = norm[rows, None] * norm
        for model in models:
            similarity = together / (product + model.config.shrinkage).clamp_min_(1e-9)
            kept = torch.topk(similarity, model.similarity.shape[1], dim=1)
            model.similarity[rows], model.neighbours[rows] = kept.values, kept.indices.to(torch.int32)


def co_occurrences(user: Ints, item: Ints, users: int, items: int) -> Iterator[tuple[int, Tensor]]:
    """From distinct (user, item) pairs, by user: blocks [b, V] of numbers of common users, and their first row."""
    offsets = arrays.offsets_of(np.bincount(user, minlength=users))
    by_item = np.argsort(item, kind="stable")
    starts = arrays.offsets_of(np.bincount(item, minlength=items))
    work = arrays.offsets_of(np.diff(offsets)[user[by_item]])[starts]  # pairs before an item
    first = 0
    while first < items:
        most = min(first + max(1, PAIRS_AT_ONCE // items), items)
        last = max(first + 1, min(most, int(np.searchsorted(work, work[first] + PAIRS_AT_ONCE))))
        met = by_item[starts[first] : starts[last]]
        lengths = np.diff(offsets)[user[met]]
        others = arrays.spans(offsets[user[met]], lengths)
        cell = np.repeat((item[met] - first) * items, lengths) + item[others]
        together = np.bincount(cell, minlength=(last - first) * items).astype(np.float32)
        yield first, torch.from_numpy(together).view(last - first, items)
        first = last
