"""From an event log to a prepared dataset: read a column, turn it into rows or times, order it, write it, forget it.

Only users, times and the order are held throughout, so the peak does not grow with the number of fields.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.data.events import EventLog, Source, open_events
from facta.data.fields import compact, is_field
from facta.data.histories import Dataset, Manifest
from facta.data.ids import Ids, all_rows, clean_ids
from facta.data.items import item_table, read_catalogue, read_items
from facta.data.order import history_order, tied
from facta.data.repairs import Drop, check_drops, cleaned
from facta.data.room import refuse_shortage, room_for
from facta.data.schema import Field, Role, chosen_fields, recognise
from facta.data.times import Unit, to_milliseconds
from facta.data.writing import DatasetWriter
from facta.errors import DataError

Say = Callable[[str], None]
Order = npt.NDArray[np.int64]


def prepare(
    source: Source,
    out: str | Path,
    *,
    items: Source | None = None,
    columns: Mapping[str, str] | None = None,
    fields: Sequence[str] | Mapping[str, Role] | None = None,
    unit: Unit | None = None,
    catalogue: str | Path | None = None,
    drop: Collection[Drop] = (),
    overwrite: bool = False,
    progress: Say | None = None,
) -> Dataset:
    """Write the dataset directory `out` from an event log, and open it.

    `source`: a Parquet, CSV or JSON-lines file, several, a folder or a glob of them, or a frame. `columns` names those
    that are not recognised: {"user_id": "uid"}. `fields` are the other columns to keep, as names or {name: "context" or
    "feedback"}; all numeric ones by default, as feedback. `items` is a table of features (titles) that may hold items
    without events; `catalogue` an artifact or dataset whose rows keep their meaning. `drop` removes "duplicates" or
    "invalid" events that would otherwise be kept or refused. `progress` is told in sentences what happens.

    Raises DataError for a log that cannot be read or understood, ResourceError when memory or disk do not suffice.
    """
    say, out = progress or _silent, Path(out)
    check_drops(drop)
    log = open_events(source, columns)
    mapping = recognise(log.columns, columns)
    say(", ".join(f"{role} = '{column}'" for role, column in mapping.items()) + ".")
    roles = _roles(log, mapping, chosen_fields(fields, log.columns, mapping))
    log.refuse_unlike([*mapping.values(), *roles], exact=[mapping["user_id"], mapping["item_id"]])
    room = room_for(log, [*mapping.values(), *roles], out)
    say(f"{room}.")
    refuse_shortage(room, out)
    with DatasetWriter(out, overwrite=overwrite) as writer:
        log = log.loaded(log.columns if "duplicates" in drop else [*mapping.values(), *roles])
        log = cleaned(log, mapping, unit, drop)
        known = None if catalogue is None else read_catalogue(catalogue)
        manifest = _Preparation(log, mapping, writer, say).run(roles, fields is not None, unit, items, known)
        writer.commit(manifest)
    return Dataset.open(out)


def _silent(_: str) -> None:
    pass


def _roles(log: EventLog, mapping: Mapping[str, str], declared: dict[str, Role] | None) -> dict[str, Role]:
    """Field -> role: as declared, or every column that is a field by its type."""
    rest = [name for name in log.columns if name not in mapping.values()]
    roles = declared
    if roles is None:
        roles = {name: "feedback" for name in rest if is_field(name, log.types[name])}
    left = [name for name in rest if name not in roles]
    if left:
        log.notes.append(f"Left out: {', '.join(left)}.")
    return roles


class _Preparation:
    """The steps of one run; each writes its arrays and keeps what later steps need."""

    def __init__(self, log: EventLog, mapping: Mapping[str, str], writer: DatasetWriter, say: Say) -> None:
        self.log, self.mapping, self.writer, self.say = log, mapping, writer, say
        self.notes = log.notes

    def run(
        self,
        roles: Mapping[str, Role],
        declared: bool,
        unit: Unit | None,
        items: Source | None,
        known: pl.DataFrame | None,
    ) -> Manifest:
        users, user = self._rows("user")
        time, unit_found = self._times(unit)
        self.say("Ordering events.")
        order = history_order(user, time)
        offsets = _offsets(user, len(users))
        del user
        tied_share = None if time is None else self._write_times(time[order], offsets)
        del time
        self.writer.array("offsets", offsets)
        table = self._items(order, items, known)
        fields = self._fields(roles, declared, order)
        self.say("Writing tables.")
        self.writer.table("users", pl.DataFrame({"row": np.arange(len(users)), "user_id": users.ids}))
        self.writer.table("items", table)
        described = [field.model_dump() for field in fields]
        return Manifest(
            users=len(users),
            items=len(table),
            events=len(order),
            has_time=tied_share is not None,
            fields=fields,
            order="user, input row" if tied_share is None else "user, timestamp, input row",
            tied_share=tied_share,
            content_hash=self.writer.content_hash(described),
            source=self.log.names,
            columns=dict(self.mapping),
            unit=unit_found,
            notes=tuple(self.notes),
            digests=dict(self.writer.digests),
        )

    def _ids(self, what: str, like: pl.DataType | None = None) -> pl.Series:
        """A column of ids, all there."""
        column = self.mapping[f"{what}_id"]
        self.say(f"Reading {what}s.")
        raw = self.log.column(column)
        if len(raw) == 0:
            raise DataError(f"The log ({', '.join(self.log.names[:3])}) has columns but no events.")
        ids = clean_ids(raw, what, text=self.log.text, like=like)
        if ids.null_count():
            raise DataError(
                f"Column '{column}' has {ids.null_count():,} events without {what} id; "
                f"remove them, or let prepare do it with drop=('invalid',) (--drop invalid)."
            )
        if raw.dtype.is_float() or (raw.dtype == pl.String and ids.dtype != pl.String and "." in str(raw[0])):
            self.notes.append(f"The ids in '{column}' were written with decimals; all are whole and were read exactly.")
        return ids

    def _rows(self, what: str) -> tuple[Ids, npt.NDArray[np.int32]]:
        ids = self._ids(what)
        table = Ids(all_rows(ids), what)
        return table, table.rows_known(ids)

    def _times(self, unit: Unit | None) -> tuple[npt.NDArray[np.int64] | None, str | None]:
        if "timestamp" not in self.mapping:
            if unit is not None:
                raise DataError(f"A unit ('{unit}') was given, but no column of the log is recognised as timestamp.")
            return None, None
        self.say("Reading times.")
        times = to_milliseconds(self.log.column(self.mapping["timestamp"]), unit)
        if times.bad:
            raise DataError(f"{times.why}; correct them, or drop those events with drop=('invalid',) (--drop invalid).")
        if times.finer:
            self.notes.append(
                "Times are finer than milliseconds; events of one millisecond keep the order of the input."
            )
        self.say(f"Times are in {times.unit}.")
        return times.milliseconds.to_numpy(), times.unit

    def _write_times(self, time: npt.NDArray[np.int64], offsets: Order) -> float:
        self.writer.array("timestamp", time)
        return float(tied(time, offsets).mean())

    def _items(self, order: Order, source: Source | None, known: pl.DataFrame | None) -> pl.DataFrame:
        """Write the items of all events; return the item table, which may name more."""
        ids = self._ids("item", None if known is None else known["item_id"].dtype)
        tables = []
        if source is not None:
            described, notes = read_items(source, ids.dtype)
            tables.append(described)
            self.notes.extend(notes)
        named = pl.concat([ids.unique(), *(table["item_id"] for table in tables)])
        table = Ids(all_rows(named, None if known is None else known["item_id"]), "item")
        self.writer.array("item", table.rows_known(ids)[order])
        return item_table(table.ids, tables if known is None else [*tables, known])

    def _fields(self, roles: Mapping[str, Role], declared: bool, order: Order) -> tuple[Field, ...]:
        fields: dict[str, Field] = {}
        for name, role in roles.items():
            self.say(f"Reading '{name}'.")
            try:
                values, described, notes = compact(self.log.column(name), role)
            except DataError as error:
                if declared:
                    raise
                self.notes.append(f"Left out: {error}")
                continue
            self.notes.extend(notes)
            file = described.file.lower()  # some disks tell no case apart
            file = file if file not in fields else f"{file}-{len(fields)}"
            fields[file] = described.change(file=file)
            self.writer.array(file, values[order])
        return tuple(fields.values())


def _offsets(user: npt.NDArray[np.int32], users: int) -> Order:
    return np.concatenate([[0], np.cumsum(np.bincount(user, minlength=users))]).astype(np.int64)
