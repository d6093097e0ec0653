"""What tokens are made of, row by row, so that a memory of them can be checked against what a request shows.

Nobody has to know what happened to a history since: an event that was amended, inserted or removed, feedback that
became known, another fact of the person, a window that moved on all show as a difference. The tokens before it stay.

Letters: B rows, E events of all rows, n events of a row, C columns, A series entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from facta.arrays import Ints
from facta.types import SequenceBatch


@dataclass(frozen=True)
class RowContent:
    """Of one row."""

    head: bytes  # constant facts and lists
    columns: Ints  # [C, n] item, times, and what the events show
    entries: Ints  # [4, A] time, field and value of each change, and how many events come before it

    @property
    def nbytes(self) -> int:
        """Memory, without what every object takes."""
        return len(self.head) + self.columns.nbytes + self.entries.nbytes

    def until(self, events: int) -> RowContent:
        """A copy of what the tokens before event number `events` (from 0) are made of."""
        kept = self.entries[3] <= events
        return RowContent(self.head, self.columns[:, :events].copy(), self.entries[:, kept])

    def common(self, other: RowContent) -> int:
        """How many first events are the same in both, with all changes before the next one; 0 where heads differ."""
        if self.head != other.head:
            return 0
        count = min(self.columns.shape[1], other.columns.shape[1])
        count = _first_difference(self.columns[:, :count], other.columns[:, :count])
        entries = min(self.entries.shape[1], other.entries.shape[1])
        entries = _first_difference(self.entries[:, :entries], other.entries[:, :entries])
        changes = [int(one.entries[3, entries]) for one in (self, other) if entries < one.entries.shape[1]]
        return max(min([count, *(change - 1 for change in changes)]), 0)


def _first_difference(one: Ints, other: Ints) -> int:
    """[C, n], [C, n] -> the first place where they differ, or n."""
    if not one.size:
        return int(one.shape[1])
    differs = (one != other).any(axis=0)
    return int(differs.argmax()) if differs.any() else len(differs)


def contents(batch: SequenceBatch) -> list[RowContent]:
    """[B] views of a batch of requests on the CPU."""
    events, rows = batch.events, len(batch.offsets) - 1
    columns = _stacked([events.item, events.time, batch.next_time, *events.fields.values()])
    ends = batch.offsets.tolist()
    heads, entries = _heads(batch, rows), _entries(batch, rows)
    return [RowContent(heads[row], columns[:, ends[row] : ends[row + 1]], entries[row]) for row in range(rows)]


def _stacked(columns: Iterable[Tensor | None]) -> Ints:
    return np.stack([one.numpy() for one in columns if one is not None])


def _heads(batch: SequenceBatch, rows: int) -> list[bytes]:
    heads = [b""] * rows
    if batch.user:
        facts = _stacked(batch.user.values())
        heads = [facts[:, row].tobytes() for row in range(rows)]
    if batch.lists is None:
        return heads
    ends, listed = batch.lists.offsets.tolist(), _stacked([batch.lists.which, batch.lists.item])
    return [head + listed[:, ends[row] : ends[row + 1]].tobytes() for row, head in enumerate(heads)]


def _entries(batch: SequenceBatch, rows: int) -> list[Ints]:
    if batch.series is None:
        return [np.zeros((4, 0), dtype=np.int64)] * rows
    series = batch.series
    assert series.time is not None  # changes are of logs with times
    ends, found = series.offsets.tolist(), _stacked([series.time, series.field, series.value, series.after])
    return [found[:, ends[row] : ends[row + 1]] for row in range(rows)]
