"""The held-out events of a stage, for models of feedback.

Letters: U users, H users with held-out events, S held-out events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from facta import arrays
from facta.arrays import Ints
from facta.data.batches.rows import Rows, one_row_per_limited_target, overlapping_windows
from facta.data.dataset.dataset import Dataset
from facta.data.split.known import known_before
from facta.data.split.late import period_moments
from facta.data.split.splits import Split, State
from facta.data.split.visibility import Frozen, Log


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out events in the history of each user [H]: from place `first` to the one before place `last`."""

    user: Ints  # [H]
    first: Ints  # [H]
    last: Ints  # [H]
    state: State  # visible events: all before the predicted one, or only those before `first`
    moments: Ints | None = None  # [U] ms: time of a frozen state; None: it makes no difference

    def __len__(self) -> int:
        """S."""
        return int((self.last - self.first).sum())

    @property
    def places(self) -> tuple[Ints, Ints]:
        """([S] users, [S] places in their histories) of the events."""
        return np.repeat(self.user, self.last - self.first), arrays.spans(self.first, self.last - self.first)

    def rows(self, log: Log, window: int) -> Rows:
        """Rows with every event as a target once: many a row if each sees all events before it, a row for each with a
        frozen state.
        """
        if self.state == "rolling":
            return overlapping_windows(self.user, self.first, self.last, window)
        ends = np.zeros(len(log.offsets) - 1, dtype=np.int64)
        ends[self.user] = self.first
        return one_row_per_limited_target(log, *self.places, window, Frozen(ends, self.moments))

    def of_items(self, dataset: Dataset, items: int) -> HeldOut:
        """The events of the first `items` items, by their places among the events of these items."""
        before, start = known_before(dataset, items), dataset.offsets[self.user]
        first, last = (before[start + place] - before[start] for place in (self.first, self.last))
        return replace(self, first=first, last=last)


def events_of_validation(dataset: Dataset, split: Split, state: State = "rolling") -> HeldOut:
    """The validation events; a frozen state is at the end of training."""
    user = np.flatnonzero(split.validation_end > split.train_end)
    moments = _frozen_at(dataset, split.train_end, split.train_cut, state)
    return HeldOut(user, split.train_end[user], split.validation_end[user], state, moments)


def events_of_test(dataset: Dataset, split: Split, state: State = "rolling") -> HeldOut:
    """The test events, for final measurements; a frozen state is at the end of validation."""
    length = np.diff(dataset.offsets)
    user = np.flatnonzero(length > split.validation_end)
    moments = _frozen_at(dataset, split.validation_end, split.validation_cut, state)
    return HeldOut(user, split.validation_end[user], length[user], state, moments)


def _frozen_at(dataset: Dataset, ends: Ints, cut: int | None, state: State) -> Ints | None:
    return None if state == "rolling" else period_moments(dataset, list(dataset.fields), ends, cut)
