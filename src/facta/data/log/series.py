"""Reading the table of slowly changing facts of users: (user, time, field, value).

Letters: n entries.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from facta.arrays import AnyInts, Floats, offsets_of
from facta.data.dataset.features import feature, numbers
from facta.data.dataset.ids import Ids, clean_ids
from facta.data.dataset.schema import FeatureConfig, Field, recognise
from facta.data.dataset.series import Series, changes
from facta.data.dataset.times import Unit, to_milliseconds
from facta.data.log.events import EventLog, Source, open_events
from facta.data.log.features import describe
from facta.data.log.meeting import meeting
from facta.data.log.odd_ids import refuse_odd_ids
from facta.errors import DataError, counted


def read_series(
    source: Source, declared: Mapping[str, FeatureConfig], users: Ids, named: str, unit: Unit | None
) -> tuple[Series, tuple[Field, ...], list[str]]:
    """The entries of declared fields, their descriptions, and notes. `named`: the log's user column.

    Raises DataError for a table that cannot be read or lacks a field, ConfigError for values that are not as declared.
    """
    log = open_events(source, {"user_id": named})
    table = _table(log, {"user_id": named} if named in log.columns else {}, users.ids.dtype, unit)
    met = meeting(table["user_id"].unique(), users.ids, "user")
    table, notes = _wanted(table, declared, users)
    notes = [note.replace("user table", "series") for note in met] + notes
    fields, field, value = _stored(table, declared)
    user, time = users.rows_known(table["user_id"]), table["time"].to_numpy()
    order = np.lexsort((time, user))
    order = order[changes(user[order], field[order], value[order])]
    notes.append(f"Kept {len(order):,} of {counted(len(user), 'line')} of the series: the others change nothing.")
    offsets = offsets_of(np.bincount(user[order], minlength=len(users)))
    return Series(offsets, time[order], field[order], value[order]), fields, [*log.notes, *notes]


def _wanted(table: pl.DataFrame, declared: Mapping[str, FeatureConfig], users: Ids) -> tuple[pl.DataFrame, list[str]]:
    """The lines of declared fields and of users with events."""
    for name in declared:
        if name not in table["field"]:
            found = ", ".join(table["field"].unique().drop_nulls().sort()[:8])
            raise DataError(f"The series have no field '{name}'; column 'field' holds: {found}.")
    wanted = table["user_id"].is_in(users.ids.implode()) & table["field"].is_in(list(declared)).fill_null(False)
    left = counted(len(table) - int(wanted.sum()), "line")
    notes = [f"Left out {left} of the series, of users without events or of other fields."]
    return table.filter(wanted), [] if wanted.all() else notes


def _table(log: EventLog, given: Mapping[str, str], like: pl.DataType, unit: Unit | None) -> pl.DataFrame:
    """user_id, time, field, value."""
    mapping = recognise(log.columns, given, needed=("user_id", "timestamp"))
    for name in ("field", "value"):
        if name not in log.columns:
            raise DataError(
                f"The series have no column '{name}' among: {', '.join(log.columns)}; "
                "expected user_id, timestamp, field and value."
            )
    raw = log.column(mapping["user_id"])
    refuse_odd_ids(raw, "user")
    ids = clean_ids(raw, "user", text=log.text, like=like)
    times = to_milliseconds(log.column(mapping["timestamp"]), unit)
    if ids.null_count() or times.bad:
        count = max(ids.null_count(), times.bad)
        raise DataError(f"The series have {counted(count, 'line')} without a user or a possible time; remove them.")
    field, value = log.column("field").cast(pl.String), log.column("value")
    return pl.DataFrame([ids.alias("user_id"), times.milliseconds.alias("time"), field, value])


def _stored(table: pl.DataFrame, declared: Mapping[str, FeatureConfig]) -> tuple[tuple[Field, ...], AnyInts, Floats]:
    """The fields, and for each entry the index of its field and its stored value."""
    field, value, fields = np.zeros(len(table), dtype=np.int16), np.zeros(len(table)), []
    for place, (name, one) in enumerate(declared.items()):
        at = (table["field"] == name).to_numpy()
        column = _told(table["value"].filter(table["field"] == name).alias(name), one)
        described = describe(column, one, "series")
        fields.append(described)
        numeric = described.kind == "numeric"
        field[at], value[at] = place, numbers(column, "numeric") if numeric else feature(described, column).values
    return tuple(fields), field, value


def _told(column: pl.Series, declared: FeatureConfig) -> pl.Series:
    """The values of a field. One column holds those of all fields, so numbers may be text there."""
    if column.dtype != pl.String or declared.kind is not None:
        return column
    numbers = column.cast(pl.Float64, strict=False)
    return numbers if numbers.null_count() == column.null_count() else column
