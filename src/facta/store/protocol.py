"""What an event store is: the words that it speaks, and what it promises.

Order: a user's events are in the order of (time, arrival). An event of an earlier time is inserted at its place; events
of one time keep the order in which they arrived. The events of one `append` arrive in the order of their times.

Revisions: every change of what is known of a user raises the user's revision, an integer that starts at 0 ("nothing is
known"). A reader keeps the revision that it has read and asks `changes` what came since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

ItemId = int | str  # as in facta.data.dataset.ids, which needs polars
UserId = int | str

Entry = tuple[int, str, Any]
"""A changing fact: ms since 1970, name, new value."""


@dataclass(frozen=True)
class StoredEvent:
    """An event as it was posted. Values are JSON values; what is not given is undefined."""

    id: str  # unique among the events of the user; "" in a post: the store makes one
    item: ItemId
    time: int | None = None  # ms since 1970; None: a log that has only an order
    values: Mapping[str, Any] = field(default_factory=dict)  # context and feedback
    known_at: Mapping[str, int] = field(default_factory=dict)  # ms when values of fields with a time became known


@dataclass(frozen=True)
class Person:
    """All that is known of one user."""

    revision: int = 0  # 0: nothing is known
    events: tuple[StoredEvent, ...] = ()  # oldest first
    facts: Mapping[str, Any] = field(default_factory=dict)  # constant facts
    series: tuple[Entry, ...] = ()  # changing facts, in the order of time


@dataclass(frozen=True)
class Change:
    """What happened to a user since a revision: events were appended, or more than that."""

    revision: int  # the newest one; 0: nothing is known any more
    appended: tuple[StoredEvent, ...] = ()  # behind all events that the reader knows
    whole: Person | None = None  # not None: read this instead of all that was known


@dataclass(frozen=True)
class StoredItem:
    """What was posted of an item: features and title, raw, and whether lists leave it out."""

    id: ItemId
    values: Mapping[str, Any] = field(default_factory=dict)
    hidden: bool = False


@dataclass(frozen=True)
class ItemChanges:
    """The items that were described since a revision of all items, each as it is now, the newest change last."""

    revision: int
    items: tuple[StoredItem, ...] = ()


@dataclass(frozen=True)
class Appended:
    """What became of the posts of one `append`."""

    ids: tuple[str, ...]  # of each post, as given or made here
    accepted: int  # events that are new
    duplicates: int  # posts that were there already, with the same content


@dataclass(frozen=True)
class Retained:
    """What a retention took away."""

    events: int = 0
    forgotten: tuple[UserId, ...] = ()  # users who had nothing else


Post = tuple[UserId, StoredEvent]


class EventStore(Protocol):
    """Where events live. Several threads may call every method; what a method changed is durable when it returns.

    Ids of users and items are whole numbers or texts, and 17 is another id than "17": the caller writes ids as the log
    does. Every method raises DataError for what no store takes (an id of another type, a value that is no JSON, a time
    too far ahead, an event without a time beside some with one), and StoreError where the store cannot do its work.
    """

    def append(self, posts: Sequence[Post]) -> Appended:
        """Keep events, all or none. An event whose id the user has is a duplicate if its content is that which was
        posted first, or that which is stored now. Raises ConflictError where it is neither."""
        ...

    def amend(
        self, user: UserId, event_id: str, values: Mapping[str, Any], known_at: Mapping[str, int] | None = None
    ) -> StoredEvent:
        """Merge values that became known late into those of an event, and return it. Raises UnknownEventError."""
        ...

    def remove(self, user: UserId, event_id: str) -> bool:
        """Take an event back; False where there is none."""
        ...

    def tell(self, user: UserId, facts: Mapping[str, Any], series: Sequence[Entry] = ()) -> int:
        """Keep the constant and the changing facts of a user, in place of those told before. Returns the revision."""
        ...

    def merge(self, source: UserId, target: UserId) -> int:
        """Give the events and facts of `source` to `target` and forget `source`: a session joined to an account. The
        target's own facts win. Returns the target's revision; a source of which nothing is known changes nothing.
        Raises ConflictError where both have an event of one id with unlike content."""
        ...

    def forget(self, user: UserId) -> bool:
        """Delete the user's id, events and facts; False where nothing is known. Readers are then given an empty person
        of revision 0. Whoever posts under this id later begins with a revision above all that readers may remember."""
        ...

    def retain(self, *, newest: int | None = None, since: int | None = None) -> Retained:
        """Delete of every user all events but the `newest` ones, and those of times before `since` (ms since 1970).
        A user whose last event goes is forgotten. Events without times have no age. Some hundred users at a time, so
        that writers wait little; each user is seen at one moment."""
        ...

    def describe(self, item: ItemId, values: Mapping[str, Any], *, hidden: bool | None = None) -> StoredItem:
        """Merge features or a title into what is known of an item, new or not, hide it or show it again; returns it."""
        ...

    def items(self, since: int = 0) -> ItemChanges:
        """What was described since a revision of all items (0: everything)."""
        ...

    def popularity(self, half_life: float) -> dict[ItemId, float]:
        """What the events of each item are worth together: an event of the time of the newest one of all is worth 1,
        one that is `half_life` ms older half of that. Events without a time are worth 1."""
        ...

    def vacuum(self) -> None:
        """Rewrite the store's files, so that no byte of what was deleted is left in them. Writers wait meanwhile."""
        ...

    def changes(self, known: Mapping[UserId, int]) -> dict[UserId, Change]:
        """What happened since the revisions that a reader knows (0: nothing), of the users with a change, in one
        look-up that sees one moment. A revision that the store never gave is answered with the whole person."""
        ...

    def person(self, user: UserId) -> Person:
        """All that is known of a user; an empty person where nothing is."""
        ...

    def first_users(self, count: int) -> list[UserId]:
        """So many of those of whom something is known, in the order in which they came; their events are not read."""
        ...

    def people(self) -> Iterator[tuple[UserId, Person]]:
        """Everyone, in the order in which users came, read a few hundred at a time. Each is seen at one moment; who is
        changed meanwhile is seen before or after."""
        ...

    def close(self) -> None:
        """Finish what was begun and let go of files and connections; the store is not used afterwards."""
        ...
