"""Visibility: how many events of its user's history a target sees, counted from the oldest.

    own       all events before the target, in the order of the log
    blind     events of an earlier time; those of the target's own time are hidden
    delayed   events that are older than the target by at least a given time
    frozen    events before a cut
    around    all events of a row, before and after the target; the target is no input

The newest events are hidden first, so one number tells the visible events. The layouts turn it into tokens.

Letters: U users, E events, S targets. Places count the events of a user's history from 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from facta.arrays import Ints
from facta.errors import ProtocolError


class Log(Protocol):
    """Concatenated histories, each in the order of time, such as a `Dataset`."""

    @property
    def offsets(self) -> Ints: ...  # [U+1]

    @property
    def timestamp(self) -> Ints | None: ...  # [E] ms; None: the log has only an order


class Visibility(ABC):
    """The visible events of targets."""

    own_times: ClassVar[bool] = False
    """True: a state's query time is its own event's time, since the next event's may be hidden; then late feedback is
    hidden, too.
    """

    @abstractmethod
    def events(self, log: Log, user: Ints, place: Ints) -> Ints:
        """Users [S] and places [S] of the targets -> [S] how many events each of them sees: at most `place`, except for
        `Around`.
        """

    def moment(self, user: Ints) -> Ints | None:
        """Users [n] -> [n] ms: feedback of visible events that became known later is hidden. None: an event shows the
        feedback known at the next event.
        """
        return None

    def changes_before(self, time: Ints) -> Ints | None:
        """Times [S] of the targets -> [S] ms: changes of a user's facts from then on are hidden. None: those from the
        target's own time on."""
        return None


@dataclass(frozen=True)
class Own(Visibility):
    """All events before the target, in the order of the log."""

    def events(self, log: Log, user: Ints, place: Ints) -> Ints:
        return place


@dataclass(frozen=True)
class Blind(Visibility):
    """The events of an earlier time than the target's."""

    def events(self, log: Log, user: Ints, place: Ints) -> Ints:
        if log.timestamp is None:
            raise ProtocolError("Blind ties need timestamps; this dataset has only an order. Use ties in order.")
        return _until(log.offsets[user], place, log.timestamp, _time(log.offsets[user], place, log.timestamp) - 1)


@dataclass(frozen=True)
class Delayed(Visibility):
    """The events, and changes of facts, that are at least `ms` milliseconds older than the target."""

    own_times: ClassVar[bool] = True
    ms: int

    def events(self, log: Log, user: Ints, place: Ints) -> Ints:
        if log.timestamp is None:
            raise ProtocolError("A delay needs timestamps; this dataset has only an order. Let targets see all before.")
        start = log.offsets[user]
        return _until(start, place, log.timestamp, _time(start, place, log.timestamp) - self.ms)

    def changes_before(self, time: Ints) -> Ints:
        """Without a delay a change at the target's instant comes after the target."""
        return np.minimum(time, time - self.ms + 1)


@dataclass(frozen=True, eq=False)
class Frozen(Visibility):
    """The first `ends` [U] events of every user, for all targets; `moments` [U] ms: the time of the cut."""

    ends: Ints
    moments: Ints | None = None

    def events(self, log: Log, user: Ints, place: Ints) -> Ints:
        return np.minimum(self.ends[user], place)

    def moment(self, user: Ints) -> Ints | None:
        return None if self.moments is None else self.moments[user]


@dataclass(frozen=True, eq=False)
class Around(Visibility):
    """The first `ends` [U] events of every user, those after the target included. `data/batches/cloze.py` leaves the
    target itself out of the inputs.
    """

    ends: Ints

    def events(self, log: Log, user: Ints, place: Ints) -> Ints:
        return self.ends[user]


OWN, BLIND = Own(), Blind()


def _time(start: Ints, place: Ints, timestamp: Ints) -> Ints:
    """[S] ms of the targets."""
    return np.asarray(timestamp[start + place], dtype=np.int64)


def _until(start: Ints, place: Ints, timestamp: Ints, bound: Ints) -> Ints:
    """[S] how many of the events before each target are no later than `bound` [S] ms. One binary search for all
    targets, so that few places of a log on disk are read.
    """
    low, high = np.zeros_like(place), place
    while (open_ := low < high).any():
        middle = (low + high) // 2
        visible = open_ & (timestamp[start + middle] <= bound)
        low, high = np.where(visible, middle + 1, low), np.where(open_ & ~visible, middle, high)
    return low
