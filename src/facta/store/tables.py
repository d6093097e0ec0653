"""The statements of a store, built once, and rows as they are read.

Names are the keys of user ids (`content.key`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, RowMapping, case, cast, func, select

from facta.store.backend import Backend
from facta.store.content import Content, event_of, series_of
from facta.store.protocol import Person, StoredEvent
from facta.store.schema import EVENTS, USERS


class News(NamedTuple):
    """A user whose revision is not the one that a reader knows."""

    name: str
    user_row: int | None  # None: nothing is known of the user
    revision: int
    since: int  # the events that arrived behind this revision are news; -1: all, and the facts
    facts: str
    series: str


class Tables:
    """Queries by lists of names or rows: each is one statement, whatever the length of the list."""

    def __init__(self, backend: Backend) -> None:
        pair = backend.pairs()
        given = cast(pair.c.second, BigInteger)
        row = cast(pair.c.first, BigInteger)
        whole = (USERS.c.rewritten > given) | (USERS.c.revision < given)
        self._users = select(USERS).join_from(pair, USERS, USERS.c.name == pair.c.first)
        self._events = select(EVENTS).join_from(
            pair, EVENTS, (EVENTS.c.user_row == row) & (EVENTS.c.event_id == pair.c.second)
        )
        self._news = (
            select(
                pair.c.first.label("name"),
                USERS.c.user_row,
                func.coalesce(USERS.c.revision, 0).label("revision"),
                case((whole, -1), else_=given).label("since"),
                case((whole, USERS.c.facts), else_="{}").label("facts"),
                case((whole, USERS.c.series), else_="[]").label("series"),
            )
            .join_from(pair, USERS, USERS.c.name == pair.c.first, isouter=True)
            .where(func.coalesce(USERS.c.revision, 0) != given)
        )
        self._arrived = (
            select(EVENTS)
            .join_from(pair, EVENTS, (EVENTS.c.user_row == row) & (EVENTS.c.arrival > given))
            .order_by(EVENTS.c.user_row, EVENTS.c.time, EVENTS.c.arrival)
        )

    def users(self, db: Connection, names: Iterable[str]) -> dict[str, RowMapping]:
        """Name -> row of facta_users, of those who are there."""
        rows = db.execute(self._users, {"pairs": json.dumps([[name, 0] for name in names])})
        return {row["name"]: row for row in rows.mappings()}

    def events(self, db: Connection, places: Sequence[tuple[int, str]]) -> list[RowMapping]:
        """The rows of facta_events of (user_row, event_id), of those that are there."""
        if not places:
            return []
        return [*db.execute(self._events, {"pairs": json.dumps(places)}).mappings()]

    def event(self, db: Connection, user_row: int, event_id: str) -> RowMapping | None:
        """One row of facta_events."""
        return next(iter(self.events(db, [(user_row, event_id)])), None)

    def news(self, db: Connection, known: Mapping[str, int]) -> list[News]:
        """Of name -> revision that a reader knows, those where there is another one."""
        rows = db.execute(self._news, {"pairs": json.dumps([*known.items()])})
        return [News(*row) for row in rows]

    def arrived(self, db: Connection, since: Sequence[tuple[int, int]]) -> dict[int, list[StoredEvent]]:
        """Of (user_row, revision), user_row -> the events that arrived behind the revision, in order."""
        found: dict[int, list[StoredEvent]] = defaultdict(list)
        if since:
            for row in db.execute(self._arrived, {"pairs": json.dumps(since)}):
                found[row.user_row].append(event_of(row.event_id, (row.time, row.item, row.fields, row.known_at)))
        return found


def content_now(row: Mapping[Any, Any]) -> Content:
    """What a row of facta_events says."""
    return row["time"], row["item"], row["fields"], row["known_at"]


def contents(row: Mapping[Any, Any]) -> tuple[Content, ...]:
    """What a row says, and what it said as it was first posted."""
    now = content_now(row)
    if row["posted_fields"] is None:
        return (now,)
    return now, (row["time"], row["item"], row["posted_fields"], row["posted_known_at"])


def person_of(revision: int, events: Iterable[StoredEvent], facts: str, series: str) -> Person:
    return Person(revision, tuple(events), json.loads(facts), series_of(series))
