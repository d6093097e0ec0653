"""What may be stored, and when two events have the same content: the rules that all stores share.

Letters: n posts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

from facta.errors import DataError
from facta.store.protocol import Entry, ItemId, Post, StoredEvent, StoredItem, UserId

MAX_FUTURE = 5 * 60 * 1000
"""ms: the default; a clock that is further ahead is wrong, and its events would be the newest ones for a long time."""

_MOST_BYTES = 1024  # of an id: databases index them
_EXACT = 2**53  # ms; whole numbers below survive any reader of JSON
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def now() -> int:
    """The clock of this machine, in ms since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Clock:
    """How far ahead of `now` the time of an event may lie, in ms; None: as far as it likes, as in simulated logs."""

    now: Callable[[], int] = now
    max_future: int | None = MAX_FUTURE

    def refuse_future(self, moment: int, what: str) -> None:
        """Raise DataError for a moment, in ms, that is too far ahead."""
        if self.max_future is None or moment <= (present := self.now()) + self.max_future:
            return
        raise DataError(
            f"Found the time {_shown(moment)} of {what}, {(moment - present) / 1000:,.0f} s ahead of the clock here "
            f"({_shown(present)}); expected at most {self.max_future / 1000:g} s: check the clock of whoever posts and "
            "the unit of the time."
        )


def key(id_: UserId, what: str) -> str:
    """An id as a text that keeps its type: 17 is `17`, "17" is `"17"`. Raises DataError for what is no id."""
    if type(id_) is int and -(2**63) <= id_ < 2**64:
        return str(id_)
    if type(id_) is not str or not id_:
        raise DataError(f"Found {id_!r} as {what} id; expected a whole number of 64 bits or a text.")
    text = _json(id_, f"the {what} id")
    if len(text.encode()) > _MOST_BYTES:
        raise DataError(f"Found a {what} id of {len(id_):,} characters ({id_[:20]}…); expected at most 1,000 bytes.")
    return text


def id_of(text: str) -> UserId:
    """The id that `key` made a text of."""
    found: UserId = json.loads(text) if text[0] == '"' else int(text)
    return found


def json_of(values: Mapping[str, Any], what: str) -> str:
    """A mapping as text, equal for equal mappings: 1, 1.0 and true stay apart. Raises DataError for what is no JSON."""
    if not isinstance(values, Mapping) or not all(type(name) is str for name in values):
        raise DataError(f"Found {values!r} as {what}; expected names and their values, as in a JSON object.")
    return _json(dict(values), what)


Content = tuple[int | None, str, str, str]
"""What an event says, in texts: its time, item, values, and when they became known. Its own id is no part of it."""


class Checked(NamedTuple):
    """A post that may be stored, and its texts."""

    user: UserId
    name: str  # the key of the user
    id: str
    content: Content


def content_of(event: StoredEvent) -> Content:
    """Raises DataError for what is no item id or no JSON."""
    what = f"event '{event.id}'"
    values = json_of(event.values, f"the values of {what}")
    known = json_of(event.known_at, f"the times of the values of {what}") if event.known_at else "{}"
    return event.time, key(event.item, "item"), values, known


def event_of(event_id: str, content: Content) -> StoredEvent:
    """The event that `content_of` made texts of."""
    time_, item, values, known_at = content
    return StoredEvent(
        event_id, id_of(item), time_, json.loads(values), json.loads(known_at) if known_at != "{}" else {}
    )


def amended(event: StoredEvent, values: Mapping[str, Any], known_at: Mapping[str, int]) -> StoredEvent:
    """An event with other values where they are given."""
    return replace(event, values={**event.values, **values}, known_at={**event.known_at, **known_at})


def described(item: ItemId, old: StoredItem | None, values: Mapping[str, Any], hidden: bool | None) -> StoredItem:
    """What is known of an item when something more was said of it."""
    old = old or StoredItem(item)
    return StoredItem(item, {**old.values, **values}, old.hidden if hidden is None else hidden)


def item_json(item: StoredItem) -> str:
    """What is known of an item, as text."""
    return json_of({"values": item.values, "hidden": item.hidden}, "what is said of an item")


