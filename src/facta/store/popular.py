"""How much the events of each item are worth, in a database: one query over all events."""

from __future__ import annotations

import math

from sqlalchemy import Connection, case, func, select

from facta.store import content as rules
from facta.store.protocol import ItemId
from facta.store.schema import EVENTS, USERS

_NOTHING = -700.0  # the exponential of less is 0, and an error of PostgreSQL


def popularity(db: Connection, half_life: float) -> dict[ItemId, float]:
    """Of every item with events."""
    newest = db.execute(select(func.max(USERS.c.newest))).scalar_one() or 0
    power = (func.coalesce(EVENTS.c.time, newest) - newest) * (math.log(2) / half_life)
    worth = case((power < _NOTHING, 0.0), else_=func.exp(power))
    found = db.execute(select(EVENTS.c.item, func.sum(worth).label("worth")).group_by(EVENTS.c.item))
    return {rules.id_of(row.item): float(row.worth) for row in found}
