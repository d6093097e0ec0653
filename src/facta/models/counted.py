"""The common part of counted (not trained) models.

Letters: V items, S targets of a batch, K neighbours kept of each item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from facta import jagged
from facta.models.model import Judge, Model, ModelConfig, Task
from facta.types import SequenceBatch

C = TypeVar("C", bound="CountedConfig")
SIMD_MULTIPLE = 1024  # numbers; a multiple of every SIMD width


class CountedConfig(ModelConfig):
    """The base of the configs of counted models."""

    trained: ClassVar[bool] = False
    positive: str | None = Field(
        default=None, description="feedback field whose successes alone are counted; null: all events"
    )

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ("next_item",)


def tuned_in_turn(
    count: Callable[[Sequence[C]], Sequence[Model]],
    start: C,
    search: Mapping[str, Sequence[float]],
    judge: Judge,
) -> Model:
    """Coordinate search over the settings of `search`, one after the other, with the others as chosen so far.

    `count` gives a fitted model for each config. The number of trials is the sum of the numbers of values, not their
    product as in a grid.
    """
    best, kept = start, None
    for setting, tried in search.items():
        configs = [best.change(**{setting: value}) for value in tried]
        candidates = count(configs)
        kept = judge(candidates)
        best = configs[next(place for place, candidate in enumerate(candidates) if candidate is kept)]
    if kept is None:
        raise AssertionError("nothing to search")
    return kept


def positive_only(scores: Tensor) -> Tensor:
    """Scores of pairs, with -inf for scores that are not positive."""
    return scores.masked_fill(scores <= 0, -torch.inf)


def neighbour_similarities(rows: Tensor, neighbours: Tensor, weight: Tensor) -> Tensor:
    """[n] rows -> [n, V]: the weight of each kept neighbour, -inf for all other items."""
    dense = torch.zeros(len(rows), len(neighbours))
    return positive_only(dense.scatter_add_(1, neighbours[rows].long(), weight[rows]))  # row 0 stands after the last


def neighbour_scores(
    batch: SequenceBatch, neighbours: Tensor, weight: Tensor, place_weight: Callable[[Tensor], Tensor]
) -> Tensor:
    """[S, V]: score(j) = Σ over the visible events i of a target of place_weight(place of i) · weight(i → j).

    `neighbours` [V, K] rows and `weight` [V, K] are of each item; `place_weight` gets places, 0 for the newest visible
    event. Sums run in float64, from the oldest event to the newest, so a score never depends on the rest of the batch.
    """
    items, targets = len(neighbours), batch.targets
    row = jagged.rows(targets.offsets)
    read = jagged.spans(batch.offsets[row], targets.num_visible)
    request = torch.repeat_interleave(torch.arange(len(row)), targets.num_visible)
    place = jagged.offsets_of(targets.num_visible)[1:][request] - 1 - torch.arange(len(request))
    seen = batch.events.item[read]
    cell = request[:, None] * items + neighbours[seen]
    value = _of_places(place, place_weight)[:, None] * weight[seen]
    scores = np.bincount(cell.flatten().numpy(), value.flatten().numpy(), minlength=len(row) * items)
    return torch.from_numpy(scores.astype(np.float32)).view(len(row), items)


def _of_places(place: Tensor, place_weight: Callable[[Tensor], Tensor]) -> Tensor:
    """[E] the weight of each place.

    Looked up in a table of fixed length: torch computes powers by SIMD vectors and the remainder one by one, and these
    may differ in the last bit, so that a weight would depend on its place in the batch.
    """
    length = -(-(int(place.max()) + 1) // SIMD_MULTIPLE) * SIMD_MULTIPLE if len(place) else 0
    return place_weight(torch.arange(length))[place]
