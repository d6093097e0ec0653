"""Whole numbers that spell a date, such as 2023111502 for 2 o'clock: read as Unix times they would be of other years.

Ten digits of the form YYYYMMDDHH are Unix seconds of 2034, twelve of the form YYYYMMDDHHMM milliseconds of 1976.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.arrays import Bools

_FIRST_VALUES = 1_000  # first values; all are looked at only if these spell moments
_LEAST_SHARE = 0.98  # share of values that must spell a moment; a Unix time does so only by chance
_LEAST_DISTINCT = 5  # without a century some Unix times spell a moment, five different ones do not


class _Form(NamedTuple):
    name: str
    parts: str  # what each pair of digits is, from the right
    century: bool

    @property
    def digits(self) -> int:
        return 2 * len(self.parts) + 2 * self.century


_FORMS = (
    _Form("YYYYMMDD", "dmy", century=True),
    _Form("YYYYMMDDHH", "hdmy", century=True),
    _Form("YYYYMMDDHHMM", "nhdmy", century=True),
    _Form("YYYYMMDDHHMMSS", "snhdmy", century=True),
    _Form("YYMMDDHHMM", "nhdmy", century=False),
    _Form("YYMMDDHHMMSS", "snhdmy", century=False),
)
_RANGES = {"s": (0, 60), "n": (0, 59), "h": (0, 23), "d": (1, 31), "m": (1, 12)}


def calendar_form(numbers: pl.Series) -> str | None:
    """The form, such as "YYYYMMDDHH", in which [n] numbers spell moments of 1970 to 2100; None where they do not."""
    head = _positive(numbers.head(_FIRST_VALUES))
    for form in _FORMS:
        if _spelled(head, form) and _spelled(_positive(numbers), form):
            return form.name
    return None


def _positive(numbers: pl.Series) -> npt.NDArray[np.int64]:
    """Whole numbers above 0: 0 and missing ones often stand for no time. Empty where a number is broken."""
    if numbers.dtype.is_float():
        numbers = numbers.fill_nan(None)
        if not bool((numbers == numbers.round()).all()):
            return np.empty(0, dtype=np.int64)
    whole = numbers.cast(pl.Int64, strict=False).drop_nulls().to_numpy()
    found: npt.NDArray[np.int64] = whole[whole > 0]
    return found


def _spelled(numbers: npt.NDArray[np.int64], form: _Form) -> bool:
    if not len(numbers) or (not form.century and len(np.unique(numbers[:_FIRST_VALUES])) < _LEAST_DISTINCT):
        return False
    return float(_valid(numbers, form).mean()) >= _LEAST_SHARE


def _valid(numbers: npt.NDArray[np.int64], form: _Form) -> Bools:
    """[n] which numbers have the digits of the form, and in them a possible date and hour."""
    valid = (numbers >= 10 ** (form.digits - 1)) & (numbers < 10**form.digits)
    rest = numbers
    for part in form.parts[:-1]:
        rest, value = np.divmod(rest, 100)
        low, high = _RANGES[part]
        valid &= (value >= low) & (value <= high)
    found: Bools = valid & (rest >= 1970) & (rest < 2100) if form.century else valid
    return found
