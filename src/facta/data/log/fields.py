"""Context and feedback columns -> compact arrays: the smallest type that holds the values, one code for "undefined".

Letters: n events of a log, U users.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.arrays import AnyInts, Bools, Ints
from facta.data.dataset.codes import bound, defined, positive_codes, quantiles
from facta.data.dataset.columns import MOST_CATEGORIES, as_text, bounds, condition, finite, levels
from facta.data.dataset.schema import ACTIONS, Field, FieldConfig, Kind, plain
from facta.data.log.labels import are_labels, truth
from facta.errors import ConfigError, DataError, counted

_SIGNED = (np.int8, np.int16, np.int32, np.int64)

Array = npt.NDArray[Any]


def is_field(name: str, kind: pl.DataType) -> bool:
    """Whether a column becomes a field by default: numbers, truth values, and text that names actions."""
    return kind.is_numeric() or kind == pl.Boolean or (kind == pl.String and plain(name) in ACTIONS)


def check_fields(fields: Mapping[str, FieldConfig], columns: Sequence[str], mapping: Mapping[str, str]) -> None:
    """Raise DataError for declared fields without a column, and for those that are the user, item or time."""
    for name in columns_of(fields):
        if name not in columns:
            raise DataError(
                f"There is no column '{name}' to keep as a field, or to make one from; "
                f"the log has: {', '.join(columns)}."
            )
        if name in fields and name in mapping.values():
            raise DataError(f"Column '{name}' is a user, item or time already; leave it out of the fields.")


def columns_of(fields: Mapping[str, FieldConfig]) -> list[str]:
    """The log's columns for declared fields: their own, their times, and those of their conditions."""
    found = list(fields)
    for name, declared in fields.items():
        found += [] if declared.time is None else [declared.time]
        found += [] if declared.undefined is None else condition(name, declared.undefined).meta.root_names()
    return list(dict.fromkeys(found))


def compact(
    column: pl.Series, declared: FieldConfig, unsaid: pl.Series | None = None
) -> tuple[Array, Field, list[str]]:
    """[n] column -> ([n] array, its description, notes on repairs). Whole numbers become the smallest signed integers,
    other numbers float32 (NaN where missing), truth values int8, text int codes into sorted categories.

    `unsaid` [n]: where the declared condition makes the value undefined. Raises DataError for a column that cannot be a
    field, ConfigError for one that is not as declared.
    """
    column, notes = finite(column)
    name = column.name
    if column.dtype == pl.String and declared.kind in (None, "binary") and are_labels(column):
        column, said = truth(column)
        notes.append(said)
    if unsaid is not None:
        count = int((unsaid & column.is_not_null()).sum())
        notes.append(f"'{name}' is undefined in {counted(count, 'event')} by its condition: {declared.undefined}.")
        column = column.set(unsaid, None)
    if declared.kind == "categorical" or column.dtype in (pl.String, pl.Categorical, pl.Enum):
        return *_categorical(as_text(column), declared), notes
    if column.dtype == pl.Float64:
        kind = _kind(column, "numeric", declared)
        return (
            column.cast(pl.Float32).fill_null(float("nan")).to_numpy(),
            _field(name, declared, "float32", kind),
            notes,
        )
    if column.dtype in (pl.Datetime, pl.Date):
        column = column.cast(pl.Datetime("ms")).cast(pl.Int64)
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise DataError(f"Column '{name}' has type {column.dtype}, which cannot be a field; leave it out.")
    return *_integer(column.cast(pl.Int64, strict=False) if column.dtype == pl.Null else column, declared), notes


def coded(field: Field, values: Array, declared: FieldConfig) -> Field:
    """The description with levels, boundaries and successes, from the declaration and [n] stored values."""
    present = values[defined(field, values)]
    if declared.boundaries is not None and field.kind != "numeric":
        raise ConfigError(
            f"Found boundaries for '{field.name}', which is {field.kind}; only numeric fields have buckets."
        )
    if field.kind == "ordinal":
        field = field.change(levels=levels(field.name, present))
    elif field.kind == "numeric":
        free = declared.boundaries is None
        cuts = quantiles(present) if declared.boundaries is None else declared.boundaries
        if declared.positive is not None:
            cuts = tuple(sorted({*cuts, bound(field.name, declared.positive)}))
        field = field.change(boundaries=cuts, quantiles=True if free else None)
    if declared.positive is not None:
        field = field.change(positive=positive_codes(field, declared.positive), positive_when=declared.positive)
    return field


