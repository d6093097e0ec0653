"""Text labels of truth values: `Y` and `N`, `t` and `f`, `yes` and `no`, `True` and `False`, `1` and `0`."""

from __future__ import annotations

import polars as pl

_PAIRS = (("true", "false"), ("t", "f"), ("yes", "no"), ("y", "n"), ("1", "0"))


def are_labels(column: pl.Series, *, allow_none: bool = False) -> bool:
    """Whether the values of a text column are one or both labels of a pair; blanks are missing.

    `allow_none`: a column without a value may still become one.
    """
    found = set(_plain(column).drop_nulls().unique())
    return any(found <= set(pair) for pair in _PAIRS) and (allow_none or bool(found))


def truth(column: pl.Series) -> tuple[pl.Series, str]:
    """A column of labels as truth values, and a note on which label is success."""
    values = _plain(column)
    found = set(values.drop_nulls().unique())
    yes, no = next(pair for pair in _PAIRS if found <= set(pair))
    said = column.drop_nulls().unique().sort().str.strip_chars()
    named = {label: next((text for text in said if text.lower() == label), label) for label in (yes, no)}
    note = f"'{column.name}' was read as binary: '{named[yes]}' is 1 and '{named[no]}' is 0."
    return (values == yes).alias(column.name), note


def _plain(column: pl.Series) -> pl.Series:
    column = column.str.strip_chars().str.to_lowercase()
    return column.set(column == "", None) if (column == "").any() else column
