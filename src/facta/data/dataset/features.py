"""Columns of the item and user tables as codes.

Letters: V items (or users), C codes of a field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from facta import jagged
from facta.arrays import AnyInts, Floats
from facta.data.dataset.codes import codes
from facta.data.dataset.columns import as_text
from facta.data.dataset.schema import Field, Kind
from facta.errors import ConfigError


@dataclass(frozen=True)
class Feature:
    """One feature of every item, or one fact of every user."""

    field: Field
    values: Tensor  # [V] codes; multi: [n] codes, items: [n] rows + 1, both jagged; vector: [V, width] float32
    offsets: Tensor | None = None  # [V+1] of the jagged ones


def feature(described: Field, column: pl.Series) -> Feature:
    """A column in codes; a value outside of the description is undefined."""
    match described.kind:
        case "vector":
            return Feature(described, _vectors(column, described.width or 0))
        case "multi":
            lists = texts(column)
            lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
            return Feature(described, _categories(described, flat(lists)), jagged.offsets_of(torch.from_numpy(lengths)))
        case "categorical":
            return Feature(described, _categories(described, as_text(column)))
        case kind:
            return Feature(described, torch.from_numpy(codes(described, numbers(column, kind))))


def listed(described: Field, offsets: AnyInts, item: AnyInts) -> Feature:
    """A fact of all users that is a list of items: [U+1], [n] catalogue rows -> codes, which are rows + 1."""
    return Feature(described, torch.from_numpy(item.astype(np.int64)) + 1, torch.from_numpy(offsets.astype(np.int64)))


def texts(column: pl.Series) -> pl.Series:
    """A multi-valued column as lists of texts; `A|B` is two, and empty text is none."""
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
        return column.set(column == "", None).str.split("|")
    if not isinstance(column.dtype, (pl.List, pl.Array)):
        return as_text(column).str.split("|")  # for tables without missing values
    return column.cast(pl.List(pl.String))


def flat(lists: pl.Series) -> pl.Series:
    """The values of all lists, one after the other."""
    return lists.filter(lists.list.len() > 0).explode()


def numbers(column: pl.Series, kind: Kind) -> Floats:
    """[V] numbers, NaN where missing; dates are milliseconds."""
    if column.dtype in (pl.Date, pl.Datetime):
        column = column.cast(pl.Datetime("ms")).cast(pl.Int64)
    found = None
    if not isinstance(column.dtype, (pl.List, pl.Array, pl.Struct)):
        found = column.cast(pl.Float64, strict=False)
    if found is None or found.null_count() > column.null_count():
        raise ConfigError(f"'{column.name}' is declared as {kind} and holds {column.dtype}; expected numbers.")
    values: Floats = found.fill_null(float("nan")).to_numpy()
    return np.where(np.isinf(values), np.nan, values)


def _vectors(column: pl.Series, width: int) -> Tensor:
    """[V] lists -> [V, width]; zeros for a missing list."""
    lists = column.cast(pl.List(pl.Float32))
    lists = pl.select(pl.coalesce(lists, pl.lit([0.0] * width, dtype=pl.List(pl.Float32)))).to_series()
    return torch.from_numpy(flat(lists).to_numpy().reshape(len(column), width).copy())


def _categories(described: Field, column: pl.Series) -> Tensor:
    """[n] texts -> [n] codes."""
    known = pl.Series(list(described.categories or ()), dtype=pl.String)
    code = pl.Series(np.arange(1, len(known) + 1))
    found = column.replace_strict(known, code, default=0, return_dtype=pl.Int64) if len(known) else column.is_null() * 0
    return torch.from_numpy(found.fill_null(0).to_numpy().astype(np.int64))
