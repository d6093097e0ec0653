"""Event logs: files or a frame in memory, read column by column, with recognised columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from facta.data.dataset.schema import ALIASES, plain
from facta.data.log.files import LogFile, Part, find_files, reading_log, scan
from facta.errors import DataError

Source = Any
"""A path, a glob, a folder, a list of paths, a polars, pandas or Arrow frame, Python rows or columns, an EventLog."""


class EventLog:
    """The columns of a log, each read on demand (Parquet) or kept in memory once loaded (other formats)."""

    def __init__(
        self,
        parts: Sequence[Part],
        names: Sequence[str],
        notes: Sequence[str] = (),
        *,
        text: bool = False,
        keys: Sequence[str] = (),
    ) -> None:
        self.parts = tuple(parts)
        self.names = tuple(names)  # of the files, for the record
        self.notes = tuple(notes)
        self.text = text  # ids come from a text file, so digits may be numbers
        self.keys = tuple(keys)  # columns from folders named `key=value`
        self.types = self._common_types()

    @property
    def columns(self) -> list[str]:
        """All columns of all parts; a part without a column has nulls."""
        return list(self.types)

    def num_events(self) -> int:
        """Read from Parquet's footers; other formats are read to count."""
        total = 0
        for part in self.parts:
            with reading_log(part.name, part.kind):
                total += int(part.frame.select(pl.len()).collect().item())
        return total

    def column(self, name: str) -> pl.Series:
        """One column over all parts. Integers of different widths become the widest, never floats.

        Raises DataError if the parts have different types; only numbers may mix.
        """
        values = [part.load([name])[name] for part in self.parts]
        types = {series.dtype for series in values} - {pl.Null()}
        if len(types) > 1:
            self._refuse_mixture(name, [series.dtype for series in values])
            wide = pl.Int128() if all(kind.is_integer() for kind in types) else pl.Float64()
            values = [series.cast(wide) for series in values]
        elif types:
            values = [series.cast(next(iter(types))) for series in values]
        return pl.concat(values, rechunk=True)

    def _refuse_mixture(self, name: str, kinds: Sequence[pl.DataType]) -> None:
        """`kinds`: the type in each part; at least two differ."""
        there = [(part.name, kind) for part, kind in zip(self.parts, kinds, strict=True) if kind != pl.Null]
        first = there[0][1]
        odd, other = next((one, kind) for one, kind in there if kind != first)
        if not all(kind.is_numeric() for _, kind in there):
            raise _unlike(name, odd, other, first)

    def loaded(self, columns: Sequence[str]) -> EventLog:
        """The same log with these columns in memory; Parquet stays on disk, where a column costs one read."""
        if all(part.kind == "Parquet" for part in self.parts):
            return self
        frames = [
            Part(part.name, "frame", part.load(columns).lazy(), written=part.written, notes=part.notes)
            for part in self.parts
        ]
        return EventLog(frames, self.names, self.notes, text=self.text, keys=self.keys)

    def written(self, name: str) -> pl.Series | None:
        """The text of a column in text files; None for other formats, and for a column from a folder's name."""
        columns = [None if part.written is None or name in self.keys else part.written(name) for part in self.parts]
        there = [column for column in columns if column is not None]
        return pl.concat(there, rechunk=True) if there and len(there) == len(columns) else None

    def _common_types(self) -> dict[str, pl.DataType]:
        """Column -> type in the first part that has values for it."""
        out: dict[str, pl.DataType] = {}
        for part in self.parts:
            for name, kind in part.types().items():
                out[name] = kind if out.get(name, pl.Null()) == pl.Null else out[name]
        return out

    def check_types(self, columns: Sequence[str], exact: Sequence[str]) -> None:
        """Raise DataError where parts have different types of a column (whole and broken numbers may mix). For an
            `exact`
        column its presence, wholeness and number of digits must agree too."""
        known = self.types
        for part in self.parts:
            types = part.types()
            for name in columns:
                if name not in types and name in exact:
                    raise DataError(f"'{part.name}' has no column '{name}', which the other files have; add it.")
                if name not in types:
                    continue
                if pl.Null != types[name] and _family(types[name], name in exact) != _family(
                    known[name], name in exact
                ):
                    raise _unlike(name, part.name, types[name], known[name])


def _unlike(column: str, part: str, kind: pl.DataType, elsewhere: pl.DataType) -> DataError:
    return DataError(f"Column '{column}' is {kind} in '{part}' and {elsewhere} elsewhere; write it with one type.")


def _family(kind: pl.DataType, exact: bool) -> str:
    """The family of types that may mix in one column; floats of different widths may not in `exact` columns (ids)."""
    if kind.is_integer():
        return "integer" if exact else "number"
    return "number" if kind.is_float() and not exact else str(kind)


def open_events(source: Source, columns: Mapping[str, str] | None = None) -> EventLog:
    """Open a log without reading its events; raises DataError if there is none. `columns`: as in `recognise`."""
    if isinstance(source, EventLog):
        return source
    if isinstance(source, (str, Path)):
        return _open_files([source], columns)
    if isinstance(source, (list, tuple)) and all(isinstance(one, (str, Path)) for one in source):
        return _open_files(source, columns)
    return EventLog([Part("the frame", "frame", _frame(source))], ("frame",))


def _open_files(source: Sequence[str | Path], columns: Mapping[str, str] | None) -> EventLog:
    files = find_files(source)
    keys = _columns_of_folders(files)
    parts, notes = [], []
    for place, file in enumerate(files):
        part = scan(file.path, lambda header: _exact(header, columns))
        if part is None:
            notes.append(f"Skipped '{file.path.name}', which is empty.")
        else:
            parts.append(_with_keys(part, {name: (values[place], values.dtype) for name, values in keys.items()}))
            notes += part.notes
    if not parts:
        raise DataError(f"'{files[0].path}' is empty; expected a header and events.")
    names = [Path(part.name).name for part in parts]
    return EventLog(parts, names, notes, text=parts[0].kind == "CSV", keys=list(keys))


def _columns_of_folders(files: Sequence[LogFile]) -> dict[str, pl.Series]:
    """Column -> its value in each file, from folders named `key=value`; whole numbers where all are."""
    found = {}
    for name in dict.fromkeys(key for file in files for key in file.keys):
        values = pl.Series(name, [file.keys.get(name) for file in files], dtype=pl.String)
        numbers = values.cast(pl.Int64, strict=False)
        exact = numbers.cast(pl.String).eq_missing(values).all()  # 007 stays text
        found[name] = numbers if exact else values
    return found


def _with_keys(part: Part, keys: Mapping[str, Any]) -> Part:
    """The part with the values of its folders as columns; a column of the file itself wins."""
    there = part.types()
    new = [pl.lit(value, dtype=kind).alias(name) for name, (value, kind) in keys.items() if name not in there]
    sure = part.sure
    return (
        replace(
            part,
            frame=part.frame.with_columns(new),
            sure=None if sure is None else lambda: sure().with_columns(new),
        )
        if new
        else part
    )


def _exact(header: Sequence[str], columns: Mapping[str, str] | None) -> list[str]:
    """The id columns of a text file, which are read as text, so that 007 and 2^63 stay exact."""
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