def late_share(known: Bools, given: AnyInts, time: AnyInts, offsets: Ints) -> float:
    """Share of the values that were given after the user's next event.

    [n] in history order. `known`: whether there is a value; `given`: ms when it was given; `time`: of the event.
    Offsets [U+1].
    """
    late = np.zeros(len(time), dtype=np.bool_)
    late[:-1] = given[:-1] > time[1:]
    late[offsets[1:][np.diff(offsets) > 0] - 1] = False  # nothing follows
    return float((late & known).sum() / max(1, known.sum()))


def _integer(column: pl.Series, declared: FieldConfig) -> tuple[Array, Field]:
    low, high = (int(value) for value in bounds(column) or (0, 0))
    if high > np.iinfo(np.int64).max or low < np.iinfo(np.int64).min:
        raise DataError(f"Column '{column.name}' has values beyond 64 bits, which cannot be a field; leave it out.")
    undefined = None
    if column.null_count():
        undefined = -1 if low >= 0 else low - 1
    least = low if undefined is None else undefined
    dtype = next((t for t in _SIGNED if np.iinfo(t).min <= least and high <= np.iinfo(t).max), np.int64)
    kind = _kind(column, "binary" if column.dtype == pl.Boolean or (low >= 0 and high <= 1) else "numeric", declared)
    if undefined is not None:
        column = column.cast(pl.Int64).fill_null(undefined)
    values = (column.cast(pl.Int64) if column.dtype == pl.Int128 else column).to_numpy().astype(dtype, copy=False)
    return values, _field(column.name, declared, np.dtype(dtype).name, kind, undefined)


def _categorical(column: pl.Series, declared: FieldConfig) -> tuple[Array, Field]:
    kind = _kind(column, "categorical", declared)
    categories = column.drop_nulls().unique().sort()
    if len(categories) > MOST_CATEGORIES:
        raise DataError(
            f"Column '{column.name}' has {len(categories):,} distinct texts, too many for a field; leave it out."
        )
    dtype = next(t for t in _SIGNED if len(categories) <= np.iinfo(t).max)
    codes = column.replace_strict(categories, pl.Series(np.arange(len(categories))), default=-1, return_dtype=pl.Int64)
    undefined = -1 if column.null_count() else None
    field = _field(column.name, declared, np.dtype(dtype).name, kind, undefined)
    return codes.to_numpy().astype(dtype), field.change(categories=tuple(categories.to_list()))


def _kind(column: pl.Series, told: Kind, declared: FieldConfig) -> Kind:
    """The declared kind, if it fits the kind `told` by the values. Raises ConfigError."""
    kind = declared.kind or told
    if kind != told and (told == "categorical" or kind == "binary"):
        found = "text" if told == "categorical" else "values from {} to {}".format(*bounds(column) or ("", ""))
        wanted = "0 and 1" if kind == "binary" else "numbers"
        raise ConfigError(f"'{column.name}' is declared as {kind} and holds {found}; expected {wanted}.")
    return kind


def _field(name: str, declared: FieldConfig, dtype: str, kind: Kind, undefined: int | None = None) -> Field:
    said = declared.undefined
    return Field(name=name, role=declared.role, kind=kind, dtype=dtype, undefined=undefined, undefined_when=said)


def file_name(prefix: str, name: str, taken: Collection[str]) -> str:
    """A file name for the arrays of a column; some file systems ignore case."""
    file = f"{prefix}-{re.sub(r'[^a-z0-9_.-]', '_', name.lower())}"
    names = (file if number == 0 else f"{file}-{number}" for number in count())
    return next(name for name in names if name not in taken)
