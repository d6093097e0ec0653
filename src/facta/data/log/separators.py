"""Separators of text columns with several values, which are stored with `|` between the values."""

from __future__ import annotations

import polars as pl

from facta.data.dataset.schema import FeatureConfig

_SAFE, _LOOSE = (";", ","), " "
_LIST = r"^\s*[\[(].*[\])]\s*$"
_BRACKETS = "[]()\"' "
STORED = "|"


def means_list(name: str, declared: FeatureConfig) -> FeatureConfig:
    """The declaration of a column; without a declared kind, RecBole's `:token_seq` makes it a list."""
    if declared.kind is None and name.endswith("token_seq"):
        return declared.change(kind="multi")
    return declared


def parted(column: pl.Series, declared: FeatureConfig) -> tuple[pl.Series, list[str]]:
    """A column of text with `|` between its values, and a note if another separator was found.

    The separator is the declared one, or the likeliest one by the values.
    """
    if column.dtype != pl.String:
        return column, []
    listed = _is_list(column)
    separator = declared.separator or ("," if listed else _told(column))
    if separator == STORED and not listed:
        return column, []
    values = _pieces(column, separator, listed).list.join(STORED)
    count = values.filter(values != "").str.split(STORED).explode().n_unique()
    note = (
        f"'{column.name}' was parted at {separator!r} into {count:,} distinct values; if that is wrong, declare its "
        'separator: {"kind": "multi", "separator": "|"}.'
    )
    return values.alias(column.name), [] if declared.separator else [note]


def _is_list(column: pl.Series) -> bool:
    """Whether the values are written as lists, such as ['Drama', 'War']."""
    present = column.drop_nulls()
    return bool(len(present)) and bool(present.str.contains(_LIST).all())


def _told(column: pl.Series) -> str:
    """The likeliest separator by the values.

    A comma or a semicolon is a separator if some values then repeat. Names contain blanks too, so a blank is one only
    if it leaves at most half as many distinct values as distinct texts, or if the column has RecBole's name for lists.
    """
    present = column.drop_nulls()
    if column.name.endswith("token_seq"):
        return _LOOSE
    if present.str.contains(STORED, literal=True).any():
        return STORED
    for separator in (*_SAFE, _LOOSE):
        if present.str.contains(separator, literal=True).any():
            pieces = _pieces(present, separator, listed=False).explode().drop_nulls()
            distinct = pieces.n_unique()
            enough = len(pieces) - 1 if separator in _SAFE else present.n_unique() // 2
            if distinct <= enough:
                return separator
    return STORED


def _pieces(column: pl.Series, separator: str, listed: bool) -> pl.Series:
    """[n] lists of values without blanks around them."""
    strip = _BRACKETS if listed else " "
    pieces = column.str.strip_chars(_BRACKETS) if listed else column
    lists = pieces.str.split(separator).list.eval(pl.element().str.strip_chars(strip))
    return lists.list.eval(pl.element().filter(pl.element() != ""))
