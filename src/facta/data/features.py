"""Columns of the item and user tables: what they are, as declared and told by their values, and their codes.

Letters: V items (or users), C codes of a field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from facta import jagged
from facta.arrays import AnyInts, Floats
from facta.data.codes import codes, quantiles
from facta.data.fields import MOST_CATEGORIES, as_text, bounds, levels
from facta.data.schema import FeatureConfig, Field, Kind, Role
from facta.errors import ConfigError, DataError


@dataclass(frozen=True)
class Feature:
    """One feature of every item, or one fact of every user."""

    field: Field
    values: Tensor  # [V] codes; multi: [n] codes, items: [n] rows + 1, both jagged; vector: [V, width] float32
    offsets: Tensor | None = None  # [V+1] of the jagged ones


def describe_all(table: pl.DataFrame, declared: Mapping[str, FeatureConfig], role: Role) -> tuple[Field, ...]:
    """The descriptions of declared columns. Raises DataError for one that is not there, ConfigError as `describe`."""
    check_columns(table.columns, declared, role)
    return tuple(describe(table[name], one, role) for name, one in declared.items())


def check_columns(columns: list[str], declared: Mapping[str, FeatureConfig], role: Role) -> None:
    ours = ("row", f"{role}_id")
    there = [name for name in columns if name not in ours]
    for name in declared:
        if name not in there:
            raise DataError(f"The {role} table has no column '{name}'; it has: {', '.join(there) or 'ids alone'}.")


def describe(column: pl.Series, declared: FeatureConfig, role: Role) -> Field:
    """What a column [V] is. Raises ConfigError where it is not what is declared."""
    kind = declared.kind or told_by(column)
    field = Field(name=column.name, role=role, kind=kind, dtype=str(column.dtype))
    if declared.boundaries is not None and kind != "numeric":
        raise ConfigError(f"Found boundaries for '{column.name}', which is {kind}; only numeric columns have buckets.")
    if kind == "items" or (kind in ("multi", "vector") and role != "item"):
        raise ConfigError(f"'{column.name}' is {kind}, which no column of this table can be; declare another kind.")
    match kind:
        case "vector":
            return field.change(width=_width(column))
        case "multi":
            return field.change(categories=_named(flat(texts(column)), column.name))
        case "categorical":
            return field.change(categories=_named(as_text(column), column.name))
        case "ordinal":
            return field.change(levels=levels(column.name, _present(column, kind)))
        case "numeric":
            if declared.boundaries is not None:
                return field.change(boundaries=declared.boundaries)
            return field.change(boundaries=quantiles(_present(column, kind)), quantiles=True)
        case _:
            if not np.isin(_present(column, kind), (0, 1)).all():
                raise ConfigError(f"'{column.name}' is declared as binary and holds other values than 0 and 1.")
            return field


def told_by(column: pl.Series) -> Kind:
    """The kind that the values of a column tell."""
    kind = column.dtype
    if isinstance(kind, (pl.List, pl.Array)):
        return "vector" if kind.inner.is_float() else "multi"
    if kind in (pl.String, pl.Categorical, pl.Enum):
        return "categorical"
    low, high = bounds(column) or (0, 0)
    if kind == pl.Boolean or (kind.is_integer() and low >= 0 and high <= 1):
        return "binary"
    return "numeric"


def feature(described: Field, column: pl.Series) -> Feature:
    """A column in codes; what the description does not know is undefined."""
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
    """A fact of all users that is a list of items: [U+1], [n] catalogue rows -> rows + 1, as codes count."""
    return Feature(described, torch.from_numpy(item.astype(np.int64)) + 1, torch.from_numpy(offsets.astype(np.int64)))


def texts(column: pl.Series) -> pl.Series:
    """A multi-valued column as lists of texts; `A|B` is two, and empty text is none."""
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
        return column.set(column == "", None).str.split("|")
    if not isinstance(column.dtype, (pl.List, pl.Array)):
        return as_text(column).str.split("|")  # of a table whose every line has one
    return column.cast(pl.List(pl.String))


def flat(lists: pl.Series) -> pl.Series:
    """The values of all lists, one after the other."""
    return lists.filter(lists.list.len() > 0).explode()


def _named(values: pl.Series, name: str) -> tuple[str, ...]:
    categories = values.drop_nulls().unique().sort()
    if len(categories) > MOST_CATEGORIES:
        raise ConfigError(f"'{name}' has {len(categories):,} distinct values; expected at most {MOST_CATEGORIES:,}.")
    return tuple(categories.to_list())


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


def _present(column: pl.Series, kind: Kind) -> Floats:
    found = numbers(column, kind)
    return found[~np.isnan(found)]


def _width(column: pl.Series) -> int:
    if not isinstance(column.dtype, (pl.List, pl.Array)):
        raise ConfigError(f"'{column.name}' is declared as vector and holds {column.dtype}; expected lists of numbers.")
    lists = column.cast(pl.List(pl.Float64)).drop_nulls()
    low, high = bounds(lists.list.len()) or (0, 0)
    if low != high or high == 0:
        raise ConfigError(f"The vectors of '{column.name}' have {low} to {high} numbers; expected one width.")
    if not bool(flat(lists).is_finite().all(ignore_nulls=False)):
        raise ConfigError(f"The vectors of '{column.name}' have missing or infinite numbers; expected finite ones.")
    return int(high)


def _vectors(column: pl.Series, width: int) -> Tensor:
    """[V] lists -> [V, width]; zeros where one is missing."""
    lists = column.cast(pl.List(pl.Float32))
    lists = pl.select(pl.coalesce(lists, pl.lit([0.0] * width, dtype=pl.List(pl.Float32)))).to_series()
    return torch.from_numpy(flat(lists).to_numpy().reshape(len(column), width).copy())


def _categories(described: Field, column: pl.Series) -> Tensor:
    """[n] texts -> [n] codes."""
    known = pl.Series(list(described.categories or ()), dtype=pl.String)
    code = pl.Series(np.arange(1, len(known) + 1))
    found = column.replace_strict(known, code, default=0, return_dtype=pl.Int64) if len(known) else column.is_null() * 0
    return torch.from_numpy(found.fill_null(0).to_numpy().astype(np.int64))
