"""From an event log to a prepared dataset: each column is read, encoded, ordered, written and freed.

Only users, times and the order stay in memory, so the peak does not grow with the number of fields.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from facta import arrays, durable
from facta.arguments import CALLABLE, DECLARED, FLAG, NAMES, NONE, PATH, TEXT, WHOLE, arguments, several, silent
from facta.arrays import Bools, Ints
from facta.data.dataset.codes import defined
from facta.data.dataset.columns import holds
from facta.data.dataset.dataset import Dataset, Manifest, delay_file
from facta.data.dataset.digests import content_hash
from facta.data.dataset.ids import Ids, all_rows, clean_ids, refuse_missing, with_decimals
from facta.data.dataset.schema import Declared, FeatureConfig, Field, FieldConfig, SchemaConfig, recognise
from facta.data.dataset.series import ARRAYS
from facta.data.dataset.times import Time, Unit, period, read_times, refuse_lost_digits
from facta.data.log.chosen import Choice, check_choice, chosen
from facta.data.log.events import EventLog, Source, open_events
from facta.data.log.features import describe_all
from facta.data.log.fields import check_fields, coded, columns_of, compact, file_name, late_share
from facta.data.log.odd_ids import odd_ids, refuse_odd_ids
from facta.data.log.order import history_order, tied
from facta.data.log.overlap import refuse_overlap
from facta.data.log.pivot import check_pivot, pivoted
from facta.data.log.repairs import Drop, check_drops, cleaned
from facta.data.log.resources import check_resources, estimate_resources
from facta.data.log.roles import no_feedback, unclear, undeclared
from facta.data.log.separators import means_list, parted
from facta.data.log.series import read_series
from facta.data.log.tables import item_table, read_catalogue, read_table
from facta.data.log.users import read_users
from facta.data.log.writing import DatasetWriter, check_overwrite
from facta.data.split.late import NO_TIME, delays, given_times, shown_before, waits_for
from facta.errors import ConfigError, DataError

Progress = Callable[[str, bool], None]
"""Called with a sentence on the progress, and whether it should stay on the screen."""


class _Ordered(NamedTuple):
    """The order of a log."""

    events: int
    unit: str | None
    tied_share: float | None  # None: no times


@arguments(
    out=PATH,
    columns=NAMES | NONE,
    fields=DECLARED | NONE,
    item_fields=DECLARED,
    user_fields=DECLARED,
    series_fields=DECLARED,
    unit=TEXT | NONE,
    catalogue=PATH | NONE,
    drop=several("a list of texts", TEXT) | TEXT,
    pivot=TEXT | NONE,
    drop_users=several("a list of ids", TEXT | WHOLE),
    overwrite=FLAG,
    progress=CALLABLE | NONE,
)
def prepare(
    source: Source,
    out: str | Path,
    *,
    items: Source | None = None,
    users: Source | None = None,
    series: Source | None = None,
    columns: Mapping[str, str] | None = None,
    fields: Declared | None = None,
    item_fields: Declared = (),
    user_fields: Declared = (),
    series_fields: Declared = (),
    unit: Unit | None = None,
    catalogue: str | Path | None = None,
    drop: Collection[Drop] = (),
    pivot: str | None = None,
    drop_users: Collection[str | int] = (),
    since: Time | None = None,
    until: Time | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Write the dataset directory `out` from an event log, and open it.

    `source`: a Parquet, CSV or JSON-lines file, several, a folder or a glob of them, or a frame. `columns` names those
    that are not recognised: {"user_id": "uid"}. `fields` are the other columns to keep, as names, {name: "context" or
    "feedback"} or {name: FieldConfig}; all numeric ones by default, as feedback. `catalogue` is an artifact or dataset
    whose rows keep their meaning. `drop` removes "duplicates" (kept otherwise) or "invalid" events (refused otherwise).
    `pivot` names the column of actions of a log with a line for each action: it becomes one event with a field for
    each. Events of `drop_users` (ids as in the log), before `since` and from `until` on are left out.

    `items` is a table of features (titles) that may hold items without events, `users` one of constant facts, `series`
    one of changing facts (user_id, timestamp, field, value). The columns that models read are declared, as names,
    {name: kind} or {name: FeatureConfig}: `item_fields`, `user_fields` (kind "items": the items that a user had before,
    a list, oldest first), `series_fields`.

    Raises DataError for a log that cannot be read or understood, ConfigError for one that is not as declared,
    ResourceError if memory or disk do not suffice.
    """
    say, out = progress or silent, Path(out)
    check_drops(drop)
    log = open_events(source, columns)
    mapping = recognise(log.columns, columns)
    say(", ".join(f"{role} = '{column}'" for role, column in mapping.items()) + ".", True)
    if "timestamp" not in mapping and "timestamp" not in (columns or {}):
        say("No column is recognised as the time, so there is an order alone; name it (--column timestamp=NAME).", True)
    schema = SchemaConfig(fields=fields, items=item_fields, users=user_fields, series=series_fields)
    schema = schema.change(items={name: means_list(name, one) for name, one in schema.items.items()})
    _check_both("users", users, schema.users)
    _check_both("series", series, schema.series)
    asked = _Asked(unit, drop, pivot, Choice(drop_users, since, until))
    declared, needed = _wanted(log, mapping, schema, asked)
    log.check_types(needed, exact=list(mapping.values()))
    room = estimate_resources(log, needed, out, drop=drop, pivot=pivot is not None, part=bool(asked.choice))
    say(f"{room}.", True)
    check_resources(room, out)
    check_overwrite(out, overwrite=overwrite)
    with durable.directory(out, replace=overwrite) as draft:
        writer = DatasetWriter(draft)
        left = [name for name in log.columns if name not in needed]
        log = log.loaded(log.columns if "duplicates" in drop else needed)
        overlap = [] if "duplicates" in drop else refuse_overlap(log, mapping, needed)
        log, declared = _events(log, mapping, needed, declared, asked)
        run = _Preparation(log, mapping, writer, say, columns=[*needed, *left])
        run.notes += [*overlap, *([f"Left out: {', '.join(left)}."] if left else [])]
        known = None if catalogue is None else read_catalogue(catalogue)
        rows, order, times = run.histories(unit)
        described = {
            **run.tables(order, rows, items, users, schema, known=known),
            "series_fields": run.series(rows, series, schema, unit),
            "fields": run.fields(declared, order, unit, optional=schema.fields is None),
        }
        writer.manifest(run.finish(times, described))
    return Dataset.open(out, verify=False)  # its checksums have just been computed


