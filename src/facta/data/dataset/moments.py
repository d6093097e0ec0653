"""One moment -> int64 milliseconds since 1970 (UTC), without polars: `times` reads whole columns.

The size of a number tells its unit: seconds, milliseconds, microseconds and nanoseconds of the years 1973 to 2100 do
not overlap.
"""

from __future__ import annotations

import operator
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args

import numpy as np

from facta.errors import DataError

Time = int | str | date | datetime | np.datetime64
"""A moment: milliseconds since 1970, ISO 8601 text, a date, a datetime or NumPy's; without a zone it is UTC."""

Unit = Literal["s", "ms", "us", "ns"]
UNITS: tuple[Unit, ...] = get_args(Unit)
NAMES_OF_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
EARLIEST, LATEST = 10**8, 4_102_444_800  # seconds: March 1973 and the year 2100
FLOAT_SPACING_MS = 5e-4  # ms: twice the float64 spacing of times in seconds
YEAR_FIRST = re.compile(r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}")
_YEAR_1990_SECONDS = 631_152_000  # a number of an earlier year is rather a calendar, as 202611300928
_NUMBER = re.compile(r"\s*[0-9]{1,30}(\.[0-9]*)?\s*")
_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


def moment(time: Time) -> int:
    """One moment as milliseconds since 1970; finer times are cut, as in a column.

    Raises DataError for values that are no times, and for whole numbers that are not milliseconds of the years 1973 to
    2100, which are mostly of another unit. Write other years as text, dates or datetimes.
    """
    exact = _datetime(time)
    if exact is not None:
        return int((exact - _EPOCH) // _MILLISECOND)
    number = _whole(time)
    if number is None:
        raise _no_time(time)
    return _of_our_years(number)


def posted_moment(time: Any, unit: Unit | None = None) -> int:
    """A posted moment in milliseconds: text as in `moment`, or a number whose size tells its unit, as in a column;
    finer times are cut. `unit`: the unit of the log, for numbers that are too small to tell theirs.

    Raises DataError for values that are no times.
    """
    if isinstance(time, str):
        if _NUMBER.fullmatch(time):
            time = float(time) if "." in time else int(time)
        else:
            time = re.sub(r"\s*(UTC|GMT)$", "Z", time)
    if isinstance(time, bool):
        raise _no_time(time)
    if not isinstance(time, (int, float)):
        return moment(time)
    sized = next(
        (one for one in UNITS if _YEAR_1990_SECONDS * PER_SECOND[one] <= time < LATEST * PER_SECOND[one]), None
    )
    if sized is None and (unit is None or not 0 <= time < _YEAR_1990_SECONDS * PER_SECOND[unit]):
        raise DataError(
            f"Found the time {time}; expected an ISO time, as in 2000-12-31T23:59:59, or seconds, milliseconds, "
            "microseconds or nanoseconds since 1970, of the years 1990 to 2100."
        )
    scale = PER_SECOND[sized or unit or "ms"]
    return int(time * 1000 // scale) if isinstance(time, int) else int(time * (1000 / scale) + FLOAT_SPACING_MS)


def _no_time(time: Any) -> DataError:
    return DataError(
        f"Found the time {time!r}; expected milliseconds since 1970 or an ISO time, as in 2000-12-31T23:59:59."
    )


def _whole(time: Any) -> int | None:
    """Integers of Python, NumPy and torch; None for all else."""
    try:
        return operator.index(time)
    except TypeError:
        return None


def _of_our_years(milliseconds: int) -> int:
    if not EARLIEST * 1000 <= milliseconds < LATEST * 1000:
        raise DataError(
            f"Found the time {milliseconds}; expected milliseconds since 1970, of the years 1973 to 2100: "
            f"multiply Unix seconds by 1000, and write moments of other years as ISO text."
        )
    return milliseconds


def _datetime(time: Any) -> datetime | None:
    """A datetime with its zone; None for other values, NaT and years beyond 9999."""
    if isinstance(time, np.datetime64):
        time = time.astype("datetime64[ms]").item()
    elif isinstance(time, str):
        time = _iso(time)
    elif isinstance(time, date) and not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day)
    if not isinstance(time, datetime) or time != time:  # NaT of pandas is a datetime
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _iso(text: str) -> datetime | None:
    """Text with the year first and dashes; without dashes Python reads many numbers as times of other centuries."""
    if YEAR_FIRST.match(text) is None:
        return None
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None
