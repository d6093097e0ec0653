"""Events as they come: files or a frame in memory, read column by column, the meaning of each column recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from facta.data.files import Part, find_files, reading, scan
from facta.data.schema import ALIASES, plain
from facta.errors import DataError

Source = Any
"""A path, a glob, a folder, a list of paths, a polars, pandas or Arrow frame, a mapping of columns, or an EventLog."""


class EventLog:
    """The columns of a log, each read when it is asked for (Parquet) or kept in memory once loaded (all else)."""

    def __init__(self, parts: Sequence[Part], names: Sequence[str], notes: Sequence[str] = ()) -> None:
        self.parts = list(parts)
        self.names = tuple(names)  # of the files, for the record
        self.notes = list(notes)
        self.text = bool(parts) and parts[0].kind == "CSV"  # ids come as text and may be numbers
        self.types = self._common_types()

    @property
    def columns(self) -> list[str]:
        """The columns that every part has."""
        return list(self.types)

    def num_events(self) -> int:
        """Counted by Parquet's footers, by reading everything else."""
        total = 0
        for part in self.parts:
            with reading(part.name, part.kind):
                total += int(part.frame.select(pl.len()).collect().item())
        return total

    def column(self, name: str) -> pl.Series:
        """One column over all parts. Integers of unlike width become wide ones, never floats."""
        values = [part.load([name])[name] for part in self.parts]
        if len(values) == 1:
            return values[0].rechunk()
        if len({series.dtype for series in values}) > 1 and all(series.dtype.is_integer() for series in values):
            values = [series.cast(pl.Int128) for series in values]
        return pl.concat(values, how="vertical", rechunk=True)

    def loaded(self, columns: Sequence[str]) -> EventLog:
        """The same log with these columns in memory; Parquet is left on disk, where a column costs one read."""
        if all(part.kind == "Parquet" for part in self.parts):
            return self
        frames = [Part(part.name, "frame", part.load(columns).lazy()) for part in self.parts]
        log = EventLog(frames, self.names, self.notes)
        log.text = self.text
        return log

    def _common_types(self) -> dict[str, pl.DataType]:
        """Column -> type, of the columns present everywhere; one name with unlike types is refused when it is read."""
        types = [part.types() for part in self.parts]
        return {name: kind for name, kind in types[0].items() if all(name in other for other in types[1:])}

    def refuse_unlike(self, columns: Sequence[str], exact: Sequence[str]) -> None:
        """Raise DataError where files disagree about a column; whole and broken numbers may mix unless `exact`."""
        first, known = self.parts[0], self.parts[0].types()
        for part in self.parts[1:]:
            types = part.types()
            for name in columns:
                if name not in types:
                    raise DataError(f"'{part.name}' has no column '{name}', which '{first.name}' has.")
                if _family(types[name], name in exact) != _family(known[name], name in exact):
                    raise DataError(
                        f"Column '{name}' is {known[name]} in '{first.name}' and {types[name]} in '{part.name}'; "
                        f"write it with one type."
                    )


def _family(kind: pl.DataType, exact: bool) -> str:
    if kind.is_integer():
        return "integer" if exact else "number"
    return "number" if kind.is_float() else str(kind)


def open_events(source: Source, columns: Mapping[str, str] | None = None) -> EventLog:
    """Open a log without reading its events; raises DataError where there is none. `columns`: as in `recognise`."""
    if isinstance(source, EventLog):
        return source
    if isinstance(source, (str, Path)) or (isinstance(source, Sequence) and not hasattr(source, "columns")):
        return _open_files(source, columns)
    return EventLog([Part("the frame", "frame", _frame(source))], ("frame",))


def _open_files(source: str | Path | Sequence[str | Path], columns: Mapping[str, str] | None) -> EventLog:
    files = find_files(source)
    parts, notes = [], []
    for file in files:
        part = scan(file, lambda header: _exact(header, columns))
        if part is None:
            notes.append(f"Skipped '{file.name}', which is empty.")
        else:
            parts.append(part)
    if not parts:
        raise DataError(f"'{files[0]}' is empty; expected a header and events.")
    return EventLog(parts, [Path(part.name).name for part in parts], notes)


def _exact(header: Sequence[str], columns: Mapping[str, str] | None) -> list[str]:
    """The columns of a text file that hold ids: read as text, so that 007 stays 007 and 2^63 stays itself."""
    named = {column for role, column in (columns or {}).items() if role != "timestamp"}
    known = {plain(alias) for role in ("user_id", "item_id") for alias in ALIASES[role]}
    return [name for name in header if name in named or plain(name) in known]


def _frame(source: Source) -> pl.LazyFrame:
    if isinstance(source, (pl.LazyFrame, pl.DataFrame)):
        return source.lazy()
    try:
        if type(source).__module__.split(".")[0] == "pandas":
            return pl.from_pandas(source).lazy()
        return pl.DataFrame(source).lazy()
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"The frame cannot be read ({str(error).strip().splitlines()[0]}).") from error
    except ImportError as error:  # pandas frames need pyarrow
        raise DataError(f"The frame cannot be read: {error}.") from error
