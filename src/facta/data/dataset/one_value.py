"""One value of a field as in a log or a request, without polars (`raw.py` reads columns).

None is undefined.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import date
from typing import Any

import numpy as np

from facta.data.dataset.moments import moment
from facta.data.dataset.schema import Field
from facta.errors import DataError


def check(field: Field, value: Any) -> None:
    """Raise DataError for a value of another type than the field's. Unknown categories and levels are of its type."""
    if field.kind == "categorical":
        category_code(field, value)
    elif (found := number(field, value)) not in (0, 1) and found == found and field.kind == "binary":
        raise not_binary(field, found)


def category_code(field: Field, value: Any) -> int:
    """The code of a category, 0 for an unknown one; numbers and truth values are named as in the log."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value != value:
        return 0
    if not isinstance(value, (str, bool, int, float)):
        raise unlike(field, value)
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    known = field.categories or ()
    place = bisect_left(known, str(value))  # they are sorted
    return place + 1 if known[place : place + 1] == (str(value),) else 0


def number(field: Field, value: Any) -> float:
    """A value as a number, NaN if undefined. Raises DataError for other values."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None:
        return float("nan")
    if isinstance(value, date):
        return float(moment(value))
    if not isinstance(value, (int, float)):  # a truth value is an int too
        raise unlike(field, value)
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        raise unlike(field, value) from None


def unlike(field: Field, value: Any) -> DataError:
    expected = "a text" if field.kind == "categorical" else "0, 1" if field.kind == "binary" else "a number"
    return DataError(f"Found {value!r} for '{field.name}', which is {field.kind}; expected {expected} or nothing.")


def not_binary(field: Field, found: float) -> DataError:
    return DataError(f"Found {found:g} for '{field.name}', which is binary; expected 0, 1 or nothing.")
