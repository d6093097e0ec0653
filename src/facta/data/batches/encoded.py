"""A history in the rows and codes of an artifact: stored for each person, extended by each event, read by requests.

Values of a request and the arrays of a dataset both become `EncodedEvents`, and these an `EncodedHistory`. Only here
are unknown items left out and counted, and only here does an event get the time of its successor.

Letters: n events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

import numpy as np

from facta.arrays import Ints
from facta.data.batches.growing import Growing
from facta.data.dataset.schema import Field
from facta.data.dataset.series import Series
from facta.data.split.late import ALWAYS, NEVER, shown, waiting_on
from facta.errors import DataError


@dataclass(frozen=True)
class EncodedEvents:
    """n events in the order of time."""

    rows: Ints  # [n] catalogue rows; -1: not in the catalogue
    times: Ints | None = None  # [n] milliseconds
    fields: Mapping[str, Ints] = field(default_factory=dict)  # [n] codes of the fields that the model reads
    known_at: Mapping[str, Ints] = field(default_factory=dict)  # [n] ms, for late values; ALWAYS: with the event


class EncodedHistory:
    """The events of a history whose items the catalogue has, and the facts of the person.

    Its columns are views: take them anew after `append`, `amend` and `cut`.
    """

    def __init__(
        self,
        events: EncodedEvents,
        read: Sequence[Field] = (),
        *,
        user: Mapping[str, int] | None = None,
        lists: Mapping[str, Ints] | None = None,
        series: Series | None = None,
    ) -> None:
        """`read`: the fields that `events` have codes of, in the order of the artifact's data."""
        self.user = user or {}  # codes of constant facts
        self.lists = lists or {}  # rows of earlier histories; -1: not in the catalogue
        self.series = series  # of this person; None: not read
        self._read = tuple(one for one in read if one.name in events.fields)
        self._events, self._newest, self._timed = 0, ALWAYS, False  # events and newest time, unknown items included
        self._rows, self._places, self._times, self._next_time = (Growing(_none()) for _ in range(4))
        self._fields = {name: Growing(_none()) for name in events.fields}
        self._known_at: dict[str, Growing] = {}
        self.append(events)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def rows(self) -> Ints:
        """[n] catalogue rows."""
        return self._rows.values

    @property
    def places(self) -> Ints:
        """[n] places in the whole history, which counts events of unknown items too."""
        return self._places.values

    @property
    def unknown(self) -> int:
        """Events left out because their item is not in the catalogue."""
        return self._events - len(self)

    @property
    def times(self) -> Ints | None:
        """[n] milliseconds; None where the history has only an order. A history without events counts as one with
        times.
        """
        return self._times.values if self._timed or not len(self) else None

    @property
    def next_time(self) -> Ints | None:
        """[n] ms of the next event, unknown items included; NEVER: there is none. None where `times` is None."""
        return self._next_time.values if self._timed or not len(self) else None

    @property
    def fields(self) -> dict[str, Ints]:
        """Field -> [n] codes of the fields that the model reads."""
        return {name: column.values for name, column in self._fields.items()}

    @property
    def known_at(self) -> dict[str, Ints]:
        """Field -> [n] ms when its values became known; only fields with values known after their events."""
        return {name: column.values for name, column in self._known_at.items()}

    @property
    def late(self) -> tuple[Field, ...]:
        """Fields with values that became known after their events."""
        return tuple(one for one in self._read if self._known_at.keys() & {*waiting_on(one)}) if self._known_at else ()

    def codes(self, at: int | None) -> Mapping[str, Ints]:
        """Field -> [n] codes as they are known at a moment; None: all given values are known."""
        if not self.late:
            return self.fields
        return shown(
            self.fields, self.late, self.known_at, np.minimum(self._next_time.values, NEVER if at is None else at)
        )

    def append(self, events: EncodedEvents) -> None:
        """Add later events, in O(new) on average. Raises DataError for events before the newest one, and where either
        the history or the events have no times.
        """
        if not len(events.rows):
            return
        self._check(events)
        kept = np.flatnonzero(events.rows >= 0)
        times = np.zeros_like(events.rows) if events.times is None else events.times
        if events.times is not None and len(self) and self._next_time.values[-1] == NEVER:
            self._next_time.values[-1] = times[0]
        self._extend_known_at(events, kept)
        successor = np.append(times[1:], NEVER) if events.times is not None else np.full(len(times), NEVER)
        self._rows.extend(events.rows[kept])
        self._places.extend(self._events + kept)
        self._times.extend(times[kept])
        self._next_time.extend(successor[kept])
        for name, column in self._fields.items():
            column.extend(events.fields[name][kept])
        self._events, self._newest = self._events + len(times), int(times[-1])

    def amend(self, place: int, fields: Mapping[str, int], known_at: Mapping[str, int] | None = None) -> None:
        """Replace codes of the event `place` (an index of `rows`). `known_at`: ms when they became known, where that
        was after the event; fields without one keep theirs.
        """
        for name, code in fields.items():
            self._fields[name].values[place] = code
        for name, time in (known_at or {}).items():
            if name not in self._known_at:
                self._known_at[name] = Growing(np.full(len(self), ALWAYS))
            self._known_at[name].values[place] = ALWAYS if time <= self._times.values[place] else time

    def cut(self, count: int) -> None:
        """Keep the first `count` events, as if no later ones had happened. Facts of the person stay."""
        assert 0 <= count <= len(self)
        for column in self._columns():
            column.cut(count)
        self._known_at = {name: one for name, one in self._known_at.items() if (one.values != ALWAYS).any()}
        self._events = int(self.places[-1]) + 1 if count else 0
        self._newest = int(self._times.values[-1]) if count else ALWAYS
        if count:
            self._next_time.values[-1] = NEVER

    def without(self, place: int) -> EncodedHistory:
        """A copy in which the event `place` (an index of `rows`) did not happen: the event before it was followed by
        the one behind it. It is asked, and does not grow."""
        found = copy(self)
        found._rows, found._times, found._next_time = (
            Growing(np.delete(one.values, place)) for one in (self._rows, self._times, self._next_time)
        )
        found._places = Growing(np.delete(self.places - (np.arange(len(self)) > place), place))
        found._fields = {name: Growing(np.delete(one.values, place)) for name, one in self._fields.items()}
        known_at = {name: np.delete(one.values, place) for name, one in self._known_at.items()}
        found._known_at = {name: Growing(one) for name, one in known_at.items() if (one != ALWAYS).any()}
        if place and self.places[place - 1] + 1 == self.places[place]:
            found._next_time.values[place - 1] = self._next_time.values[place]
        found._events -= 1
        return found

    @property
    def nbytes(self) -> int:
        """Memory of its columns and lists."""
        entries = 0 if self.series is None else 3 * self.series.time.nbytes
        return sum(one.nbytes for one in self._columns()) + sum(one.nbytes for one in self.lists.values()) + entries

    def copy(self) -> EncodedHistory:
        """A copy that does not change when this history grows."""
        found = copy(self)
        found._rows, found._places, found._times, found._next_time = (
            one.copy() for one in (self._rows, self._places, self._times, self._next_time)
        )
        found._fields = {name: one.copy() for name, one in self._fields.items()}
        found._known_at = {name: one.copy() for name, one in self._known_at.items()}
        return found

    def _columns(self) -> Iterator[Growing]:
        yield from (self._rows, self._places, self._times, self._next_time)
        yield from (*self._fields.values(), *self._known_at.values())

    def _check(self, events: EncodedEvents) -> None:
        timed = events.times is not None
        if not len(self):
            self._timed = timed
        if timed != self._timed:
            raise DataError(
                "Found events with times and events without times in one history; give all of them or none."
            )
        if events.times is not None and events.times[0] < self._newest:
            raise DataError(
                f"Found an event at {events.times[0]} to be added to a history whose newest event is at {self._newest} "
                "(both in milliseconds since 1970); encode the whole history again."
            )

    def _extend_known_at(self, events: EncodedEvents, kept: Ints) -> None:
        """Where one side lacks a field, its values there are known with their events."""
        new = {name: column[kept] for name, column in events.known_at.items()}
        for name, column in new.items():
            if name not in self._known_at and (column != ALWAYS).any():
                self._known_at[name] = Growing(np.full(len(self), ALWAYS))
        for name, grown in self._known_at.items():
            grown.extend(new[name] if name in new else np.full(len(kept), ALWAYS))


def _none() -> Ints:
    return np.zeros(0, dtype=np.int64)
