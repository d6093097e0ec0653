"""Raw values of fields, as in a log or a request (None is undefined): to codes, and from stored values.

Letters: n values.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from facta.arrays import Floats, Floats32, Ints
from facta.data.dataset.codes import codes, defined, values_of
from facta.data.dataset.ids import plain_value
from facta.data.dataset.one_value import category_code, not_binary, number, unlike
from facta.data.dataset.schema import Field
from facta.errors import DataError, UnknownValueWarning


def raw_values(field: Field, stored: npt.NDArray[Any]) -> list[Any]:
    """[n] stored values -> [n] numbers, or the texts of categories."""
    plain = [value if there else None for value, there in zip(stored.tolist(), defined(field, stored), strict=True)]
    if field.kind != "categorical":
        return plain
    return [None if code is None else (field.categories or ())[code] for code in plain]


def raw_of_codes(field: Field, found: Ints) -> list[Any]:
    """[n] codes -> [n] values with these codes: a bucket's lower boundary; for the first bucket a number below all."""
    values = values_of(field)
    if field.kind == "numeric":
        values[0] = float(np.nextafter(field.boundaries[0], -np.inf)) if field.boundaries else 0.0
    return [None if code == 0 else values[code - 1] for code in found.tolist()]


def raw_codes(field: Field, values: Sequence[Any]) -> Ints:
    """[n] values -> [n] codes; a category or a level that the field does not know is undefined.

    Raises DataError for values of another type than the field's.
    """
    if field.kind == "categorical":
        return np.array([category_code(field, value) for value in values], dtype=np.int64)
    numbers = _numbers(field, values)
    if field.kind == "binary" and (odd := numbers[~np.isin(numbers, (0, 1)) & ~np.isnan(numbers)]).size:
        raise not_binary(field, odd[0])
    if field.kind == "ordinal":
        numbers = np.where(np.isin(numbers, np.asarray(field.levels, dtype=numbers.dtype)), numbers, np.nan)
    return codes(field, numbers)


def coded(one: Field, values: Sequence[Any], where: str) -> Ints:
    """[n] codes of values. Warns of a value unknown to the field, which is read as undefined."""
    found = raw_codes(one, values)
    for place in np.flatnonzero(found == 0).tolist():
        if (value := plain_value(values[place])) is not None and value == value:  # NaN is undefined on purpose
            known = [str(value) for value in one.categories or one.levels or ()]
            warnings.warn(
                f"Found {one.name}={value} in {where}; no event of this artifact's data has it, so it is read as "
                f"undefined. Known: {', '.join(known[:8])}{', …' if len(known) > 8 else ''}.",
                UnknownValueWarning,
                stacklevel=2,
            )
            break
    return found


def value_in_series(one: Field, stored: np.generic) -> Any:
    """A stored value of a series as in a log."""
    if one.kind == "numeric" and stored.dtype.kind == "f":
        return None if np.isnan(stored) else stored.item()
    return raw_of_codes(one, np.array([stored], dtype=np.int64))[0]


def refuse_unknown(given: Iterable[str], known: Sequence[Field], what: str) -> None:
    names = [one.name for one in known]
    for name in given:
        if name not in names:
            raise DataError(
                f"Found '{name}' among the {what}; the data that this artifact was trained on has: "
                f"{', '.join(names) or 'none'}."
            )


def from_text(field: Field, text: str) -> Any:
    """The value of a command-line text. Raises DataError where the field holds numbers and the text is none."""
    if field.kind == "categorical":
        return text
    try:
        return float(text)
    except ValueError:
        raise unlike(field, text) from None


def _numbers(field: Field, values: Sequence[Any]) -> Floats | Floats32:
    """[n], NaN where undefined; rounded to the stored width, so that a number and its stored value get one code."""
    width = np.float32 if field.dtype == "float32" else np.float64
    numbers = np.array([number(field, value) for value in values], dtype=width)
    return np.where(np.isinf(numbers), np.nan, numbers)
