"""What changes a user other than by appends: each function looks, refuses or writes, inside the transaction that it is
given. Letters: n events of a user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, case, func, select

from facta.errors import ConflictError, UnknownEventError
from facta.store import content as rules
from facta.store.appending import event_row
from facta.store.content import Checked, content_of, event_of
from facta.store.protocol import StoredEvent, UserId
from facta.store.schema import EVENTS, STORE, USERS
from facta.store.tables import Tables, content_now, contents

_LISTED = 500  # numbers in one statement


def amend(
    db: Connection, tables: Tables, user: UserId, event_id: str, values: Mapping[str, Any], known_at: Mapping[str, int]
) -> StoredEvent:
    """Merge values into an event. Raises UnknownEventError."""
    one = _user(db, tables, rules.key(user, "user"))
    row = tables.event(db, one["user_row"], event_id) if one else None
    if one is None or row is None:
        raise UnknownEventError(rules.unknown(user, event_id))
    old = content_now(row)
    new = content_of(rules.amended(event_of(event_id, old), values, known_at))
    if new != old:
        kept = {} if row["posted_fields"] is not None else {"posted_fields": old[2], "posted_known_at": old[3]}
        at = (EVENTS.c.user_row == row["user_row"]) & (EVENTS.c.arrival == row["arrival"])
        db.execute(EVENTS.update().where(at).values(fields=new[2], known_at=new[3], **kept))
        _rewrite(db, one)
    return event_of(event_id, new)


def remove(db: Connection, tables: Tables, user: UserId, event_id: str) -> bool:
    """Take an event back; False where there is none."""
    one = _user(db, tables, rules.key(user, "user"))
    row = tables.event(db, one["user_row"], event_id) if one else None
    if one is None or row is None:
        return False
    db.execute(EVENTS.delete().where(EVENTS.c.user_row == row["user_row"], EVENTS.c.arrival == row["arrival"]))
    newest = select(func.max(EVENTS.c.time)).where(EVENTS.c.user_row == row["user_row"]).scalar_subquery()
    _rewrite(db, one, events=one["events"] - 1, newest=newest)
    return True


def tell(db: Connection, tables: Tables, name: str, facts: str, series: str) -> int:
    """Put facts, as texts, in the place of those that are there; returns the revision."""
    one = _user(db, tables, name)
    told = ("{}", "[]") if one is None else (one["facts"], one["series"])
    if (facts, series) == told:
        return 0 if one is None else int(one["revision"])
    return _rewrite(db, one or _stranger(db, name), facts=facts, series=series)


def merge(db: Connection, tables: Tables, source: UserId, target: UserId) -> int:
    """Give everything of `source` to `target`; returns the target's revision. Raises ConflictError, DataError."""
    name, old_name = rules.key(target, "user"), rules.key(source, "user")
    old, one = _user(db, tables, old_name), _user(db, tables, name)
    if old is None or old_name == name:
        return 0 if one is None else int(one["revision"])
    moved = _moved(db, tables, old, target, one)
    one = one or _stranger(db, name)
    rows = [
        {**event_row(one["user_row"], one["revision"] + place, post), **_posted(row)}
        for place, (post, row) in enumerate(moved, start=1)
    ]
    if rows:
        db.execute(EVENTS.insert(), rows)
    _forget(db, old)
    return _rewrite(
        db,
        one,
        revision=one["revision"] + len(rows) + 1,
        events=one["events"] + len(rows),
        newest=max([row["time"] for row in (*rows, {"time": one["newest"]}) if row["time"] is not None], default=None),
        facts=rules.json_of({**json.loads(old["facts"]), **json.loads(one["facts"])}, "facts"),
        series=rules.json_of_series(rules.merged_series(*(rules.series_of(each["series"]) for each in (old, one)))),
    )


def forget(db: Connection, tables: Tables, name: str) -> bool:
    """Delete a user; False where there is none."""
    one = _user(db, tables, name)
    if one is not None:
        _forget(db, one)
    return one is not None


class RetainedPage(NamedTuple):
    """What a retention took away of some users; `last`: the row of the last one, None where no others follow."""

    last: int | None
    events: int
    forgotten: list[str]


