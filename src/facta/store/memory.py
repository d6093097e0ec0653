"""The slow, obvious store: dictionaries. It defines what is right; every other store is held equal to it.

What it holds is gone with the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from threading import RLock
from typing import Any

from facta.errors import ConflictError, UnknownEventError
from facta.store import content as rules
from facta.store.content import Checked, Clock, Content, content_of
from facta.store.protocol import (
    Appended,
    Change,
    Entry,
    ItemChanges,
    ItemId,
    Person,
    Post,
    Retained,
    StoredEvent,
    StoredItem,
    UserId,
)


@dataclass
class _Kept:
    """An event, the revision that brought it, and its content as it was first posted."""

    event: StoredEvent
    arrival: int
    posted: Content

    def same(self, content: Content) -> bool:
        return content in (self.posted, content_of(self.event))


@dataclass
class _User:
    revision: int
    rewritten: int  # the revision of the newest change that was no append
    events: dict[str, _Kept] = field(default_factory=dict)  # by id
    facts: Mapping[str, Any] = field(default_factory=dict)
    series: tuple[Entry, ...] = ()

    def in_order(self) -> list[_Kept]:
        return sorted(self.events.values(), key=lambda kept: (kept.event.time or 0, kept.arrival))

    def add(self, post: Checked, event: StoredEvent) -> None:
        """An event that is not there yet, at its place."""
        times = [kept.event.time for kept in self.events.values()]
        if times:
            rules.refuse_mixture(post, timed=times[0] is not None)
        self.revision += 1
        self.events[post.id] = _Kept(event, self.revision, post.content)
        if any((time or 0) > (event.time or 0) for time in times):
            self.rewritten = self.revision

    def rewrite(self) -> None:
        self.revision += 1
        self.rewritten = self.revision

    def person(self) -> Person:
        return Person(self.revision, tuple(kept.event for kept in self.in_order()), self.facts, self.series)


class MemoryStore:
    """An event store in memory; see `EventStore` for the methods.

    Users are kept by the texts of their ids, so that 1, "1" and True are not taken for each other.
    """

    def __init__(self, clock: Clock = Clock()) -> None:
        self._clock = clock
        self._users: dict[str, _User] = {}
        self._first = 0  # the revision from which new users count: above all that forgotten ones had
        self._items: dict[str, tuple[int, StoredItem]] = {}  # with the revision of all items that changed it last
        self._lock = RLock()

    def append(self, posts: Sequence[Post]) -> Appended:
        order, ids = rules.prepared(posts, self._clock)
        users: dict[str, _User] = {}
        accepted = 0
        with self._lock:
            for post in order:
                one = users[post.name] = users[post.name] if post.name in users else self._copy(post.name)
                kept = one.events.get(post.id)
                if kept is None:
                    one.add(post, rules.event_of(post.id, post.content))
                    accepted += 1
                elif not kept.same(post.content):
                    raise ConflictError(rules.conflict(post.user, post.id))
            self._users.update(users)
        return Appended(ids, accepted, len(order) - accepted)

    def amend(
        self, user: UserId, event_id: str, values: Mapping[str, Any], known_at: Mapping[str, int] | None = None
    ) -> StoredEvent:
        rules.json_of(values, f"the values of event '{event_id}'")
        rules.check_known(known_at or {}, f"event '{event_id}'", self._clock)
        with self._lock:
            one = self._users.get(rules.key(user, "user"))
            if one is None or event_id not in one.events:
                raise UnknownEventError(rules.unknown(user, event_id))
            kept = one.events[event_id]
            new = content_of(rules.amended(kept.event, values, known_at or {}))
            if new != content_of(kept.event):
                kept.event = rules.event_of(event_id, new)
                one.rewrite()
            return kept.event

    def remove(self, user: UserId, event_id: str) -> bool:
        with self._lock:
            one = self._users.get(rules.key(user, "user"))
            if one is None or event_id not in one.events:
                return False
            del one.events[event_id]
            one.rewrite()
            return True

    def tell(self, user: UserId, facts: Mapping[str, Any], series: Sequence[Entry] = ()) -> int:
        name, told = rules.key(user, "user"), rules.json_of(facts, "facts of a user")
        entries = rules.json_of_series(series, self._clock)
        with self._lock:
            one = self._copy(name)
            if told == rules.json_of(one.facts, "facts") and entries == rules.json_of_series(one.series):
                return self._users[name].revision if name in self._users else 0
            one.facts, one.series = json.loads(told), rules.series_of(entries)
            one.rewrite()
            self._users[name] = one
            return one.revision

    def merge(self, source: UserId, target: UserId) -> int:
        old_name, name = rules.key(source, "user"), rules.key(target, "user")
        with self._lock:
            old = self._users.get(old_name)
            if old is None or old_name == name:
                return self.person(target).revision
            one = self._copy(name)
            for kept in old.in_order():
                id_ = kept.event.id
                if id_ not in one.events:
                    one.add(Checked(target, name, id_, kept.posted), kept.event)
                elif not one.events[id_].same(content_of(kept.event)):
                    raise ConflictError(rules.conflict(target, id_))
            one.facts = {**old.facts, **one.facts}
            one.series = rules.merged_series(old.series, one.series)
            one.rewrite()
            self._users[name] = one
            self.forget(source)
            return one.revision

    def forget(self, user: UserId) -> bool:
        with self._lock:
            old = self._users.pop(rules.key(user, "user"), None)
            if old is not None:
                self._first = max(self._first, old.revision + 1)
            return old is not None

    def retain(self, *, newest: int | None = None, since: int | None = None) -> Retained:
        removed, forgotten = 0, []
        with self._lock:
            for name, one in [*self._users.items()]:
                order = one.in_order()
                kept = order[max(len(order) - newest, 0) :] if newest is not None else order
                kept = [each for each in kept if since is None or each.event.time is None or each.event.time >= since]
                if len(kept) == len(order):
                    continue
                removed += len(order) - len(kept)
                if not kept:
                    forgotten.append(rules.id_of(name))
                    self.forget(forgotten[-1])
                    continue
                one.events = {each.event.id: each for each in kept}
                one.rewrite()
        return Retained(removed, tuple(forgotten))

    def describe(self, item: ItemId, values: Mapping[str, Any], *, hidden: bool | None = None) -> StoredItem:
        name, new = rules.key(item, "item"), json.loads(rules.json_of(values, "what is said of an item"))
        with self._lock:
            old = self._items[name][1] if name in self._items else None
            merged = rules.described(item, old, new, hidden)
            if old is None or rules.item_json(merged) != rules.item_json(old):
                self._items[name] = (self.items().revision + 1, merged)
            return merged

    def items(self, since: int = 0) -> ItemChanges:
        with self._lock:
            found = sorted(self._items.values(), key=lambda one: one[0])
        last = found[-1][0] if found else 0
        return ItemChanges(last, tuple(item for revision, item in found if revision > since))

    def popularity(self, half_life: float) -> dict[ItemId, float]:
        with self._lock:
            events = [kept.event for one in self._users.values() for kept in one.events.values()]
        newest = max((event.time for event in events if event.time is not None), default=0)
        found: dict[ItemId, float] = {}
        for event in events:
            age = 0 if event.time is None else newest - event.time
            found[event.item] = found.get(event.item, 0.0) + 0.5 ** (age / half_life)
        return found

    def vacuum(self) -> None:
        """Nothing is left of what was deleted."""

    def changes(self, known: Mapping[UserId, int]) -> dict[UserId, Change]:
        with self._lock:
            found = {user: self._change(user, revision) for user, revision in known.items()}
        return {user: change for user, change in found.items() if change.revision != known[user]}

    def person(self, user: UserId) -> Person:
        with self._lock:
            one = self._users.get(rules.key(user, "user"))
            return Person() if one is None else one.person()

    def first_users(self, count: int) -> list[UserId]:
        with self._lock:
            return [rules.id_of(name) for name in islice(self._users, count)]

    def people(self) -> Iterator[tuple[UserId, Person]]:
        with self._lock:
            found = [(rules.id_of(name), one.person()) for name, one in self._users.items()]
        yield from found

    def close(self) -> None:
        """There is nothing to let go of."""

    def _copy(self, name: str) -> _User:
        """What may be changed and thrown away: a user is replaced when all of a change has succeeded."""
        one = self._users.get(name)
        if one is None:
            return _User(self._first, self._first)
        return replace(one, events={id_: replace(kept) for id_, kept in one.events.items()})

    def _change(self, user: UserId, revision: int) -> Change:
        one = self._users.get(rules.key(user, "user"))
        if one is None:
            return Change(0, whole=Person())
        if revision == one.revision:
            return Change(revision)
        if revision < one.rewritten or revision > one.revision:
            return Change(one.revision, whole=one.person())
        return Change(one.revision, tuple(kept.event for kept in one.in_order() if kept.arrival > revision))
