"""Timestamps of any kind -> int64 milliseconds since 1970 (UTC). The unit is detected and named, never averaged.

The size of a number tells its unit: seconds, milliseconds, microseconds and nanoseconds of the years 1973 to 2100 do
not overlap. Smaller numbers are ambiguous, so their unit must be given.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from facta.data.dataset.calendar_numbers import calendar_form
from facta.data.dataset.columns import bounds
from facta.data.dataset.moments import EARLIEST, FLOAT_SPACING_MS, LATEST, PER_SECOND, UNITS, YEAR_FIRST
from facta.data.dataset.moments import NAMES_OF_UNITS as _NAMES
from facta.data.dataset.moments import Time as Time
from facta.data.dataset.moments import Unit as Unit
from facta.data.dataset.moments import moment as moment
from facta.errors import DataError, counted


@dataclass(frozen=True)
class Times:
    """Milliseconds, the unit of the source, and how many values were no times (they are null)."""

    milliseconds: pl.Series  # [n] Int64
    unit: str
    bad: int
    why: str  # the sentence about the bad ones; "" if none
    finer: bool  # the source is finer than milliseconds


def to_milliseconds(times: pl.Series, unit: str | None = None) -> Times:
    """Convert a column [n] of numbers, ISO 8601 text, dates or datetimes; naive text and datetimes are UTC.

    Raises DataError for mixed units, undetectable ones, and columns that hold no times. Missing values, negative ones
    and ones beyond the year 2100 are counted and become null: the caller refuses or drops them.
    """
    check_unit(unit)
    if times.dtype == pl.String:
        times = _from_text(times)
    if times.dtype in (pl.Datetime, pl.Date):
        if unit is not None:
            raise DataError(f"Column '{times.name}' holds dates, which need no unit; leave unit='{unit}' out.")
        return _from_dates(times)
    if not times.dtype.is_numeric():
        raise DataError(
            f"Column '{times.name}' has type {times.dtype}; expected times: numbers, ISO 8601 text or datetimes."
        )
    return _from_numbers(times.fill_nan(None) if times.dtype.is_float() else times, unit)


def read_times(raw: pl.Series, unit: str | None) -> Times:
    """The times [n] of a log, all there. Raises DataError as `to_milliseconds` does, and for missing or impossible
    ones."""
    times = to_milliseconds(raw, unit)
    if times.bad:
        raise DataError(f"{times.why}; correct them, or drop those events with drop=('invalid',) (--drop invalid).")
    return times


def check_unit(unit: str | None) -> None:
    if unit is not None and unit not in UNITS:
        raise DataError(f"Found the unit '{unit}'; valid units: {', '.join(UNITS)}.")


def _from_text(times: pl.Series) -> pl.Series:
    present = times.drop_nulls()
    for kind in (pl.Int64, pl.Float64):
        numbers = times.cast(kind, strict=False)
        if len(present) and numbers.null_count() == times.null_count():
            return numbers
    odd = present.filter(~present.str.contains(YEAR_FIRST.pattern))
    if len(odd):
        raise DataError(
            f"Column '{times.name}' has {len(odd):,} times that are no ISO 8601 text, such as '{odd[0]}'; "
            f"expected all numbers, or all like 2024-05-31T12:00:00Z."
        )
    said = times.str.strip_chars().str.replace(r"\s*(UTC|GMT)$", "Z").str.replace(r"\s+([+-][0-9]{2}:?[0-9]{2})$", "$1")
    zoned = said.drop_nulls().str.contains(r"(Z|[+-][0-9]{2}:?[0-9]{2})$")
    if zoned.any() and not zoned.all():
        raise DataError(f"Column '{times.name}' has times with and without a time zone; give all or none of them one.")
    try:
        found = said.str.to_datetime(time_unit="us", strict=False)
    except pl.exceptions.PolarsError:
        found = pl.Series(times.name, [None] * len(times), dtype=pl.Datetime("us"))
    unread = times.filter(found.is_null() & times.is_not_null())
    if len(unread):
        raise DataError(
            f"Column '{times.name}' has {counted(len(unread), 'time')} that cannot be read, such as '{unread[0]}'; "
            "expected ISO 8601 text, as in 2024-05-31T12:00:00Z."
        )
    return found


def _from_dates(times: pl.Series) -> Times:
    milliseconds = times.cast(pl.Datetime("ms", getattr(times.dtype, "time_zone", None))).cast(pl.Int64)
    micro = isinstance(times.dtype, pl.Datetime) and times.dtype.time_unit != "ms"
    finer = micro and bool((times.dt.microsecond() % 1000 != 0).any())
    _, high = bounds(milliseconds) or (0, EARLIEST * 1000)
    if high < EARLIEST * 1000:
        raise DataError(
            f"All dates of column '{times.name}' lie before March 1973 ({period(milliseconds)}), as numbers do that "
            "were turned into dates by a wrong unit; convert them with their own unit, or give the numbers."
        )
    return _checked(milliseconds, "datetime", EARLIEST * 1000, LATEST * 1000, finer, times.name)


def _from_numbers(times: pl.Series, unit: str | None) -> Times:
    declared = unit is not None
    _refuse_calendar(times)
    unit = unit or _detect(times)
    _refuse_narrow(times, unit)
    scale = PER_SECOND[unit]
    if times.dtype.is_float():
        exact = times * (1000 / scale)
        milliseconds = (exact + FLOAT_SPACING_MS).floor().cast(pl.Int64, strict=False)  # cut, as whole numbers are
        finer = bool(((exact - exact.round()).abs() > FLOAT_SPACING_MS).any())
    else:
        times = times.cast(pl.Int64, strict=False)
        milliseconds = times * (1000 // scale) if scale <= 1000 else times // (scale // 1000)
        finer = scale > 1000 and bool((times % (scale // 1000) != 0).any())
    earliest = 0 if declared else EARLIEST * 1000
    return _checked(milliseconds, unit, earliest, LATEST * 1000, finer, times.name)


def _refuse_calendar(times: pl.Series) -> None:
    form = calendar_form(times)
    if form is not None:
        raise DataError(
            f"The numbers of column '{times.name}', such as {_shown(times)}, spell a calendar ({form}) and are no Unix "
            "times; write them as ISO 8601 text, as in 2024-05-31T12:00:00, or as Unix seconds."
        )


def _refuse_narrow(times: pl.Series, unit: str) -> None:
    """Float32 has 24 bits: Unix seconds of this century are 128 apart in it."""
    width = _DIGITS.get(str(times.dtype))
    if width is None:
        return
    largest = max(abs(float(value)) for value in bounds(times) or (0, 0))
    if largest >= 2**width:
        apart = 2 ** (int(np.floor(np.log2(largest))) - width + 1)
        raise DataError(
            f"Column '{times.name}' has times as {times.dtype}, which cannot tell {_NAMES[unit]} of this size apart "
            f"(neighbouring values differ by {apart:,}); write them as Int64 or Float64, from where they are exact."
        )


_DIGITS = {"Float16": 11, "Float32": 24}
_SCIENTIFIC = r"^\s*[-+]?[0-9]+([.,][0-9]*)?[eE]\+?[0-9]+\s*$"


def refuse_lost_digits(written: pl.Series) -> None:
    """Raise DataError where numbers of a text file are written as 1.70008E+09, with fewer digits than they have."""
    odd = written.filter(written.str.contains(_SCIENTIFIC))
    digits = odd.str.replace(r"[eE].*$", "").str.replace_all(r"[^0-9]", "").str.len_chars().cast(pl.Int64)
    exponent = odd.str.extract(r"[eE]\+?([0-9]+)", 1).cast(pl.Int64, strict=False)
    short = odd.filter((digits - 1 < exponent).fill_null(True))
    if len(short):
        raise DataError(
            f"Column '{written.name}' has {counted(len(short), 'time')} such as {short[0].strip()}, with fewer digits "
            "than the number has, as spreadsheets write them; export whole numbers or ISO 8601 text."
        )


def period(milliseconds: pl.Series) -> str:
    """ "from 2023-11-15 to 2023-11-30": the days of the first and last time."""
    low, high = (datetime.fromtimestamp(int(value) / 1000, UTC).date() for value in bounds(milliseconds) or (0, 0))
    return f"from {low} to {high}"


def _shown(times: pl.Series) -> str:
    value = times.drop_nulls()[0]
    return str(int(value))


def _detect(times: pl.Series) -> Unit:
    """The only unit in which values are times of 1973 to 2100. The range check reports values that fit no unit."""
    low, high = bounds(times) or (0, 0)
    for unit in UNITS:  # the usual case: two passes, no masks
        if low >= EARLIEST * PER_SECOND[unit] and high < LATEST * PER_SECOND[unit]:
            return unit
    counts = {unit: _inside(times, unit) for unit in UNITS}
    found = [unit for unit in UNITS if counts[unit]]
    if not found:
        raise DataError(
            f"The unit of column '{times.name}' cannot be told from values of {low} to {high}; "
            f"give it with unit= (--unit): one of {', '.join(UNITS)}; "
            f"if it is no time, say so with columns={{'timestamp': ''}} (--column timestamp=)."
        )
    if len(found) > 1:
        amounts = " and ".join(f"{_NAMES[unit]} ({counts[unit]:,})" for unit in found)
        raise DataError(f"Column '{times.name}' mixes {amounts}; convert it to one unit.")
    return found[0]


def _inside(times: pl.Series, unit: Unit) -> int:
    scale = PER_SECOND[unit]
    return int(((times >= EARLIEST * scale) & (times < LATEST * scale)).sum())


def _checked(milliseconds: pl.Series, unit: str, earliest: int, latest: int, finer: bool, name: str) -> Times:
    """Count missing and out-of-range values, and make them null."""
    missing = milliseconds.null_count()
    low, high = bounds(milliseconds) or (earliest, earliest)
    reasons = [counted(missing, "missing time")] if missing else []
    if low < earliest or high >= latest:
        early, late = int((milliseconds < earliest).sum()), int((milliseconds >= latest).sum())
        reasons += [f"{counted(early, 'time')} before {'1970' if earliest == 0 else '1973'}"] if early else []
        reasons += [f"{counted(late, 'time')} beyond the year 2100"] if late else []
        milliseconds = milliseconds.set((milliseconds < earliest) | (milliseconds >= latest), None)
    why = f"Column '{name}' has {' and '.join(reasons)} (read as {_NAMES.get(unit, 'dates')})" if reasons else ""
    return Times(milliseconds, unit, milliseconds.null_count(), why, finer)
