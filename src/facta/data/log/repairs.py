"""Repairs on request: events are dropped before anything is prepared; each kind is counted and noted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, get_args

import polars as pl

from facta.data.dataset.ids import clean_ids
from facta.data.dataset.times import to_milliseconds
from facta.data.log.events import EventLog
from facta.data.log.files import Part
from facta.errors import DataError, counted

Drop = Literal["duplicates", "invalid"]
"""duplicates: all but the first of events equal in every column; invalid: no user, no item, or no possible time."""


def check_drops(drop: Collection[str]) -> None:
    for kind in [drop] if isinstance(drop, str) else drop:
        if kind not in get_args(Drop):
            raise DataError(f"Found '{kind}' to drop; expected one of: {', '.join(get_args(Drop))}.")


def cleaned(log: EventLog, mapping: Mapping[str, str], unit: str | None, drop: Collection[Drop]) -> EventLog:
    """The log without the events to drop, in memory; the log itself if nothing is to be dropped."""
    if not drop:
        return log
    frame = pl.DataFrame([log.column(name) for name in log.columns])
    notes = list(log.notes)
    if "duplicates" in drop:
        before = len(frame)
        frame = frame.unique(keep="first", maintain_order=True)
        notes.append(f"Dropped {counted(before - len(frame), 'event')} that repeated an earlier one in every column.")
    if "invalid" in drop:
        before, keep = len(frame), pl.repeat(True, len(frame), eager=True)
        for bad in problems(frame, mapping, unit, log.text).values():
            keep &= ~bad
        frame = frame.filter(keep)
        notes.append(f"Dropped {counted(before - len(frame), 'event')} without a user, an item or a possible time.")
    return EventLog([Part("the log", "frame", frame.lazy())], log.names, notes, text=log.text)


def problems(frame: pl.DataFrame, mapping: Mapping[str, str], unit: str | None, text: bool) -> dict[str, pl.Series]:
    """Reasons for invalid events, as clauses -> [n] which events; empty for a clean log."""
    found: dict[str, pl.Series] = {}
    for what in ("user", "item"):
        column = mapping[f"{what}_id"]
        missing = clean_ids(frame[column], what, text=text).is_null()
        if missing.any():
            found[f"Column '{column}' has {counted(int(missing.sum()), 'event')} without {what} id."] = missing
    if "timestamp" in mapping:
        times = to_milliseconds(frame[mapping["timestamp"]], unit)
        if times.bad:
            found[f"{times.why}."] = times.milliseconds.is_null()
    return found
