"""Splits: which events may be trained on, and what is asked for validation and test.

Letters: U users, Q requests. A request sees the first `end` events of its user's history and asks for the relevant
items at its own `time`. Everything is index arithmetic over the dataset's offsets; no event is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from facta import arrays
from facta.arrays import Ints
from facta.data.histories import Dataset
from facta.errors import DataError, ProtocolError

Ties = Literal["in-order", "blind"]
State = Literal["frozen", "rolling"]


@dataclass(frozen=True)
class Requests:
    """Q questions to a recommender."""

    user: Ints  # [Q] user row
    end: Ints  # [Q] number of the user's events that are visible
    time: Ints | None  # [Q] milliseconds: when the request is made
    offsets: Ints  # [Q+1]
    item: Ints  # relevant item rows of each request

    def __len__(self) -> int:
        return len(self.user)

    def sample(self, most: int) -> Requests:
        """At most so many of them, evenly spread over their order."""
        if len(self) <= most:
            return self
        rows = np.arange(most) * len(self) // most
        count = np.diff(self.offsets)[rows]
        return Requests(
            user=self.user[rows],
            end=self.end[rows],
            time=None if self.time is None else self.time[rows],
            offsets=arrays.offsets_of(count),
            item=self.item[arrays.spans(self.offsets[rows], count)],
        )

    @property
    def none(self) -> Requests:
        """The same without a request."""
        empty = np.zeros(0, dtype=np.int64)
        return Requests(empty, empty, None if self.time is None else empty, np.zeros(1, dtype=np.int64), empty)


@dataclass(frozen=True)
class Split:
    """A user's first `train_end` events may be trained on; those up to `validation_end` validate, the rest test."""

    train_end: Ints  # [U]
    validation_end: Ints  # [U]
    validation: Requests
    test: Requests
    train_cut: int | None = None  # ms: the moment at which training ends for everybody; None: at the next event of each
    validation_cut: int | None = None  # the same of validation

    @property
    def refit(self) -> Split:
        """The split of a second training on everything before the test: nothing is left to validate on."""
        return replace(
            self, train_end=self.validation_end, train_cut=self.validation_cut, validation=self.validation.none
        )


def leave_one_out(dataset: Dataset, *, validation: bool = True, ties: Ties = "in-order") -> Split:
    """The last event of each user is the test target and, with `validation`, the one before it the validation target.

    A user with too few events for a target before which something is visible gets no such target; all its other
    events are trained on.
    """
    length = np.diff(dataset.offsets)
    tested = length >= 2
    validated = (length >= 3) & validation
    if not tested.any():
        raise ProtocolError("Leave-one-out needs users with at least two events; this dataset has none.")
    return Split(
        train_end=length - tested - validated,
        validation_end=length - tested,
        validation=_single(dataset, np.flatnonzero(validated), length[validated] - 2, ties),
        test=_single(dataset, np.flatnonzero(tested), length[tested] - 1, ties),
    )


def temporal(
    dataset: Dataset,
    *,
    test_from: int,
    validation_from: int | None = None,
    state: State = "frozen",
    ties: Ties = "in-order",
) -> Split:
    """Train on what happened before a moment, ask for what happened after it; times in milliseconds.

    Frozen: one request per user, made at the cut with the history before it, for all items of the period. Rolling: one
    request per event of the period, made at the event's own time with everything before it.
    """
    if dataset.timestamp is None:
        raise ProtocolError("A temporal split needs timestamps; this dataset has only an order. Use leave-one-out.")
    first = test_from if validation_from is None else validation_from
    if first > test_from:
        raise ProtocolError(f"validation_from ({first}) lies after test_from ({test_from}); it must come first.")
    if state == "frozen" and ties == "blind":
        raise ProtocolError("A frozen state is cut at one moment for everybody: no event ties with it. Use in-order.")

    def asked(start: int, stop: int) -> Requests:
        return _frozen(dataset, start, stop) if state == "frozen" else _rolling(dataset, start, stop, ties)

    return Split(
        train_end=events_before(dataset, first),
        validation_end=events_before(dataset, test_from),
        validation=asked(first, test_from),
        test=asked(test_from, np.iinfo(np.int64).max),
        train_cut=first,
        validation_cut=test_from,
    )


