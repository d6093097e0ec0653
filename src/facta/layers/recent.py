"""The sources of a target: the newest events before it, and earlier lists of its user.

Letters: B rows, E input events, L entries of earlier lists, S targets, N the window, P pairs of a source and a target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from facta import jagged
from facta.errors import DataError
from facta.ops.buckets import LAST_BUCKET, bucket
from facta.types import SequenceBatch

UNTIMED_AGE = LAST_BUCKET + 1  # age bucket of sources without a time
AGES = LAST_BUCKET + 2


@dataclass(frozen=True)
class Recent:
    """P pairs, target by target: entries of earlier lists, then events, oldest first. Targets are no sources."""

    source: Tensor  # [P] 0 … E-1: an input event; E …: an entry of an earlier list
    target: Tensor  # [P]
    offsets: Tensor  # [S+1]

    def pieces(self, most: int) -> Iterator[Recent]:
        """The pairs in pieces of whole targets, about `most` pairs in each."""
        marks = torch.arange(0, len(self.source), most, device=self.offsets.device)[1:]
        cuts = torch.unique(torch.searchsorted(self.offsets[1:], marks, right=True)).tolist()  # targets of the piece
        for first, last in pairwise([0, *(cut for cut in cuts if cut), len(self.offsets) - 1]):
            low, high = int(self.offsets[first]), int(self.offsets[last])
            offsets = self.offsets[first : last + 1] - low
            yield Recent(self.source[low:high], self.target[low:high] - first, offsets)

    def only(self, kept: Tensor) -> Recent:
        """The pairs of a mask [P]."""
        target = self.target[kept]
        counts = torch.bincount(target, minlength=len(self.offsets) - 1)
        return Recent(self.source[kept], target, jagged.offsets_of(counts))

    def sums(self, values: Tensor) -> Tensor:
        """[P, …] -> [S, …]: the sum over each target's pairs."""
        found = values.new_zeros((len(self.offsets) - 1, *values.shape[1:]))
        return found.index_add(0, self.target, values)


def in_force(batch: SequenceBatch, names: Sequence[str]) -> dict[str, Tensor]:
    """Name -> [S] the code of each changing fact in force at its target; 0 before the first value.

    Changes at or after the target's own time, or `until`, are not known. Raises DataError if targets have no times.
    """
    series, targets = batch.series, batch.targets
    row = jagged.rows(targets.offsets)
    if series is None or not len(series.value):
        return {name: torch.zeros_like(row) for name in names}
    if series.time is None or targets.events.time is None:
        raise DataError("The model reads changing facts of users (series) and needs times; these targets have none.")
    until = targets.events.time if targets.until is None else targets.until
    rank = torch.unique(torch.cat([series.time, until]), return_inverse=True)[1]  # times are too large
    size, changed, asked = len(rank), rank[: len(series.value)], rank[len(series.value) :]
    cell = jagged.rows(series.offsets) * len(names) + series.field
    keys, order = torch.sort(cell * size + changed, stable=True)
    found = {}
    for place, name in enumerate(names):
        own = row * len(names) + place
        at = torch.searchsorted(keys, own * size + asked) - 1
        entry = order[at.clamp_min(0)]
        found[name] = torch.where((at >= 0) & (cell[entry] == own), series.value[entry], 0)
    return found


def recent(batch: SequenceBatch, window: int, lists: int = 0) -> Recent:
    """The last N events that each target may see; before them the last N entries of each of `lists` earlier lists."""
    targets = batch.targets
    row = jagged.rows(targets.offsets)
    ends, counts = (batch.offsets[row] + targets.num_visible)[:, None], targets.num_visible[:, None]
    if batch.lists is not None and lists:
        cell = jagged.rows(batch.lists.offsets) * lists + batch.lists.which  # ascending
        of_cells = torch.bincount(cell, minlength=lists * (len(batch.offsets) - 1))
        last = len(batch.events.item) + jagged.offsets_of(of_cells)[1:]
        ends = torch.cat([last.view(-1, lists)[row], ends], dim=1)
        counts = torch.cat([of_cells.view(-1, lists)[row], counts], dim=1)
    counts = counts.clamp_max(window)
    offsets = jagged.offsets_of(counts.sum(dim=1))
    return Recent(jagged.spans((ends - counts).flatten(), counts.flatten()), jagged.rows(offsets), offsets)


def ages(batch: SequenceBatch, pairs: Recent, first: int = 0) -> Tensor:
    """[P] age of each source at its target. `first`: the batch's target at which the pairs begin."""
    return age_of(batch, pairs.source, pairs.target + first)


def age_of(batch: SequenceBatch, source: Tensor, target: Tensor) -> Tensor:
    """Age of each source at its target, in buckets a factor 1.35 wide (`ops/buckets.py`).

    `source` and `target` are int64 indices as in `Recent`, whose shapes broadcast to that of the ages.
    """
    time, asked = batch.events.time, batch.targets.events.time
    if time is None or asked is None or not len(time):
        return torch.full_like(source + target, UNTIMED_AGE)
    event = source < len(time)
    since = asked[target] - time[torch.where(event, source, 0)]
    return torch.where(event, bucket(since.clamp_min(0)).long(), UNTIMED_AGE)
