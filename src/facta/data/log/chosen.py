"""Filters on a log: dropped users, and a period of time.

Letters: n events.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from facta.data.dataset.ids import clean_ids
from facta.data.dataset.times import Time, Unit, moment, period, read_times
from facta.data.log.events import EventLog
from facta.data.log.files import Part
from facta.errors import ConfigError, DataError, counted

_IDS_SHOWN = 5


@dataclass(frozen=True)
class Choice:
    """Which events of a log are prepared."""

    drop_users: Collection[Any] = ()  # ids, text or whole numbers as those of the log
    since: Time | None = None
    until: Time | None = None  # events of this moment are left out

    def __bool__(self) -> bool:
        return len(self.drop_users) > 0 or self.since is not None or self.until is not None

    def bounds(self) -> tuple[int | None, int | None]:
        """The moments in ms. Raises DataError for values that are no times, ConfigError if the first is not the
        earlier.
        """
        since, until = (None if time is None else moment(time) for time in (self.since, self.until))
        if since is not None and until is not None and since >= until:
            raise ConfigError(
                f"Found events asked for from {self.since} until {self.until}; expected the first moment before the "
                "second, at which they end."
            )
        return since, until


def check_choice(choice: Choice, mapping: Mapping[str, str]) -> None:
    """Raise a sentence for moments that cannot be asked for."""
    if choice.bounds() != (None, None) and "timestamp" not in mapping:
        raise DataError(
            "Events are asked for by their times (since, until; --from, --until), but no column of the log is "
            "recognised as timestamp; name it (--column timestamp=NAME), or leave the times out."
        )


def chosen(
    log: EventLog, mapping: Mapping[str, str], unit: Unit | None, choice: Choice, columns: Sequence[str]
) -> EventLog:
    """These columns of the chosen events, in memory; the log itself if nothing is chosen.

    Raises DataError if no event is left, for ids of another type than those of the log, and if the log has none of
    them.
    """
    if not choice:
        return log
    keep = pl.repeat(True, len(log.column(mapping["user_id"])), eager=True)
    notes = list(log.notes)
    if len(choice.drop_users):
        dropped, said = _of_users(log, mapping["user_id"], choice.drop_users)
        keep &= ~dropped
        notes.append(said)
    if choice.bounds() != (None, None):
        inside, said = _between(log, mapping["timestamp"], unit, choice)
        notes.append(f"Left out {counted(int((keep & ~inside).sum()), 'event')} {said}.")
        keep &= inside
    if not keep.any():
        raise DataError("No event is left: all events of the period are of the users to drop.")
    frame = pl.DataFrame([log.column(name).filter(keep) for name in columns])
    return EventLog([Part("the log", "frame", frame.lazy())], log.names, notes, text=log.text, keys=log.keys)


def _of_users(log: EventLog, column: str, users: Collection[Any]) -> tuple[pl.Series, str]:
    """([n] whether an event is of one of these users, a note)."""
    ids = clean_ids(log.column(column), "user", text=log.text)
    wanted = _like(list(dict.fromkeys(users)), ids)
    known = wanted.is_in(ids.unique().implode())
    if not known.any():
        names = ", ".join(repr(one) for one in wanted[:_IDS_SHOWN].to_list())
        raise DataError(
            f"No user to drop is in the log (found {names}); its user ids look like {ids.drop_nulls().first()!r}."
        )
    dropped = ids.is_in(wanted.implode()).fill_null(False)
    unknown = int((~known).sum())
    said = f"Dropped {counted(int(dropped.sum()), 'event')} of {counted(int(known.sum()), 'user')}, as asked."
    return dropped, said + (f" {counted(unknown, 'other user')} to drop had none." if unknown else "")


def _like(users: list[Any], ids: pl.Series) -> pl.Series:
    """The ids as a column of the log's type. Raises DataError for text where the log has numbers, and for numbers where
    it has text: these may be other users.
    """
    text = ids.dtype == pl.String
    odd = [one for one in users if not isinstance(one, str if text else int | np.integer) or isinstance(one, bool)]
    if odd:
        raise DataError(
            f"Found the user {odd[0]!r} to drop; the user ids of this log are {'text' if text else 'whole numbers'}, "
            f"such as {ids.drop_nulls().first()!r}."
        )
    wide = pl.Series("user", users if text else [int(one) for one in users], dtype=pl.String if text else pl.Int128)
    return wide.cast(ids.dtype, strict=False).drop_nulls()  # an id of another type is not in the log


def _between(log: EventLog, column: str, unit: Unit | None, choice: Choice) -> tuple[pl.Series, str]:
    """([n] whether an event is within the moments, a clause on the others)."""
    times = read_times(log.column(column), unit).milliseconds
    since, until = choice.bounds()
    inside = pl.repeat(True, len(times), eager=True)
    words = []
    if since is not None:
        inside &= times >= since
        words.append(f"before {choice.since}")
    if until is not None:
        inside &= times < until
        words.append(f"from {choice.until} on")
    said = " and ".join(words)
    if not inside.any():
        raise DataError(f"No event is left: all are {said.replace(' and ', ' or ')}; the log is {period(times)}.")
    return inside, said
