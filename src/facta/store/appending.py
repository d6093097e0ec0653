"""The appends of one commit: what they meet is read at once, each is decided in memory, what is new is written at once.

So a commit of a hundred posts costs five statements, not five hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from facta.errors import ConflictError, FactaError
from facta.store import content as rules
from facta.store.content import Checked, Content
from facta.store.schema import EVENTS, STORE, USERS
from facta.store.tables import Tables, contents

_UPDATE = (
    USERS.update()
    .where(USERS.c.user_row == bindparam("at"))
    .values({name: bindparam(f"new_{name}") for name in ("revision", "rewritten", "events", "newest")})
)


@dataclass(slots=True)
class _User:
    """A row of facta_users as it will be; row 0: it is not there yet."""

    row: int
    revision: int
    rewritten: int
    events: int = 0
    newest: int | None = None

    def add(self, post: Checked) -> int:
        """One event more; returns its arrival."""
        time = post.content[0]
        if self.events:
            rules.refuse_mixture(post, timed=self.newest is not None)
        self.events += 1
        self.revision += 1
        if time is not None and self.newest is not None and time < self.newest:
            self.rewritten = self.revision
        else:
            self.newest = time
        return self.revision


class Appending:
    """The appends of one transaction, in order."""

    def __init__(self, db: Connection, tables: Tables, posts: Sequence[Checked]) -> None:
        """`posts`: all that will be appended."""
        self._db = db
        self._first = int(db.execute(select(STORE.c.first_revision)).scalar_one())
        there = tables.users(db, {post.name: 0 for post in posts})
        self._users = {
            name: _User(row["user_row"], row["revision"], row["rewritten"], row["events"], row["newest"])
            for name, row in there.items()
        }
        names = {one.row: name for name, one in self._users.items()}
        asked = [(self._users[post.name].row, post.id) for post in posts if post.name in self._users]
        self._contents: dict[tuple[str, str], tuple[Content, ...]] = {
            (names[row["user_row"]], row["event_id"]): contents(row) for row in tables.events(db, asked)
        }
        self._changed: dict[str, None] = {}  # names, in the order in which they came
        self._new: list[tuple[Checked, int]] = []

    def append(self, posts: Sequence[Checked]) -> int:
        """Decide one append, and return how many of its posts are new events. Where it raises FactaError, nothing has
        changed."""
        users: dict[str, _User] = {}
        added: dict[tuple[str, str], tuple[Content, ...]] = {}
        new = []
        for post in posts:
            place = (post.name, post.id)
            there = added.get(place) or self._contents.get(place)
            if there is None:
                if post.name not in users:
                    users[post.name] = self._copy(post.name)
                new.append((post, users[post.name].add(post)))
                added[place] = (post.content,)
            elif post.content not in there:
                raise ConflictError(rules.conflict(post.user, post.id))
        self._users.update(users)
        self._contents.update(added)
        self._changed.update(dict.fromkeys(users))
        self._new += new
        return len(new)

    def write(self) -> None:
        """Write what was decided."""
        changed = {name: self._users[name] for name in self._changed}
        strangers = [name for name, one in changed.items() if one.row == 0]
        if old := [one for name, one in changed.items() if one.row]:
            self._db.execute(_UPDATE, [_updated(one) for one in old])
        if strangers:
            last = self._db.execute(select(func.max(USERS.c.user_row))).scalar_one() or 0
            for place, name in enumerate(strangers, start=last + 1):
                changed[name].row = place
            self._db.execute(USERS.insert(), [_inserted(name, changed[name]) for name in strangers])
        if self._new:
            self._db.execute(EVENTS.insert(), [event_row(changed[post.name].row, at, post) for post, at in self._new])

    def _copy(self, name: str) -> _User:
        one = self._users.get(name)
        return replace(one) if one is not None else _User(0, self._first, self._first)


def append_all(db: Connection, tables: Tables, jobs: Sequence[Sequence[Checked]]) -> list[int | FactaError]:
    """Do appends in order: for each, how many events were new, or why it was refused."""
    appending = Appending(db, tables, [post for job in jobs for post in job])
    outcomes: list[int | FactaError] = []
    for job in jobs:
        try:
            outcomes.append(appending.append(job))
        except FactaError as error:
            outcomes.append(error)
    appending.write()
    return outcomes


def event_row(user_row: int, arrival: int, post: Checked) -> dict[str, Any]:
    """A new row of facta_events."""
    time, item, fields, known_at = post.content
    return {
        "user_row": user_row,
        "arrival": arrival,
        "event_id": post.id,
        "time": time,
        "item": item,
        "fields": fields,
        "known_at": known_at,
    }


def _inserted(name: str, one: _User) -> dict[str, Any]:
    return {
        "user_row": one.row,
        "name": name,
        "revision": one.revision,
        "rewritten": one.rewritten,
        "events": one.events,
        "newest": one.newest,
        "facts": "{}",
        "series": "[]",
    }


def _updated(one: _User) -> dict[str, Any]:
    return {
        "at": one.row,
        "new_revision": one.revision,
        "new_rewritten": one.rewritten,
        "new_events": one.events,
        "new_newest": one.newest,
    }