def prepared(posts: Sequence[Post], clock: Clock) -> tuple[list[Checked], tuple[str, ...]]:
    """[n] posts in the order in which they arrive, and [n] ids in the order in which they were given.

    Raises DataError.
    """
    checked = [_checked(user, event, clock) for user, event in posts]
    order = sorted(checked, key=lambda post: (post.content[0] is not None, post.content[0] or 0))
    return order, tuple(post.id for post in checked)


def check_known(known_at: Mapping[str, int], what: str, clock: Clock) -> None:
    """Raise DataError for what does not say when values became known."""
    json_of(known_at, f"the times of the values of {what}")
    for name, moment in known_at.items():
        _check_time(moment, f"'{name}' of {what}", clock)


def json_of_series(series: Sequence[Entry], clock: Clock | None = None) -> str:
    """Changing facts as text, in the order of time; those of equal time keep their order. Raises DataError; without a
    clock they are known to be right."""
    for entry in series if clock else ():
        if not isinstance(entry, (tuple, list)) or len(entry) != 3 or type(entry[1]) is not str:
            raise DataError(f"Found {entry!r} among changing facts; expected (time, name, new value).")
        _check_time(entry[0], f"the fact '{entry[1]}'", clock)
    return _json(sorted(map(list, series), key=lambda entry: entry[0]), "changing facts")


def series_of(text: str) -> tuple[Entry, ...]:
    """The changing facts that `json_of_series` made a text of."""
    return tuple((when, name, value) for when, name, value in json.loads(text))


def merged_series(source: Sequence[Entry], target: Sequence[Entry]) -> tuple[Entry, ...]:
    """The changing facts of two users; where both say a fact at one time, the target's word counts."""
    told = {(when, name) for when, name, _ in target}
    return tuple(sorted([*(one for one in source if one[:2] not in told), *target], key=lambda entry: entry[0]))


def refuse_mixture(post: Checked, *, timed: bool) -> None:
    """Raise DataError where events with and without a time would meet: nothing says which of them came first."""
    if timed == (post.content[0] is not None):
        return
    own, others = ("no time", "have times") if timed else ("a time", "have none")
    raise DataError(
        f"Event '{post.id}' of user {post.user!r} has {own} and the user's other events {others}; "
        "give all a time, or none."
    )


def conflict(user: UserId, event_id: str) -> str:
    """The sentence about two events of one id."""
    return (
        f"User {user!r} has an event '{event_id}' of other content; give a new event an id of its own, and change a "
        "stored one with amend (PATCH)."
    )


def unknown(user: UserId, event_id: str) -> str:
    """The sentence about an event that is not there."""
    return (
        f"User {user!r} has no event '{event_id}'; post it first (append), or look for its id among the user's events."
    )


def _checked(user: UserId, event: StoredEvent, clock: Clock) -> Checked:
    name = key(user, "user")
    if type(event.id) is not str:
        raise DataError(f"Found {event.id!r} as event id; expected a text.")
    if event.id:
        key(event.id, "event")
    if event.time is not None:
        _check_time(event.time, f"event '{event.id}'", clock)
    if event.known_at:
        check_known(event.known_at, f"event '{event.id}'", clock)
    return Checked(user, name, event.id or uuid4().hex, content_of(event))


def _check_time(moment: Any, what: str, clock: Clock | None) -> None:
    if type(moment) is not int or abs(moment) >= _EXACT:
        raise DataError(f"Found {moment!r} as the time of {what}; expected milliseconds since 1970, a whole number.")
    if clock:
        clock.refuse_future(moment, what)


def _json(value: Any, what: str) -> str:
    try:
        text = _encode(value)
        text.encode()
    except (TypeError, ValueError) as error:  # UnicodeEncodeError is one: half a pair of surrogates
        raise DataError(
            f"Cannot store {what} as JSON ({error}); expected texts, numbers, true, false or null."
        ) from None
    return text


def _shown(moment: int) -> str:
    try:
        return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{moment} ms"
