"""The events of a dataset as a lazy polars frame: ids, times and values as in the log, made from the mapped arrays when
they are collected.

Letters: E events, U users, n of the events that are read together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.arrays import Ints
from facta.data.dataset.codes import defined
from facta.data.dataset.schema import Field

TIME = pl.Datetime("ms", "UTC")

Array = npt.NDArray[Any]


class EventColumn(NamedTuple):
    """A column of events: its type, and its values [n] for the places [n] of events."""

    dtype: pl.DataType
    read: Callable[[Ints], pl.Series]


def lazy_events(columns: Mapping[str, EventColumn], events: int) -> pl.LazyFrame:
    """A line for each of E events. Only selected columns are read."""
    place = pl.col("place")
    return (
        pl.LazyFrame()
        .select(pl.int_range(events, dtype=pl.Int64).alias("place"))
        .select(
            place.map_batches(_reading(one), return_dtype=one.dtype, is_elementwise=True).alias(name)
            for name, one in columns.items()
        )
    )


def _reading(column: EventColumn) -> Callable[[pl.Series], pl.Series]:
    return lambda places: column.read(places.to_numpy())


def user_ids(ids: pl.Series, offsets: Array) -> EventColumn:
    """Ids [U] of users, offsets [U+1] of their events."""
    return EventColumn(ids.dtype, lambda at: ids.gather(np.searchsorted(offsets, at, side="right") - 1))


def item_ids(ids: pl.Series, rows: Array) -> EventColumn:
    """Ids [V] of items, rows [E] among them."""
    return EventColumn(ids.dtype, lambda at: ids.gather(rows[at].astype(np.int64)))


def event_times(milliseconds: Array) -> EventColumn:
    """[E] ms."""
    return EventColumn(TIME, lambda at: _moments(milliseconds[at].astype(np.int64)))


def given_times(milliseconds: Array, delays: Array) -> EventColumn:
    """When values were given, from times of events [E] ms and delays [E] ms; a negative delay: no time."""

    def read(at: Ints) -> pl.Series:
        delay = delays[at].astype(np.int64)
        return _moments(milliseconds[at] + delay).set(pl.Series(delay < 0), None)

    return EventColumn(TIME, read)


def first_of(columns: list[EventColumn]) -> EventColumn:
    """Of columns with the same content, the first one with a value."""

    def read(at: Ints) -> pl.Series:
        found, *others = [one.read(at) for one in columns]
        for other in others:
            found = found.zip_with(found.is_not_null(), other)
        return found

    return EventColumn(columns[0].dtype, read)


def field_values(field: Field, stored: Array) -> EventColumn:
    """Values of a field as numbers or the texts of categories, null where undefined; `raw_values` is the slow twin."""
    names = None if field.kind != "categorical" else pl.Series(field.categories or (), dtype=pl.String)
    dtype = pl.Series(stored[:0]).dtype if names is None else names.dtype

    def read(at: Ints) -> pl.Series:
        values = stored[at]
        there = defined(field, values)
        if names is not None:
            return names.gather(pl.Series(np.where(there, values, 0), dtype=pl.Int64).set(pl.Series(~there), None))
        return pl.Series(values, dtype=dtype).set(pl.Series(~there), None)

    return EventColumn(dtype, read)


def _moments(milliseconds: Ints) -> pl.Series:
    return pl.Series(milliseconds, dtype=pl.Int64).cast(TIME)
