"""Context and feedback columns -> compact arrays: the smallest type that holds the values, one code for "undefined"."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.data.schema import ACTIONS, Field, Role, plain
from facta.errors import DataError

_CATEGORIES = 100_000  # beyond, a text column is no category but free text or an id
_SIGNED = (np.int8, np.int16, np.int32, np.int64)

Array = npt.NDArray[Any]


def is_field(name: str, kind: pl.DataType) -> bool:
    """Whether a column becomes a field without being asked for: numbers, truth values, and text that names actions."""
    return kind.is_numeric() or kind == pl.Boolean or (kind == pl.String and plain(name) in ACTIONS)


def compact(column: pl.Series, role: Role) -> tuple[Array, Field, list[str]]:
    """[n] column -> ([n] array, its description, notes on repairs). Whole numbers become the smallest signed integers,
    other numbers float32 (NaN where missing), truth values int8, text int codes into sorted categories."""
    name, notes = column.name, []
    if column.dtype.is_float() or column.dtype.is_decimal():
        column = column.cast(pl.Float64).fill_nan(None)
    if missing := column.null_count():
        notes.append(f"{missing:,} missing values of '{name}' are stored as undefined.")
    if column.dtype == pl.Float64:
        endless = int(column.is_infinite().sum())
        if endless:
            notes.append(f"{endless:,} infinite values of '{name}' are stored as undefined.")
            column = column.set(column.is_infinite(), None)
        if not _whole(column):
            return column.cast(pl.Float32).fill_null(float("nan")).to_numpy(), _field(name, role, "float32"), notes
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        return *_categorical(column.cast(pl.String), role), notes
    if column.dtype in (pl.Datetime, pl.Date):
        column = column.cast(pl.Datetime("ms")).cast(pl.Int64)
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise DataError(f"Column '{name}' has type {column.dtype}, which cannot be a field; leave it out.")
    return *_integer(column.cast(pl.Int64, strict=False) if column.dtype == pl.Null else column, role), notes


def bounds(column: pl.Series) -> tuple[Any, Any] | None:
    """(least, greatest) value of a column; None where it has none."""
    low, high = column.min(), column.max()
    return None if low is None or high is None else (low, high)


def _whole(column: pl.Series) -> bool:
    return bool((column == column.round()).all() and (column.abs() < 2**53).all()) and column.null_count() < len(column)


def _integer(column: pl.Series, role: Role) -> tuple[Array, Field]:
    kind = column.dtype
    low, high = (int(value) for value in bounds(column) or (0, 0))
    if high > np.iinfo(np.int64).max or low < np.iinfo(np.int64).min:
        raise DataError(f"Column '{column.name}' has values beyond 64 bits, which cannot be a field; leave it out.")
    undefined = None
    if column.null_count():
        undefined = -1 if low >= 0 else low - 1
    least = low if undefined is None else undefined
    dtype = next((t for t in _SIGNED if np.iinfo(t).min <= least and high <= np.iinfo(t).max), np.int64)
    binary = kind == pl.Boolean or (low >= 0 and high <= 1)
    if undefined is not None:
        column = column.cast(pl.Int64).fill_null(undefined)
    values = (column.cast(pl.Int64) if column.dtype == pl.Int128 else column).to_numpy().astype(dtype, copy=False)
    return values, _field(column.name, role, np.dtype(dtype).name, "binary" if binary else "numeric", undefined)


def _categorical(column: pl.Series, role: Role) -> tuple[Array, Field]:
    categories = column.drop_nulls().unique().sort()
    if len(categories) > _CATEGORIES:
        raise DataError(
            f"Column '{column.name}' has {len(categories):,} distinct texts, too many for a field; leave it out."
        )
    dtype = next(t for t in _SIGNED if len(categories) <= np.iinfo(t).max)
    codes = column.replace_strict(categories, pl.Series(np.arange(len(categories))), default=-1, return_dtype=pl.Int64)
    undefined = -1 if column.null_count() else None
    field = _field(column.name, role, np.dtype(dtype).name, "categorical", undefined, tuple(categories.to_list()))
    return codes.to_numpy().astype(dtype), field


def _field(
    name: str,
    role: Role,
    dtype: str,
    kind: Any = "numeric",
    undefined: int | None = None,
    categories: tuple[str, ...] | None = None,
) -> Field:
    file = "field-" + re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return Field(name=name, role=role, kind=kind, dtype=dtype, file=file, undefined=undefined, categories=categories)
