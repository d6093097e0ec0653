"""Rows of training and evaluation: which part of a history is read, and which of its events are predicted.

    last_window                  next item: inputs up to the event before the newest target, which is no input
    hidden_among                 masked events (cloze): the newest target is an event of the row like any other
    overlapping_windows          feedback: targets are inputs too, with context and item read before their feedback
    one_row_per_target           feedback, a row for each target
    limited_windows              targets with limited visibility: inputs are the events that any target of a row sees
    one_row_per_limited_target   targets with limited visibility, a row for each target

Letters: R rows, U users, S targets, N the window (inputs of a row at most). Places count the events of a user's history
from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facta import arrays
from facta.arrays import Ints
from facta.data.batches.windows import window_start
from facta.data.split.visibility import OWN, Around, Log, Visibility

USER_STRIDE = 1 << 32  # more than the events of any history


@dataclass(frozen=True)
class Rows:
    """R rows: inputs [start, end) of a user's history, and targets [first, last), each with the visibility `sees`."""

    user: Ints  # [R]
    start: Ints
    end: Ints
    first: Ints
    last: Ints
    sees: Visibility = OWN

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, rows: slice | Ints) -> Rows:
        return Rows(self.user[rows], self.start[rows], self.end[rows], self.first[rows], self.last[rows], self.sees)

    @property
    def lengths(self) -> Ints:
        """[R] inputs of each."""
        return self.end - self.start

    @property
    def targets(self) -> tuple[Ints, Ints]:
        """([S] users, [S] places) of all targets, row by row."""
        count = self.last - self.first
        return np.repeat(self.user, count), arrays.spans(self.first, count)


def last_window(last: Ints, window: int) -> Rows:
    """Of users with two events before place `last` [U]: the last N events but the newest. A target follows each."""
    user = np.flatnonzero(last >= 2)
    end = last[user] - 1
    start = window_start(end, window)
    return Rows(user, start, end, start + 1, end + 1)


def hidden_among(last: Ints, window: int) -> Rows:
    """Of every user with two events before place `last` [U]: the newest N + 1. All are targets that see the whole row
    until the masked ones are drawn. At least one is masked, so at most N are inputs, and a request after N events asks
    for a position that training has had.
    """
    rows = last_window(last, window)
    return Rows(rows.user, rows.start, rows.last, rows.start, rows.last, Around(last))


def overlapping_windows(user: Ints, first: Ints, last: Ints, window: int) -> Rows:
    """Targets [first, last) of the given users, each once, and each with all events before it or at least N/2 of them.

    Rows overlap: the first half of a long row is context without targets. That at most doubles the events.
    """
    fresh = window - window // 2  # targets of a row; at most as many inputs without a target precede them
    span = last - first
    count = np.maximum(-(-(span - (window - np.minimum(first, window - fresh))) // fresh) + 1, 1) * (span > 0)
    row = np.repeat(np.arange(len(user)), count)
    place = arrays.places(arrays.offsets_of(count))
    head = (window - np.minimum(first, window - fresh))[row]  # targets of a user's first row
    begins = first[row] + np.where(place == 0, 0, head + (place - 1) * fresh)
    ends = np.minimum(first[row] + head + place * fresh, last[row])
    return Rows(user[row], window_start(ends, window), ends, begins, ends)


def one_row_per_target(user: Ints, first: Ints, last: Ints, window: int) -> Rows:
    """One row per target: the events of an impression-level example, N with the target itself."""
    count = np.maximum(last - first, 0)
    place = arrays.spans(first, count)
    return Rows(np.repeat(user, count), window_start(place + 1, window), place + 1, place, place + 1)


def one_row_per_limited_target(log: Log, user: Ints, place: Ints, window: int, sees: Visibility) -> Rows:
    """One row for each target [S]: the newest events that it sees, N with the target itself."""
    end = sees.events(log, user, place)
    return Rows(user, window_start(end, window - 1), end, place, place + 1, sees)


def limited_windows(log: Log, user: Ints, place: Ints, window: int, sees: Visibility) -> Rows:
    """Targets [S] at successive places of each user, each once, and each with all events that it sees or at least the
    newest N/2 of them. They are overlapping windows over the numbers of visible events, which ascend with the places.
    """
    seen = sees.events(log, user, place)
    newest = np.flatnonzero(np.append(user[1:] != user[:-1], True)[: len(user)])  # each user's last target
    oldest = np.append(0, newest + 1)[: len(newest)]
    group = np.arange(len(newest))
    over = overlapping_windows(group, seen[oldest], seen[newest] + 1, window)
    keys = np.repeat(group, newest - oldest + 1) * USER_STRIDE + seen  # ascending
    first, last = (np.searchsorted(keys, over.user * USER_STRIDE + bound) for bound in (over.first, over.last))
    some = first < last
    first, last = first[some], last[some] - 1
    return Rows(user[first], over.start[some], seen[last], place[first], place[last] + 1, sees)
