"""Polars columns for data/: finite numbers, category texts, levels, SQL conditions.

Letters: n events of a log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.errors import ConfigError

MOST_CATEGORIES = 100_000  # a text column with more distinct values is free text or an id

MOST_LEVELS = 1000

Array = npt.NDArray[Any]


def condition(name: str, text: str) -> pl.Expr:
    """The condition under which a field is undefined, an SQL expression over columns of the log. Raises ConfigError."""
    try:
        found = pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        raise _no_condition(name, text, str(error)) from error
    if not found.meta.root_names():
        raise _no_condition(name, text, "no column in it")
    return found


def holds(name: str, text: str, column: Callable[[str], pl.Series]) -> pl.Series:
    """[n] whether a condition holds over the columns that `column` reads; unknown (null) counts as no.

    Raises ConfigError.
    """
    expression = condition(name, text)
    frame = pl.DataFrame([column(one) for one in expression.meta.root_names()])
    try:
        held = frame.select(expression).to_series()
    except pl.exceptions.PolarsError as error:
        raise _no_condition(name, text, str(error).partition("\n")[0]) from error
    if held.dtype != pl.Boolean or len(held) != len(frame):
        raise _no_condition(name, text, f"its value is {held.dtype}")
    return held.fill_null(False)


def _no_condition(name: str, text: str, why: str) -> ConfigError:
    return ConfigError(
        f"Found undefined = {text!r} for '{name}' ({why}); "
        "expected a condition on columns of the log, as in 'click = 0'."
    )


def finite(column: pl.Series) -> tuple[pl.Series, list[str]]:
    """A column without NaN and infinite values, and notes on missing ones; whole numbers written with decimals become
    integers, all others Float64.
    """
    notes = []
    if column.dtype.is_float() or column.dtype.is_decimal():
        column = column.cast(pl.Float64).fill_nan(None)
    if missing := column.null_count():
        notes.append(f"{missing:,} missing values of '{column.name}' are stored as undefined.")
    if column.dtype == pl.Float64:
        endless = int(column.is_infinite().sum())
        if endless:
            notes.append(f"{endless:,} infinite values of '{column.name}' are stored as undefined.")
            column = column.set(column.is_infinite(), None)
        if _whole(column):
            column = column.cast(pl.Int64)
    return column, notes


def as_text(column: pl.Series) -> pl.Series:
    """Names of categories: text as it is, 1.0 as 1."""
    return (finite(column)[0] if column.dtype.is_float() else column).cast(pl.String)


def bounds(column: pl.Series) -> tuple[Any, Any] | None:
    """(least, greatest) value of a column; None where it has none."""
    low, high = column.min(), column.max()
    return None if low is None or high is None else (low, high)


def levels(name: str, values: Array) -> tuple[float, ...]:
    """The distinct ones of [n] values, ascending. Raises ConfigError for more than levels can be."""
    found = np.unique(values)
    if len(found) > MOST_LEVELS:
        raise ConfigError(
            f"'{name}' is declared as ordinal and has {len(found):,} distinct values; "
            f"expected at most {MOST_LEVELS:,}: declare it as numeric."
        )
    return tuple(float(value) for value in found)


def _whole(column: pl.Series) -> bool:
    return bool((column == column.round()).all() and (column.abs() < 2**53).all()) and column.null_count() < len(column)
