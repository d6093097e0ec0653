"""What was posted of items, in a database. Items are few beside events, and change seldom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from facta.store import content as rules
from facta.store.protocol import ItemChanges, ItemId, StoredItem
from facta.store.schema import ITEMS
from facta.store.tables import Tables


def describe(db: Connection, _: Tables, item: ItemId, values: Mapping[str, Any], hidden: bool | None) -> StoredItem:
    """Merge what is said of an item into what is known; a revision more where that is news."""
    name = rules.key(item, "item")
    known = db.execute(select(ITEMS.c.known).where(ITEMS.c.name == name)).scalar_one_or_none()
    merged = rules.described(item, None if known is None else _item(name, known), values, hidden)
    if (new := rules.item_json(merged)) != known:
        row = {"revision": _last(db) + 1, "known": new}
        if known is None:
            db.execute(ITEMS.insert().values(name=name, **row))
        else:
            db.execute(ITEMS.update().where(ITEMS.c.name == name).values(**row))
    return _item(name, new)


def items(db: Connection, since: int) -> ItemChanges:
    """What was described since a revision."""
    changed = select(ITEMS).where(ITEMS.c.revision > since).order_by(ITEMS.c.revision)
    return ItemChanges(_last(db), tuple(_item(row.name, row.known) for row in db.execute(changed)))


def _last(db: Connection) -> int:
    return db.execute(select(func.max(ITEMS.c.revision))).scalar_one() or 0


def _item(name: str, known: str) -> StoredItem:
    found = json.loads(known)
    return StoredItem(rules.id_of(name), found["values"], found["hidden"])
