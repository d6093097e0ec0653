"""Undeclared columns: which become feedback, and which only look like it.

An undeclared column is kept if its values can be feedback. Line numbers, a second time or the name of a folder are
numbers too, and a model would learn to predict them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import polars as pl

from facta.data.dataset.calendar_numbers import calendar_form
from facta.data.dataset.codes import defined
from facta.data.dataset.columns import bounds
from facta.data.dataset.schema import ACTIONS, ALIASES, Field, FieldConfig, plain
from facta.data.log.events import EventLog
from facta.data.log.fields import is_field
from facta.data.log.labels import are_labels

_INDEX = re.compile(r"(unnamed\d*|index|(index)?level\d+|row(number|num|nr|index|id)?|linenumber|)")
_LEAST_EVENTS = 20  # in fewer events a column without repetitions may be feedback
_FIRST_VALUES = 1_000
_WEB, _CENTURY = 631_152_000, 4_102_444_800  # seconds: the years 1990 and 2100
_UNITS = (1, 10**3, 10**6, 10**9)


def undeclared(log: EventLog, mapping: Mapping[str, str]) -> dict[str, FieldConfig]:
    """The columns that may be feedback by their types and first values, as declarations."""
    rest = [name for name in log.columns if name not in mapping.values() and name not in log.keys]
    return {name: FieldConfig() for name in rest if is_field(name, log.types[name]) or _labels(log, name)} | {
        name: FieldConfig() for name in log.keys if is_field(name, log.types[name]) and log.types[name] == pl.String
    }


def _labels(log: EventLog, name: str) -> bool:
    """Whether the first values of a text column are two labels such as Y and N."""
    return log.types[name] == pl.String and all(
        are_labels(part.head(name, _FIRST_VALUES).cast(pl.String), allow_none=True) for part in log.parts
    )


def no_feedback(column: pl.Series) -> str | None:
    """Why an undeclared column is no feedback, as a clause; None if it may be."""
    if column.dtype == pl.String and plain(column.name) not in ACTIONS and not are_labels(column):
        return "which is text and no pair of labels such as Y and N"
    if not column.dtype.is_numeric():
        return None
    if column.dtype.is_integer() and (_INDEX.fullmatch(plain(column.name)) or _counts(column)):
        return "which numbers the lines"
    if plain(column.name).endswith("id") and len(column) >= _LEAST_EVENTS and column.n_unique() == len(column):
        return "which differs in every event, so it is an id"
    if _is_time(column):
        return "which holds times"
    return None


def _counts(column: pl.Series) -> bool:
    """Whether whole numbers ascend from line to line, or are a permutation of 0 … n-1 (or 1 … n).

    The first values are checked before all of them.
    """
    if len(column) < _LEAST_EVENTS or column.null_count():
        return False
    if _ascend(column.head(_FIRST_VALUES)) and _ascend(column):
        return True
    low, high = bounds(column) or (0, 0)
    return low in (0, 1) and high - low + 1 == len(column) and column.n_unique() == len(column)


def _ascend(column: pl.Series) -> bool:
    """Whether each whole number is above the one before, or almost always by 1, as joined files begin anew."""
    steps = column.cast(pl.Int64, strict=False).diff().drop_nulls()
    return bool((steps > 0).all()) or float((steps == 1).mean() or 0.0) > 0.9  # type: ignore[arg-type]


def _is_time(column: pl.Series) -> bool:
    if plain(column.name) in {plain(alias) for alias in ALIASES["timestamp"]}:
        return True
    return _holds_times(column.head(_FIRST_VALUES)) and _holds_times(column)


def _holds_times(column: pl.Series) -> bool:
    """Whether all values are times; 0 and negative ones often stand for "never"."""
    present = column.filter(column > 0)
    low, high = bounds(present) or (0, 0)
    if any(low >= _WEB * unit and high < _CENTURY * unit for unit in _UNITS):
        return True
    return len(present) > 0 and calendar_form(present) is not None


def unclear(field: Field, values: npt.NDArray[Any]) -> list[str]:
    """Notes on feedback [n] without a declared success."""
    if field.role != "feedback":
        return []
    present = values[defined(field, values)]
    low, high = (present.min(), present.max()) if len(present) else (0, 0)
    if (
        field.kind == "numeric"
        and not field.positives
        and low < high
        and bool(((present == low) | (present == high)).all())
    ):
        return [
            f"'{field.name}' is {low:g} or {high:g} and nothing says which of them is success, so no rate and no NE "
            f'can be computed; declare it: {{"fields": {{"{field.name}": {{"positive": ">= {high:g}"}}}}}} (--schema).'
        ]
    if field.kind == "binary" and low == high == 1 and len(present) < len(values):
        return [
            f"'{field.name}' is 1 or missing, and a missing value is unknown, not 0: a model would predict 1 for all "
            "events; write 0 where nothing happened."
        ]
    return []