def _check_both(what: str, table: Source | None, declared: Mapping[str, FeatureConfig]) -> None:
    """Raise for a table without declared columns and for declared columns without a table: no model reads either."""
    if (table is None) == bool(declared):
        found = f"no table, but declared: {', '.join(declared)}" if declared else "a table of which nothing is declared"
        raise ConfigError(f"Found for {what}: {found}; expected both or none.")


class _Asked(NamedTuple):
    """Changes to the lines of a log before they are events."""

    unit: Unit | None
    drop: Collection[Drop]
    pivot: str | None
    choice: Choice


def _wanted(
    log: EventLog, mapping: Mapping[str, str], schema: SchemaConfig, asked: _Asked
) -> tuple[dict[str, FieldConfig], list[str]]:
    """(the fields to make, without those of actions; the columns of the log to read)."""
    check_choice(asked.choice, mapping)
    if asked.pivot is not None:
        check_pivot(asked.pivot, log.columns, mapping, schema.fields or {})
    fields = undeclared(log, mapping) if schema.fields is None else schema.fields
    declared = {name: one for name, one in fields.items() if name != asked.pivot}
    if asked.pivot is None:  # otherwise the columns of actions are still to come
        check_fields(declared, log.columns, mapping)
    columns = [*mapping.values(), *([] if asked.pivot is None else [asked.pivot]), *columns_of(declared)]
    return declared, [name for name in dict.fromkeys(columns) if name in log.columns]


