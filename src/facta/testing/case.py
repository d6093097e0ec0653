"""A model under test, the facts that it reads, and random people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from facta.layouts.layout import Layout, named
from facta.models.model import Model, ModelConfig
from facta.testing.batches import Row, batch, catalogue, hidden_places, hiding, random_row
from facta.types import SequenceBatch

EVENTS = 7
SAME, OTHER = 1e-12, 1e-9  # largest change that counts as none, and least that counts as one, of numbers about 1
CACHE_TOLERANCE = 1e-11  # largest difference with a cache, whose keys and values are added up in another order


@dataclass(frozen=True)
class Case:
    """A model, and which facts it reads."""

    config: ModelConfig
    users: bool = True  # reads constant facts of people
    history: bool = True  # reads events before the target
    series: bool = True  # reads changing facts of people
    aside: bool = True  # predicts events that are not inputs
    looks_back: bool = False  # reads the time of the target
    gaps: bool = False  # each event shows the time since the previous one
    exact: bool = True  # runs in float64, as models without counts do
    sees_all: bool = True  # every fact that it may read changes its predictions

    @property
    def layout(self) -> Layout | None:
        name = getattr(self.config, "layout", None)
        return None if name is None else named(name)

    @property
    def hides(self) -> bool:
        """Whether it predicts masked events from both sides."""
        return self.layout is not None and self.layout.both_ways

    def given(self, people: Sequence[Row]) -> SequenceBatch:
        """Rows with targets at `places`, as in training."""
        return hiding(people, None, **self.parts) if self.hides else batch(people, **self.parts)

    def places(self, row: Row) -> Sequence[int]:
        """Places of the predicted events of a row."""
        return hidden_places(len(row)) if self.hides else range(len(row))

    @property
    def parts(self) -> dict[str, bool]:
        return {"users": self.users, "series": self.series}

    @property
    def gives_context(self) -> bool:
        """Whether the next item is predicted given the context of its event."""
        next_item = getattr(self.config, "next_item", None)
        return next_item is not None and "context" in next_item.late

    def build(self) -> Model:
        """The model in float64, with weights far from the initial ones, whose attention is too small to show a leak."""
        return far_from_start(self.config.build(catalogue(users=self.users, series=self.series, described=True), 3))


def far_from_start(model: Model) -> Model:
    """Larger weights, and counts of feedback."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0).add_(0.1 * torch.randn(parameter.shape, generator=random))
        for buffer in (value for of, value in model.named_buffers() if of.endswith(("rates.total", "rates.overall"))):
            events = torch.randint(5, 30, buffer.shape[:-1], generator=random)
            buffer.copy_(torch.stack([events - 3, events], dim=-1))
    return model.double()


def predicted(model: Model, given: SequenceBatch) -> dict[str, Tensor]:
    """Fact -> [S, …] predictions: scores of all feedback fields; for the next item the query, or all scores if there is
    no
        query."""
    found = {}
    with torch.no_grad():
        if "feedback" in model.tasks:
            found["feedback"] = torch.stack(list(model.scores(given).values()), dim=1)
        if "next_item" in model.tasks:
            scores = None if model.factored else model.catalogue_scores(given)
            found["item"] = scores if isinstance(scores, Tensor) else model.queries(given)
    return found


def rows(seed: int, count: int = 1, length: int | None = EVENTS) -> list[Row]:
    """Random people."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, EVENTS + 1, count) if length is None else [length] * count
    return [random_row(rng, int(n), name) for name, n in enumerate(lengths, 2)]