def retain(
    db: Connection, tables: Tables, after: int, count: int, newest: int | None, since: int | None
) -> RetainedPage:
    """Delete old events of the `count` users behind a row; see `EventStore.retain`."""
    some = select(USERS).where(USERS.c.user_row > after).order_by(USERS.c.user_row).limit(count)
    users = db.execute(some).mappings().all()
    events, forgotten = 0, []
    for one in users:
        old = _old(db, one, newest, since)
        if not old:
            continue
        events += len(old)
        for start in range(0, len(old), _LISTED):
            mine = EVENTS.c.user_row == one["user_row"], EVENTS.c.arrival.in_(old[start : start + _LISTED])
            db.execute(EVENTS.delete().where(*mine))
        if len(old) == one["events"]:
            forgotten.append(one["name"])
            _forget(db, one)
        else:  # its newest event stays
            _rewrite(db, one, events=one["events"] - len(old))
    return RetainedPage(users[-1]["user_row"] if len(users) == count else None, events, forgotten)


def _old(db: Connection, one: RowMapping, newest: int | None, since: int | None) -> list[int]:
    """The arrivals of a user's events that a retention deletes."""
    late = (EVENTS.c.time.desc(), EVENTS.c.arrival.desc())
    order = select(EVENTS.c.arrival, EVENTS.c.time).where(EVENTS.c.user_row == one["user_row"]).order_by(*late)
    behind = [] if newest is None else [row.arrival for row in db.execute(order.offset(newest))]
    aged = [] if since is None else [row.arrival for row in db.execute(order.where(EVENTS.c.time < since))]
    return sorted({*behind, *aged})


def _user(db: Connection, tables: Tables, name: str) -> RowMapping | None:
    return tables.users(db, [name]).get(name)


def _stranger(db: Connection, name: str) -> RowMapping:
    """A new row of facta_users, of which nothing is known yet."""
    first = db.execute(select(STORE.c.first_revision)).scalar_one()
    last = db.execute(select(func.max(USERS.c.user_row))).scalar_one() or 0
    new = {"user_row": last + 1, "name": name, "revision": first, "rewritten": first, "events": 0, "facts": "{}"}
    db.execute(USERS.insert().values(**new, newest=None, series="[]"))
    return db.execute(select(USERS).where(USERS.c.user_row == last + 1)).mappings().one()


def _rewrite(db: Connection, one: RowMapping, revision: int | None = None, **values: Any) -> int:
    """A new revision that no append leads to."""
    revision = one["revision"] + 1 if revision is None else revision
    at = USERS.c.user_row == one["user_row"]
    db.execute(USERS.update().where(at).values(revision=revision, rewritten=revision, **values))
    assert revision is not None
    return revision


def _forget(db: Connection, one: RowMapping) -> None:
    db.execute(EVENTS.delete().where(EVENTS.c.user_row == one["user_row"]))
    db.execute(USERS.delete().where(USERS.c.user_row == one["user_row"]))
    above, first = one["revision"] + 1, STORE.c.first_revision
    db.execute(STORE.update().values(first_revision=case((first < above, above), else_=first)))


def _moved(
    db: Connection, tables: Tables, old: RowMapping, target: UserId, one: RowMapping | None
) -> list[tuple[Checked, RowMapping]]:
    """[n] events of `old` in order, without those that the target has already. Raises ConflictError, DataError."""
    events = select(EVENTS).where(EVENTS.c.user_row == old["user_row"]).order_by(EVENTS.c.time, EVENTS.c.arrival)
    rows = db.execute(events).mappings().all()
    there: dict[str, RowMapping] = {}
    if one is not None:
        there = {
            row["event_id"]: row for row in tables.events(db, [(one["user_row"], row["event_id"]) for row in rows])
        }
    moved = []
    for row in rows:
        post = Checked(target, "", row["event_id"], content_now(row))
        if post.id in there and post.content not in contents(there[post.id]):
            raise ConflictError(rules.conflict(target, post.id))
        if post.id not in there:
            if one is not None and one["events"]:
                rules.refuse_mixture(post, timed=one["newest"] is not None)
            moved.append((post, row))
    return moved


def _posted(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("posted_fields", "posted_known_at")}