def _events(
    log: EventLog,
    mapping: Mapping[str, str],
    columns: Sequence[str],
    declared: Mapping[str, FieldConfig],
    asked: _Asked,
) -> tuple[EventLog, dict[str, FieldConfig]]:
    """The log of the events to prepare, and its fields; the declaration of an action gets the column of its times."""
    time, actions = mapping.get("timestamp"), dict[str, FieldConfig]()
    if time is not None and log.types[time].is_float() and (written := log.written(time)) is not None:
        refuse_lost_digits(written)  # before a repair, which loses the original text
    log = cleaned(log, mapping, asked.unit, asked.drop)
    if asked.pivot is not None:
        log, actions = pivoted(log, mapping, asked.pivot, asked.unit, columns)
        columns = log.columns
    timed = {name: one.change(time=actions[name].time) for name, one in declared.items() if name in actions}
    fields = {**declared, **actions, **timed}
    check_fields(fields, log.columns, mapping)
    return chosen(log, mapping, asked.unit, asked.choice, columns), fields


class _Preparation:
    """The steps of one run; each writes its arrays and returns the inputs of later steps."""

    def __init__(
        self, log: EventLog, mapping: Mapping[str, str], writer: DatasetWriter, say: Progress, columns: Sequence[str]
    ) -> None:
        self.log, self.mapping, self.writer, self.say = log, mapping, writer, say
        self.columns = columns  # of the original log, read or not
        self.notes = list(log.notes)

    def histories(self, unit: Unit | None) -> tuple[Ids, Ints, _Ordered]:
        """Order the log; write offsets and times."""
        ids = self._ids("user")
        users = Ids(all_rows(ids), "user")
        user = users.rows_known(ids)
        del ids
        time, unit_found = self._times(unit)
        self.say("Ordering events.", False)
        order = history_order(user, time)
        offsets = arrays.offsets_of(np.bincount(user, minlength=len(users)))
        self.writer.array("offsets", offsets)
        if time is None:
            return users, order, _Ordered(len(order), None, None)
        time = time[order]
        self.writer.array("timestamp", time)
        return users, order, _Ordered(len(order), unit_found, float(tied(time, offsets).mean()))

    def tables(
        self,
        order: Ints,
        users: Ids,
        items: Source | None,
        facts: Source | None,
        schema: SchemaConfig,
        *,
        known: pl.DataFrame | None,
    ) -> dict[str, Any]:
        """Write the items of all events, and the tables of items and users; returns their entries of the manifest.

        Items without events get rows too, if a table, a fact or the catalogue `known` has them.
        """
        ids = self._ids("item", None if known is None else known["item_id"].dtype)
        people, notes = read_users(facts, schema.users, users, ids.dtype, self.mapping["user_id"], self.columns)
        self.notes.extend(notes)
        tables = []
        if items is not None:
            described, notes = read_table(items, "item", ids.unique(), self.mapping["item_id"], self.columns)
            for name, declared in schema.items.items():
                if declared.kind == "multi" and name in described.columns:
                    column, said = parted(described[name], declared)
                    described, notes = described.with_columns(column), [*notes, *said]
            tables.append(described)
            self.notes.extend(notes)
        named = pl.concat([ids.unique(), *(table["item_id"] for table in tables), *people.items()])
        rows = Ids(all_rows(named, None if known is None else known["item_id"]), "item")
        self.writer.array("item", rows.rows_known(ids)[order])
        self.say("Writing tables.", False)
        table = item_table(rows.ids, tables if known is None else [*tables, known])
        self.writer.table("items", table)
        kinds = (("user", users.ids), ("item", rows.ids))
        return {
            "users": len(users),
            "items": len(table),
            "item_fields": describe_all(table, schema.items, "item"),
            "user_fields": people.write(users, rows, self.writer),
            "ids": {what: "text" if one.dtype == pl.String else "number" for what, one in kinds},
        }

    def series(self, users: Ids, source: Source | None, schema: SchemaConfig, unit: Unit | None) -> tuple[Field, ...]:
        """Write the changing facts of users; their descriptions."""
        if source is None:
            return ()
        if "timestamp" not in self.mapping:
            raise DataError("Found series with times beside events without times; leave the series out.")
        found, fields, notes = read_series(source, schema.series, users, self.mapping["user_id"], unit)
        self.notes.extend(notes)
        for name in ARRAYS:
            self.writer.array(f"series/{name}", getattr(found, name))
        return fields

    def fields(
        self, fields: Mapping[str, FieldConfig], order: Ints, unit: Unit | None, *, optional: bool
    ) -> tuple[Field, ...]:
        """Write the field arrays. A column that cannot be a field is an error, or a note if it is `optional`."""
        found: dict[str, Field] = {}
        for name, declared in fields.items():
            self.say(f"Reading '{name}'.", False)
            try:
                said, column = declared.undefined, self.log.column(name)
                if optional and (why := no_feedback(column)) is not None:
                    raise DataError(f"'{name}', {why}; declare it as a field to keep it.")
                unsaid = None if said is None else holds(name, said, self.log.column)
                values, field, notes = compact(column, declared, unsaid)
            except DataError as error:
                if not optional:
                    raise
                self.notes.append(f"Left out: {error}")
                continue
            self.notes.extend(notes)
            file = file_name("field", name, found)
            values = values[order]
            field = coded(field.change(file=file), values, declared)
            self.notes += unclear(field, values)
            self.writer.array(file, values)
            if declared.time is not None:
                possible = np.ones(len(order), np.bool_) if unsaid is None else ~unsaid.to_numpy()[order]
                field = self._timed(field, values, self._given(name, declared.time, unit)[order], possible)
            found[file] = field.change(given_when=declared.time, waits_for=waits_for(name, fields))
        return tuple(found.values())

    def _given(self, name: str, column: str, unit: Unit | None) -> Ints:
        """[n] when the values of a field were given, in the order of the log."""
        if "timestamp" not in self.mapping:
            raise DataError(f"'{column}' says when '{name}' was given, but the events have no times.")
        return given_times(self.log.column(column), unit, name)

    def _timed(self, field: Field, values: npt.NDArray[Any], given: Ints, possible: Bools) -> Field:
        """Write the delays of [n] values after their events, in history order. Returns the description with the share
        that came after the user's next event and with the value that is shown until a value is known.
        """
        time, known = self.writer.read("timestamp"), defined(field, values)
        delay = delays(given, time, known)
        timed = delay != NO_TIME
        self.writer.array(delay_file(field), delay)
        late = late_share(timed, given, time, self.writer.read("offsets"))
        if late:
            self.notes.append(
                f"{late:.1%} of the values of '{field.name}' with a time were given after the user's next event; "
                "models are not shown a value in its own event before it was given."
            )
        before, note = shown_before(field, values, timed, possible)
        self.notes += [note] if note else []
        return field.change(late=late, before=before)

    def finish(self, ordered: _Ordered, described: Mapping[str, Any]) -> Manifest:
        """The manifest."""
        timed = ordered.tied_share is not None
        manifest = Manifest(
            **described,
            events=ordered.events,
            has_time=timed,
            order="user, timestamp, input row" if timed else "user, input row",
            tied_share=ordered.tied_share,
            content_hash="",
            digests=dict(self.writer.digests),
            source=self.log.names,
            columns=dict(self.mapping),
            unit=ordered.unit,
            notes=tuple(self.notes),
        )
        return manifest.change(content_hash=content_hash(manifest.digests, manifest.fields, manifest.others))

    def _ids(self, what: str, like: pl.DataType | None = None) -> pl.Series:
        """A column of ids without gaps."""
        column = self.mapping[f"{what}_id"]
        self.say(f"Reading {what}s.", False)
        raw = self.log.column(column)
        if len(raw) == 0:
            raise DataError(f"The log ({', '.join(self.log.names[:3])}) has columns but no events.")
        refuse_odd_ids(raw, what)
        ids = clean_ids(raw, what, text=self.log.text, like=like)
        refuse_missing(ids, column, what)
        if raw.dtype != ids.dtype and with_decimals(raw):
            self.notes.append(f"The ids in '{column}' were written with decimals; all are whole and were read exactly.")
        self.notes += odd_ids(ids, column, what)
        return ids

    def _times(self, unit: Unit | None) -> tuple[Ints | None, str | None]:
        if "timestamp" not in self.mapping:
            if unit is not None:
                raise DataError(f"A unit ('{unit}') was given, but no column of the log is recognised as timestamp.")
            return None, None
        self.say("Reading times.", False)
        column = self.mapping["timestamp"]
        times = read_times(self.log.column(column), unit)
        if times.finer:
            self.notes.append(
                "Times are finer than milliseconds; events of one millisecond keep the order of the input."
            )
        found = "The times are dates" if times.unit == "datetime" else f"Unit of the times: {times.unit}"
        self.say(f"{found}, {period(times.milliseconds)}.", True)
        return times.milliseconds.to_numpy(), times.unit
