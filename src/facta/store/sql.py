"""An event store in a database: one writer with group commit, readers beside it. `memory.py` is its slow twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, select

from facta.errors import FactaError
from facta.store import changing, items, popular
from facta.store import content as rules
from facta.store.appending import append_all
from facta.store.backend import Backend
from facta.store.content import Checked, Clock
from facta.store.group_commit import GroupCommit
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
from facta.store.schema import USERS, bring_up_to_date
from facta.store.tables import News, Tables, person_of

_PAGE = 200  # users read together by `people`


class _Append(list[Checked]):
    """The posts of one append."""


class _Other:
    """Any other change; `deletes`: a user, so the database is to sweep."""

    def __init__(self, change: Callable[..., Any], *args: Any, deletes: bool = False) -> None:
        self.change = change
        self.args = args
        self.deletes = deletes


class SQLStore:
    """An event store in a database; see `EventStore` for the methods."""

    def __init__(self, backend: Backend, clock: Clock = Clock()) -> None:
        """Opens the store, makes its tables where there are none, brings older ones up to date. Raises StoreError."""
        self._backend = backend
        self._clock = clock
        self._tables = Tables(backend)
        try:
            with backend.writing() as db:
                bring_up_to_date(db)
        except BaseException:
            backend.engine.dispose()
            raise
        self._writer: GroupCommit[_Append | _Other] = GroupCommit(self._commit)

    def append(self, posts: Sequence[Post]) -> Appended:
        order, ids = rules.prepared(posts, self._clock)
        accepted = int(self._writer.do(_Append(order))) if order else 0
        return Appended(ids, accepted, len(order) - accepted)

    def amend(
        self, user: UserId, event_id: str, values: Mapping[str, Any], known_at: Mapping[str, int] | None = None
    ) -> StoredEvent:
        rules.json_of(values, f"the values of event '{event_id}'")
        rules.check_known(known_at or {}, f"event '{event_id}'", self._clock)
        amended: StoredEvent = self._do(changing.amend, user, event_id, dict(values), dict(known_at or {}))
        return amended

    def remove(self, user: UserId, event_id: str) -> bool:
        return bool(self._do(changing.remove, user, event_id))

    def tell(self, user: UserId, facts: Mapping[str, Any], series: Sequence[Entry] = ()) -> int:
        told = rules.json_of(facts, "facts of a user"), rules.json_of_series(series, self._clock)
        return int(self._do(changing.tell, rules.key(user, "user"), *told))

    def merge(self, source: UserId, target: UserId) -> int:
        return int(self._do(changing.merge, source, target, deletes=True))

    def forget(self, user: UserId) -> bool:
        return bool(self._do(changing.forget, rules.key(user, "user"), deletes=True))

    def retain(self, *, newest: int | None = None, since: int | None = None) -> Retained:
        last, events, forgotten = 0, 0, []
        while True:
            page: changing.RetainedPage = self._do(changing.retain, last, _PAGE, newest, since, deletes=True)
            events += page.events
            forgotten += [rules.id_of(name) for name in page.forgotten]
            if page.last is None:
                return Retained(events, tuple(forgotten))
            last = page.last

    def describe(self, item: ItemId, values: Mapping[str, Any], *, hidden: bool | None = None) -> StoredItem:
        rules.json_of(values, "what is said of an item")
        found: StoredItem = self._do(items.describe, item, dict(values), hidden)
        return found

    def items(self, since: int = 0) -> ItemChanges:
        with self._backend.reading() as db:
            return items.items(db, since)

    def popularity(self, half_life: float) -> dict[ItemId, float]:
        with self._backend.reading() as db:
            return popular.popularity(db, half_life)

    def vacuum(self) -> None:
        self._writer.alone(self._backend.vacuum)

    def changes(self, known: Mapping[UserId, int]) -> dict[UserId, Change]:
        users = {rules.key(user, "user"): user for user in known}
        with self._backend.reading() as db:
            news = self._tables.news(db, {name: known[user] for name, user in users.items()})
            found = self._read(db, news)
        return {users[name]: change for name, change in found.items()}

    def person(self, user: UserId) -> Person:
        whole = self.changes({user: -1})[user].whole
        assert whole is not None
        return whole

    def first_users(self, count: int) -> list[UserId]:
        with self._backend.reading() as db:
            return [
                rules.id_of(name) for name in db.scalars(select(USERS.c.name).order_by(USERS.c.user_row).limit(count))
            ]

    def people(self) -> Iterator[tuple[UserId, Person]]:
        last = 0
        while page := self._page(last):
            last = page[-1][0]
            yield from ((rules.id_of(name), person) for _, name, person in page)

    def close(self) -> None:
        self._writer.close()
        self._backend.engine.dispose()

    def _page(self, last: int) -> list[tuple[int, str, Person]]:
        """(user_row, name, person) of the users behind a row, read at one moment."""
        some = select(USERS).where(USERS.c.user_row > last).order_by(USERS.c.user_row).limit(_PAGE)
        with self._backend.reading() as db:
            rows = db.execute(some).all()
            news = [News(row.name, row.user_row, row.revision, -1, row.facts, row.series) for row in rows]
            found = self._read(db, news)
        people = ((row.user_row, row.name, found[row.name].whole) for row in rows)
        return [(at, name, person) for at, name, person in people if person is not None]

    def _read(self, db: Connection, news: Sequence[News]) -> dict[str, Change]:
        """Name -> what happened, from the users with news."""
        events = self._tables.arrived(db, [(one.user_row, one.since) for one in news if one.user_row is not None])
        found = {}
        for name, row, revision, since, facts, series in news:
            mine = events.get(row, []) if row is not None else []
            if row is None or since < 0:
                found[name] = Change(revision, whole=person_of(revision, mine, facts, series))
            else:
                found[name] = Change(revision, tuple(mine))
        return found

    def _do(self, change: Callable[..., Any], *args: Any, deletes: bool = False) -> Any:
        return self._writer.do(_Other(change, *args, deletes=deletes))

    def _commit(self, jobs: Sequence[_Append | _Other]) -> list[Any]:
        """Do jobs in order, in one transaction. What a job refuses is its outcome: it has written nothing by then."""
        outcomes: list[Any] = []
        with self._backend.writing() as db:
            for kind, run in groupby(jobs, key=type):
                if kind is _Append:
                    outcomes += append_all(db, self._tables, [job for job in run if isinstance(job, _Append)])
                else:
                    outcomes += [self._change(db, job) for job in run if isinstance(job, _Other)]
        if any(isinstance(job, _Other) and job.deletes for job in jobs):
            self._backend.sweep()
        return outcomes

    def _change(self, db: Connection, job: _Other) -> Any:
        try:
            return job.change(db, self._tables, *job.args)
        except FactaError as error:
            return error
