"""Repairs that the user asks for: events dropped before anything is prepared, each kind counted and noted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, get_args

import polars as pl

from facta.data.events import EventLog
from facta.data.files import Part
from facta.data.ids import clean_ids
from facta.data.times import to_milliseconds
from facta.errors import DataError

Drop = Literal["duplicates", "invalid"]
"""duplicates: all but the first of events equal in every column; invalid: no user, no item, or no possible time."""


def check_drops(drop: Collection[str]) -> None:
    for kind in drop:
        if kind not in get_args(Drop):
            raise DataError(f"Found '{kind}' to drop; expected one of: {', '.join(get_args(Drop))}.")


def cleaned(log: EventLog, mapping: Mapping[str, str], unit: str | None, drop: Collection[Drop]) -> EventLog:
    """The log without the events to be dropped, held in memory; the log itself when nothing is to be dropped."""
    if not drop:
        return log
    frame = pl.DataFrame([log.column(name) for name in log.columns])
    notes = list(log.notes)
    if "duplicates" in drop:
        before = len(frame)
        frame = frame.unique(keep="first", maintain_order=True)
        notes.append(f"Dropped {before - len(frame):,} events that repeated an earlier one in every column.")
    if "invalid" in drop:
        before = len(frame)
        frame = frame.filter(_valid(frame, mapping, unit, log.text))
        notes.append(f"Dropped {before - len(frame):,} events without a user, an item or a possible time.")
    return EventLog([Part("the log", "frame", frame.lazy())], log.names, notes, text=log.text)


def _valid(frame: pl.DataFrame, mapping: Mapping[str, str], unit: str | None, text: bool) -> pl.Series:
    user = clean_ids(frame[mapping["user_id"]], "user", text=text)
    valid = user.is_not_null() & clean_ids(frame[mapping["item_id"]], "item", text=text).is_not_null()
    if "timestamp" in mapping:
        valid &= to_milliseconds(frame[mapping["timestamp"]], unit).milliseconds.is_not_null()
    return valid
