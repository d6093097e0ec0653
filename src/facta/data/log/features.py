"""Descriptions of the columns of the item and user tables, from declarations and values.

Letters: V items (or users).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from facta.arrays import Floats
from facta.data.dataset.codes import quantiles
from facta.data.dataset.columns import MOST_CATEGORIES, as_text, bounds, levels
from facta.data.dataset.features import flat, numbers, texts
from facta.data.dataset.schema import FeatureConfig, Field, Kind, Role
from facta.errors import ConfigError, DataError


def describe_all(table: pl.DataFrame, declared: Mapping[str, FeatureConfig], role: Role) -> tuple[Field, ...]:
    """The descriptions of declared columns. Raises DataError for a missing column, ConfigError as `describe`."""
    check_columns(table.columns, declared, role)
    return tuple(describe(table[name], one, role) for name, one in declared.items())


def check_columns(columns: list[str], declared: Mapping[str, FeatureConfig], role: Role) -> None:
    ours = ("row", f"{role}_id")
    there = [name for name in columns if name not in ours]
    for name in declared:
        if name not in there:
            raise DataError(f"The {role} table has no column '{name}'; it has: {', '.join(there) or 'ids alone'}.")


def describe(column: pl.Series, declared: FeatureConfig, role: Role) -> Field:
    """The description of a column [V]. Raises ConfigError if its values are not as declared."""
    kind = declared.kind or kind_of_values(column)
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


def kind_of_values(column: pl.Series) -> Kind:
    """The kind of a column, by its values."""
    kind = column.dtype
    if isinstance(kind, (pl.List, pl.Array)):
        return "vector" if kind.inner.is_float() else "multi"
    if kind in (pl.String, pl.Categorical, pl.Enum):
        return "categorical"
    low, high = bounds(column) or (0, 0)
    if kind == pl.Boolean or (kind.is_integer() and low >= 0 and high <= 1):
        return "binary"
    return "numeric"


def _named(values: pl.Series, name: str) -> tuple[str, ...]:
    categories = values.drop_nulls().unique().sort()
    if len(categories) > MOST_CATEGORIES:
        raise ConfigError(f"'{name}' has {len(categories):,} distinct values; expected at most {MOST_CATEGORIES:,}.")
    return tuple(categories.to_list())


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
