"""The events of a store into a Parquet file that `facta prepare` reads: the log of the next model.

Events are written to a draft of JSON-lines as they are read, a few hundred users at a time, and from there to Parquet,
when it is known which types a column has. Neither is ever in memory as a whole.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from facta import durable
from facta.errors import StoreError
from facta.store.posted import Words
from facta.store.protocol import EventStore, StoredEvent, UserId

if TYPE_CHECKING:
    import polars as pl

_ROWS = 100_000  # lines of a row group
_OWN = ("user_id", "item_id", "timestamp", "event_id")


def export_events(
    store: EventStore, out: Path, words: Words | None = None, progress: Callable[[int], None] | None = None
) -> int:
    """Write all events, a line each, by user in the order in which users came and by time; returns how many there are.

    `words` says what the columns with the times of late feedback are called; without, that of `liked` is
    `liked_known_at`. `progress` is called with the number of events read. Raises StoreError where there is nothing to
    write or a column's ids have two types, ResourceError where the file cannot be written.
    """
    kinds: dict[str, _Kinds] = defaultdict(_Kinds)
    with durable.writing(out), TemporaryFile("w+", dir=out.parent, encoding="utf-8") as draft:
        events = 0
        for user, person in store.people():
            for event in person.events:
                line = _line(user, event, words or Words())
                for name, value in line.items():
                    kinds[name].add(value)
                draft.write(json.dumps(line) + "\n")
            events += len(person.events)
            if progress is not None:
                progress(events)
        if not events:
            raise StoreError("The event store has no events; post some, or import a dataset (`facta import`).")
        draft.seek(0)
        _write(draft, out, {name: found.dtype(name) for name, found in kinds.items()})
    return events


def _line(user: UserId, event: StoredEvent, words: Words) -> dict[str, Any]:
    """An event as a line of a log; a value that is called like an id or the time makes way for it."""
    line: dict[str, Any] = dict(event.values)
    for name, known in event.known_at.items():
        line[words.fields[name].given_when or name if name in words.fields else f"{name}_known_at"] = _Time(known)
    line |= {"user_id": user, "item_id": event.item, "event_id": event.id}
    return line if event.time is None else line | {"timestamp": _Time(event.time)}


class _Time(int):
    """ms, told apart from numbers."""


class _Kinds:
    """What the values of a column are: their types, and the range of the whole numbers among them."""

    def __init__(self) -> None:
        self.types: set[type] = set()
        self.low = self.high = 0

    def add(self, value: Any) -> None:
        if value is not None:
            self.types.add(type(value))
        if type(value) is int:
            self.low, self.high = min(self.low, value), max(self.high, value)

    def dtype(self, name: str) -> pl.DataType:
        """The type of the column; what no number or truth value is makes it text. Raises StoreError."""
        import polars as pl

        if name in ("user_id", "item_id") and len(self.types) > 1:
            raise StoreError(f"The store has {name}s that are numbers and {name}s that are texts; a log has one type.")
        if self.types == {_Time}:
            return pl.Datetime("ms", "UTC")
        if self.types == {bool}:
            return pl.Boolean()
        if not self.types or not self.types <= {int, bool, float}:
            return pl.String()
        if float in self.types:
            return pl.Float64()
        if self.low >= -(2**63) and self.high < 2**63:
            return pl.Int64()
        if self.low < 0 or self.high >= 2**64:
            raise StoreError(f"Column '{name}' of the store has whole numbers beyond 64 bits; no log holds them.")
        return pl.UInt64()


def _write(draft: IO[str], out: Path, types: Mapping[str, pl.DataType]) -> None:
    import polars as pl
    from pyarrow.parquet import ParquetWriter

    names = [*(name for name in _OWN if name in types), *sorted(types.keys() - {*_OWN})]
    place = out.with_name(f".{out.name}.partial")
    with durable.renamed(place, out):
        writer = None
        for lines in _groups(draft):
            columns = {name: _column([line.get(name) for line in lines], name, types[name]) for name in names}
            table = pl.DataFrame(columns).to_arrow()
            writer = writer or ParquetWriter(place, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()


def _column(values: list[Any], name: str, dtype: pl.DataType) -> pl.Series:
    """Nothing is converted silently: what polars cannot hold in the type is an error."""
    import polars as pl

    if dtype == pl.String:  # whole numbers and truth values are called as in JSON, and lists are JSON
        values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    elif dtype == pl.Float64:
        values = [None if value is None else float(value) for value in values]
    elif dtype.is_integer():
        values = [None if value is None else int(value) for value in values]
    elif dtype == pl.Datetime:
        return pl.Series(name, values, dtype=pl.Int64).cast(dtype)
    return pl.Series(name, values, dtype=dtype)


def _groups(draft: IO[str]) -> Iterator[list[dict[str, Any]]]:
    while lines := [json.loads(line) for line in islice(draft, _ROWS)]:
        yield lines
