"""Rows of training and evaluation: which part of a history is read, and which of its events are predicted.

    next item     inputs up to the event before the newest target, which is predicted aside
    feedback      the newest target is an input too: its context and item are read before its feedback is predicted
    frozen        inputs up to one moment for everybody; what came later is predicted, each event aside in its own row

Letters: R rows, U users, N the window (inputs of a row at most). Places count the events of a user's history from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facta import arrays
from facta.arrays import Ints
from facta.data.windows import window_start


@dataclass(frozen=True)
class Rows:
    """R rows: inputs [start, end) of a user's history; targets [first, last)."""

    user: Ints  # [R]
    start: Ints
    end: Ints
    first: Ints
    last: Ints
    until: Ints | None = None  # [R] ms: what became known of the inputs later is not read; None: at the next event

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, rows: slice | Ints) -> Rows:
        until = None if self.until is None else self.until[rows]
        return Rows(self.user[rows], self.start[rows], self.end[rows], self.first[rows], self.last[rows], until)

    @property
    def lengths(self) -> Ints:
        """[R] inputs of each."""
        return self.end - self.start


def newest(last: Ints, window: int) -> Rows:
    """Of every user with two events before place `last` [U]: the newest N that have a successor, all of them targets'
    predecessors."""
    user = np.flatnonzero(last >= 2)
    end = last[user] - 1
    start = window_start(end, window)
    return Rows(user, start, end, start + 1, end + 1)


def tiles(user: Ints, first: Ints, last: Ints, window: int) -> Rows:
    """Targets [first, last) of the given users, all of them once, each with all events before it or at least N/2.

    Rows overlap: half of a long one is there to be read alone. That costs twice the events, at most.
    """
    fresh = window - window // 2  # targets of a row; before them stand at most as many that are only read
    span = last - first
    count = np.maximum(-(-(span - (window - np.minimum(first, window - fresh))) // fresh) + 1, 1) * (span > 0)
    row = np.repeat(np.arange(len(user)), count)
    place = arrays.places(arrays.offsets_of(count))
    head = (window - np.minimum(first, window - fresh))[row]  # targets of a user's first row
    begins = first[row] + np.where(place == 0, 0, head + (place - 1) * fresh)
    ends = np.minimum(first[row] + head + place * fresh, last[row])
    return Rows(user[row], window_start(ends, window), ends, begins, ends)


def singles(user: Ints, first: Ints, last: Ints, window: int) -> Rows:
    """One row per target: the events of an impression-level example, N with the target itself."""
    count = np.maximum(last - first, 0)
    place = arrays.spans(first, count)
    return Rows(np.repeat(user, count), window_start(place + 1, window), place + 1, place, place + 1)


def frozen(user: Ints, first: Ints, last: Ints, window: int, until: Ints | None = None) -> Rows:
    """One row per target, of which all see the events before the first of them: N with the target itself.

    `until` [U'] ms: the moment of each user's state.
    """
    count = np.maximum(last - first, 0)
    place, cut = arrays.spans(first, count), np.repeat(first, count)
    moments = None if until is None else np.repeat(until, count)
    return Rows(np.repeat(user, count), window_start(cut, window - 1), cut, place, place + 1, moments)
