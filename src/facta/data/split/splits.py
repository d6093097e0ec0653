"""Splits: training events, and the requests of validation and test.

Letters: U users, E events, Q requests. A request sees the first `end` events of its user's history and asks for the
relevant items at its own `time`. Splits are index arithmetic over the dataset's offsets; no event is copied.

Fitting is given a `Split`, which has validation requests and no test requests: nothing can be chosen on the test. The
test requests are of another type, which `leave_one_out_test` and `temporal_test` return.

`targets` [E] marks the events that may be asked for, such as purchases (default: all). All events are visible.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from facta import arrays
from facta.arrays import Bools, Ints
from facta.data.dataset.dataset import Dataset
from facta.data.split.visibility import BLIND, OWN, Frozen, Visibility
from facta.errors import DataError, ProtocolError

_NEEDS_TIMES = (
    "A temporal split needs timestamps; this dataset has only an order. Use leave-one-out: set protocol.split=loo-val, "
    "protocol.train_end=null and protocol.validation_end=null (--set)."
)

Ties = Literal["in-order", "blind"]
State = Literal["frozen", "rolling"]
SEES: dict[Ties, Visibility] = {"in-order": OWN, "blind": BLIND}
"""Whether the request for an event sees earlier events of the same time."""
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Requests:
    """Q questions to a recommender."""

    user: Ints  # [Q] user row
    end: Ints  # [Q] number of the user's events that are visible
    time: Ints | None  # [Q] milliseconds: when the request is made
    offsets: Ints  # [Q+1]
    item: Ints  # relevant item rows of each request
    held_users: int = 0  # users with a target, those without a visible event before it included
    held_events: int = 0  # targets, those without a visible event before them included
    place: Ints | None = None  # [Q] place of the target in its user's history; None: a request has several

    def __len__(self) -> int:
        return len(self.user)


class ValidationRequests(Requests):
    """Requests for choosing epochs and settings."""

    def sample(self, most: int) -> ValidationRequests:
        """At most `count` of them, evenly spaced."""
        if len(self) <= most:
            return self
        rows = np.arange(most) * len(self) // most
        count = np.diff(self.offsets)[rows]
        return ValidationRequests(
            user=self.user[rows],
            end=self.end[rows],
            time=None if self.time is None else self.time[rows],
            offsets=arrays.offsets_of(count),
            item=self.item[arrays.spans(self.offsets[rows], count)],
            place=None if self.place is None else self.place[rows],
        )


class TestRequests(Requests):
    """Requests for the final measurement, after everything has been chosen."""

    __test__ = False  # not a test case for pytest


R = TypeVar("R", bound=Requests)


@dataclass(frozen=True)
class Split:
    """What fitting may know: of a user, the first `train_end` events train, those up to `validation_end` validate.

    It has no test requests.
    """

    train_end: Ints  # [U]
    validation_end: Ints  # [U]
    validation: ValidationRequests
    train_cut: int | None = None  # ms: training ends then for all users; None: at the next event of each
    validation_cut: int | None = None  # ms: the end of validation, likewise

    def __post_init__(self) -> None:
        assert isinstance(self.validation, ValidationRequests), "only validation requests may choose anything"

    @property
    def refit(self) -> Split:
        """The split of a second training on everything before the test, without validation."""
        empty = np.zeros(0, dtype=np.int64)
        time = None if self.validation.time is None else empty
        nothing = ValidationRequests(empty, empty, time, np.zeros(1, dtype=np.int64), empty)
        return replace(self, train_end=self.validation_end, train_cut=self.validation_cut, validation=nothing)


def leave_one_out(
    dataset: Dataset, *, validation: bool = True, ties: Ties = "in-order", targets: Bools | None = None
) -> Split:
    """The last target of each user is the test and, with `validation`, the one before it the validation.

    Training ends before the first of the two. Events that are no targets may lie between them and after the test. A
    user with too few targets after its first event gets no such request, and all its other events are trained on.
    """
    last, other = _newest_targets(dataset, targets)
    length = np.diff(dataset.offsets)
    if not (last >= 0).any():
        what = "at least two events" if targets is None else "a target after another event"
        raise ProtocolError(f"Leave-one-out needs users with {what}; this dataset has none.")
    validation_end = np.where(last >= 0, last, length)
    validated = (other >= 0) & validation
    users = np.flatnonzero(validated)
    return Split(
        train_end=np.where(validated, other, validation_end),
        validation_end=validation_end,
        validation=_single(ValidationRequests, dataset, users, other[users], SEES[ties]),
    )


def leave_one_out_test(dataset: Dataset, *, ties: Ties = "in-order", targets: Bools | None = None) -> TestRequests:
    """One request a user for its last target."""
    last, _ = _newest_targets(dataset, targets)
    users = np.flatnonzero(last >= 0)
    return _single(TestRequests, dataset, users, last[users], SEES[ties])


def _newest_targets(dataset: Dataset, targets: Bools | None) -> tuple[Ints, Ints]:
    """([U] place of each user's last target, [U] of the one before it), first events excluded; -1: none."""
    starts, ends = dataset.offsets[:-1], dataset.offsets[1:]
    if targets is None:
        length = ends - starts
        return np.where(length >= 2, length - 1, -1), np.where(length >= 3, length - 2, -1)
    places = np.flatnonzero(targets)
    places = places[~np.isin(places, starts)]
    found = np.append(places, [-1, -1])  # after the end for users without a target
    newest = np.searchsorted(places, ends) - 1
    last, other = found[newest], found[np.where(newest >= 1, newest - 1, -1)]
    return np.where(last >= starts, last - starts, -1), np.where(other >= starts, other - starts, -1)


def temporal(
    dataset: Dataset,
    *,
    test_from: int,
    validation_from: int | None = None,
    state: State = "frozen",
    ties: Ties = "in-order",
    targets: Bools | None = None,
) -> Split:
    """Train on the events before a moment, validate on those from there to `test_from`; milliseconds.

    Frozen: one request per user at the cut, with the history before it, for all targets of the period. Rolling: one
    request per target of the period, at the target's own time, with all events before it.
    """
    first = test_from if validation_from is None else validation_from
    if first > test_from:
        raise ProtocolError(f"validation_from ({first}) lies after test_from ({test_from}); it must come first.")
    asked = _period(ValidationRequests, dataset, first, test_from, state, ties, targets)
    return Split(
        train_end=events_before(dataset, first),
        validation_end=events_before(dataset, test_from),
        validation=asked,
        train_cut=first,
        validation_cut=test_from,
    )


def temporal_test(
    dataset: Dataset,
    *,
    test_from: int,
    state: State = "frozen",
    ties: Ties = "in-order",
    targets: Bools | None = None,
) -> TestRequests:
    """The requests for the events from `test_from` on."""
    return _period(TestRequests, dataset, test_from, _NEVER, state, ties, targets)


def _period(
    kind: type[R], dataset: Dataset, start: int, stop: int, state: State, ties: Ties, targets: Bools | None
) -> R:
    """Requests for the targets in [start, stop)."""
    if dataset.timestamp is None:
        raise ProtocolError(_NEEDS_TIMES)
    if state == "frozen" and ties == "blind":
        raise ProtocolError("ties=blind has no effect with state=frozen, which asks at the cut: use in-order.")
    visible, until = events_before(dataset, start), events_before(dataset, stop)
    user = np.repeat(np.arange(dataset.num_users), until - visible)
    place = arrays.spans(visible, until - visible)
    if targets is not None:
        asked = targets[dataset.offsets[user] + place]
        user, place = user[asked], place[asked]
    if state == "rolling":
        return _single(kind, dataset, user, place, SEES[ties])
    return _at_the_cut(kind, dataset, user, place, Frozen(visible), start)


def cut_at_share(dataset: Dataset, share: float) -> int:
    """The time (ms) before which `share` of all events lie."""
    if dataset.timestamp is None:
        raise ProtocolError(_NEEDS_TIMES)
    place = min(int(share * dataset.num_events), dataset.num_events - 1)
    return int(np.partition(dataset.timestamp, place)[place])


def events_before(dataset: Dataset, time: int) -> Ints:
    """[U] how many of each user's events lie before a moment; histories are in time order."""
    assert dataset.timestamp is not None
    before = arrays.offsets_of(dataset.timestamp < time)
    counts: Ints = before[dataset.offsets[1:]] - before[dataset.offsets[:-1]]
    return counts


def period_end(dataset: Dataset, ends: Ints, cut: int | None) -> Ints:
    """[U] ms: the end of a period with the first `ends` [U] events of every user: the time of each user's next event,
    at most `cut`; the largest number for users without either.
    """
    assert dataset.timestamp is not None
    found = np.full(dataset.num_users, np.iinfo(np.int64).max if cut is None else cut, dtype=np.int64)
    some = np.flatnonzero(ends < np.diff(dataset.offsets))
    found[some] = np.minimum(found[some], dataset.timestamp[dataset.offsets[some] + ends[some]])
    return found


def _single(kind: type[R], dataset: Dataset, users: Ints, place: Ints, sees: Visibility) -> R:
    """One request per (user, place in its history) for the event there, if an event before it is visible."""
    held_users, held_events = len(np.unique(users)), len(users)
    end = sees.events(dataset, users, place)
    seen = end > 0
    users, place, end = users[seen], place[seen], end[seen]
    event = dataset.offsets[users] + place
    return kind(
        user=users.astype(np.int64),
        end=end.astype(np.int64),
        time=None if dataset.timestamp is None else np.asarray(dataset.timestamp[event], dtype=np.int64),
        offsets=np.arange(len(users) + 1, dtype=np.int64),
        item=np.asarray(dataset.item[event], dtype=np.int64),
        held_users=held_users,
        held_events=held_events,
        place=place.astype(np.int64),
    )


def _at_the_cut(kind: type[R], dataset: Dataset, user: Ints, place: Ints, sees: Frozen, start: int) -> R:
    """One request per user at `start`, for all of its targets at ascending (user, place)."""
    held_users, held_events = len(np.unique(user)), len(user)
    end = sees.events(dataset, user, place)
    seen = end > 0
    user, place, end = user[seen], place[seen], end[seen]
    asked, first, count = np.unique(user, return_index=True, return_counts=True)
    return kind(
        user=asked.astype(np.int64),
        end=end[first],
        time=np.full(len(asked), start, dtype=np.int64),
        offsets=arrays.offsets_of(count),
        item=np.asarray(dataset.item[dataset.offsets[user] + place], dtype=np.int64),
        held_users=held_users,
        held_events=held_events,
    )


def training_events(dataset: Dataset, split: Split) -> Ints:
    """[E'] places in the dataset of all events that may be trained on."""
    return arrays.spans(dataset.offsets[:-1], split.train_end)


def check_trainable(dataset: Dataset, split: Split, *, events: int, advice: str = "; use a longer log.") -> None:
    """Raise DataError for a split in which no user has `events` events to train on.

    `advice` ends the sentence.
    """
    if dataset.num_items < 2:
        raise DataError("The catalogue has a single item: there is nothing to choose from. Use a log with more items.")
    if not (split.train_end >= events).any():
        needed = "two events" if events > 1 else "an event"
        raise DataError(f"No user of {dataset.num_users} has {needed} to train on under this split{advice}")
