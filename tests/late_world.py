"""A log with feedback that comes late, and the slow definition of what is known when.

`buy` comes at once, before the next event, with it or after it; `rated` says how good the purchase was, later still,
and is undefined without one; `click` has no time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare

T0, MINUTE = 1_600_000_000_000, 60_000
ITEMS = 12
FIELDS: Mapping[str, Any] = {
    "tab": "context",
    "click": "feedback",
    "buy": {"time": "bought_at"},
    "rated": {
        "kind": "numeric",
        "boundaries": [2, 3, 4, 5],
        "positive": ">= 4",
        "undefined": "buy = 0",
        "time": "rated_at",
    },
}
LATER = ("buy", "rated")
BEFORE = {"buy": 0, "rated": None}  # what an event shows to which nothing has happened

Event = dict[str, Any]


def histories(users: int = 8, seed: int = 0) -> list[Event]:
    """Events of users with 2 to 9 of them, every tenth minute or at the same one, in the order of user and time."""
    rng, found = np.random.default_rng(seed), []
    for user in range(users):
        time = T0 + 1_000 * user + np.cumsum(rng.choice([0, 10, 10, 30], 2 + user % 8)) * MINUTE
        for at in time.tolist():
            buy = int(rng.random() < 0.6)
            bought = at + int(rng.choice([-5, 0, 3, 10, 25, 60, 200])) * MINUTE if buy else None
            rated = None if bought is None else bought + int(rng.choice([0, 10, 40])) * MINUTE
            event = {"user_id": user, "item_id": int(rng.integers(ITEMS)), "timestamp": at}
            event |= {"tab": str(rng.choice(["home", "search"])), "click": int(rng.random() < 0.5)}
            event |= {"buy": buy, "bought_at": bought, "rated": int(rng.integers(1, 6)) if buy else None}
            found.append({**event, "rated_at": rated})
    return found


def log(events: Sequence[Event], order: Sequence[int] | None = None) -> pl.DataFrame:
    schema = {name: pl.String if name == "tab" else pl.Int64 for name in events[0]}
    return pl.DataFrame([events[place] for place in order] if order is not None else list(events), schema=schema)


def prepared(events: Sequence[Event], out: Path, order: Sequence[int] | None = None) -> Dataset:
    shown = pl.DataFrame({"item_id": range(ITEMS), "kind": [*"abcabcabcabc"]})
    return prepare(log(events, order), out, items=shown, fields=FIELDS, item_fields={"kind": "categorical"})


def known(event: Event, name: str, moment: float) -> Any:
    """The value of a field as it is known at a moment: the definition."""
    if name not in LATER:
        return event[name]
    time = event["bought_at" if name == "buy" else "rated_at"]
    if event[name] is not None and time is not None and time > event["timestamp"] and time >= moment:
        value = BEFORE[name]
    else:
        value = event[name]
    return None if name == "rated" and known(event, "buy", moment) == 0 else value


def as_it_stood(events: Sequence[Event], moment: int) -> list[Event]:
    """The log that an export at a moment would have given: earlier events, and of them what was known."""
    found = []
    for event in events:
        if event["timestamp"] < moment:
            stood = {**event, **{name: known(event, name, moment) for name in LATER}}
            hidden = {time: None for name, time in (("buy", "bought_at"), ("rated", "rated_at")) if not stood[name]}
            found.append({**stood, **hidden})
    return found


def code(name: str, value: Any) -> int:
    """The code of a value."""
    if value is None:
        return 0
    return {"home": 1, "search": 2}[value] if name == "tab" else int(value) + (name != "rated")