def cut_at_share(dataset: Dataset, share: float) -> int:
    """The time (ms) before which `share` of all events lie."""
    if dataset.timestamp is None:
        raise ProtocolError("A temporal split needs timestamps; this dataset has only an order. Use leave-one-out.")
    place = min(int(share * dataset.num_events), dataset.num_events - 1)
    return int(np.partition(dataset.timestamp, place)[place])


def events_before(dataset: Dataset, time: int) -> Ints:
    """[U] how many of each user's events lie before a moment; histories are in time order."""
    assert dataset.timestamp is not None
    before = arrays.offsets_of(dataset.timestamp < time)
    counts: Ints = before[dataset.offsets[1:]] - before[dataset.offsets[:-1]]
    return counts


def period_end(dataset: Dataset, ends: Ints, cut: int | None) -> Ints:
    """[U] ms when a period ended that holds the first `ends` [U] events of every user: when the next event of each
    came, at `cut` at the latest; the largest number for users without either.
    """
    assert dataset.timestamp is not None
    found = np.full(dataset.num_users, np.iinfo(np.int64).max if cut is None else cut, dtype=np.int64)
    some = np.flatnonzero(ends < np.diff(dataset.offsets))
    found[some] = np.minimum(found[some], dataset.timestamp[dataset.offsets[some] + ends[some]])
    return found


def _single(dataset: Dataset, users: Ints, place: Ints, ties: Ties) -> Requests:
    """One request per (user, place in its history), where anything is visible before it, for the event there."""
    end = place if ties == "in-order" else _before_ties(dataset, users, place)
    seen = end > 0
    users, place, end = users[seen], place[seen], end[seen]
    event = dataset.offsets[users] + place
    return Requests(
        user=users.astype(np.int64),
        end=end.astype(np.int64),
        time=None if dataset.timestamp is None else np.asarray(dataset.timestamp[event], dtype=np.int64),
        offsets=np.arange(len(users) + 1, dtype=np.int64),
        item=np.asarray(dataset.item[event], dtype=np.int64),
    )


def _before_ties(dataset: Dataset, users: Ints, place: Ints) -> Ints:
    """[Q] the user's events strictly earlier than the one at `place`: its companions of the same time are not shown."""
    if dataset.timestamp is None:
        raise ProtocolError("Blind ties need timestamps; this dataset has only an order. Use ties in order.")
    stamp = dataset.timestamp
    changes = np.ones(dataset.num_events, dtype=bool)
    changes[1:] = stamp[1:] != stamp[:-1]
    starts = dataset.offsets[:-1]
    changes[starts[starts < dataset.num_events]] = True
    first = np.maximum.accumulate(np.where(changes, np.arange(dataset.num_events), 0))
    before: Ints = first[dataset.offsets[users] + place] - dataset.offsets[users]
    return before


def _frozen(dataset: Dataset, start: int, stop: int) -> Requests:
    """One request per user with events in [start, stop): asked at `start`, relevant is all of the period."""
    visible, until = events_before(dataset, start), events_before(dataset, stop)
    users = np.flatnonzero((until > visible) & (visible > 0))
    count = until[users] - visible[users]
    events = arrays.spans(dataset.offsets[users] + visible[users], count)
    return Requests(
        user=users,
        end=visible[users],
        time=np.full(len(users), start, dtype=np.int64),
        offsets=arrays.offsets_of(count),
        item=np.asarray(dataset.item[events], dtype=np.int64),
    )


def _rolling(dataset: Dataset, start: int, stop: int, ties: Ties) -> Requests:
    """One request per event in [start, stop) that has something visible before it."""
    visible, until = events_before(dataset, start), events_before(dataset, stop)
    count = until - visible
    users = np.repeat(np.arange(dataset.num_users), count)
    return _single(dataset, users, arrays.spans(visible, count), ties)


def training_events(dataset: Dataset, split: Split) -> Ints:
    """[E'] places in the dataset of all events that may be trained on."""
    return arrays.spans(dataset.offsets[:-1], split.train_end)


def check_trainable(dataset: Dataset, split: Split, *, events: int) -> None:
    """Refuse a split that leaves nothing to learn from: nobody with `events` to train on. Raises DataError."""
    if dataset.num_items < 2:
        raise DataError("The catalogue has a single item: there is nothing to choose from. Use a log with more items.")
    if not (split.train_end >= events).any():
        needed = "two events" if events > 1 else "an event"
        raise DataError(
            f"No user of {dataset.num_users} has {needed} to train on under this split; "
            "use a longer log, or an earlier share for a temporal split."
        )
