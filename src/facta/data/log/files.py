"""Finding the files of an event log and opening each lazily: Parquet, CSV, JSON-lines, the last two also as .gz."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import escape, glob
from pathlib import Path
from typing import Literal

import polars as pl

from facta.data.dataset.parquet import FAILURES, reading, scan_parquet
from facta.data.log.csv_files import Exact, open_table
from facta.data.log.json_files import refuse_bad_line, refuse_other_json, scan_json
from facta.data.log.text_files import head_of, open_text, refuse_bad_bytes
from facta.errors import DataError

Format = Literal["Parquet", "CSV", "JSON-lines"]

_SUFFIXES: dict[str, Format] = {
    **dict.fromkeys((".parquet", ".pq"), "Parquet"),
    **dict.fromkeys((".csv", ".tsv", ".inter", ".item", ".user", ".txt"), "CSV"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "JSON-lines"),
}

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"

_BLOCK_BYTES = 1 << 20


def format_of(path: Path) -> Format | None:
    """The format by a file's name; None: not one of ours."""
    name = path.name.lower().removesuffix(".gz")
    kind = _SUFFIXES.get(Path(name).suffix)
    return None if kind == "Parquet" and path.name.lower().endswith(".gz") else kind


@dataclass(frozen=True)
class LogFile:
    """A file of a log, and the columns that the folders above it give all its events: `date=2024-05-31/part.csv`."""

    path: Path
    keys: Mapping[str, str | None] = field(default_factory=dict)


def find_files(source: Sequence[str | Path]) -> list[LogFile]:
    """Files, folders and globs -> files in a fixed order. Raises DataError for no files, duplicates, mixed formats."""
    found = [file for place in source for file in _expand(place)]
    if not found:
        raise DataError(f"No file was found for {', '.join(map(str, source)) or 'an empty list'}.")
    if len(source) > 1 and all(Path(place).is_file() for place in source):
        found = _named_one_by_one(found)
    files = [file.path for file in found]
    kinds = {format_of(file) for file in files}
    if None in kinds:
        odd = next(file for file in files if format_of(file) is None)
        raise DataError(f"'{odd}' has no known format; expected {', '.join(sorted(_SUFFIXES))} (text also .gz).")
    if len(kinds) > 1:
        raise DataError(f"The files mix {' and '.join(sorted(map(str, kinds)))}; prepare one format at a time.")
    _refuse_doubles(found)
    return found


def _named_one_by_one(files: Sequence[LogFile]) -> list[LogFile]:
    """Files that a shell made of a pattern: the folders above them are keys as far as they differ."""
    keys = [_keys(file.path, Path(file.path.anchor)) for file in files]
    telling = [key for key in keys[0] if len({one.get(key) for one in keys}) > 1]
    return [LogFile(file.path, {key: one.get(key) for key in telling}) for file, one in zip(files, keys, strict=True)]


def _expand(place: str | Path) -> list[LogFile]:
    path = Path(place)
    if (path / "manifest.json").exists():
        raise DataError(f"'{path}' is a prepared dataset already; expected an event log.")
    if path.is_dir():
        return [LogFile(file, _keys(file, path)) for file in _below(path)]
    if path.exists():
        return [LogFile(path)]
    pattern, root = _pattern(path)
    found = sorted(Path(one) for one in glob(pattern, recursive=True) if not _hidden(Path(one).name))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not found:
        raise DataError(f"There is no file '{place}'.")
    return [LogFile(file, _keys(file, root)) for one in found for file in (_below(one) if one.is_dir() else [one])]


def _pattern(path: Path) -> tuple[str, Path]:
    """The pattern of a path, and the folder in which it begins. An existing folder is no pattern."""
    root = Path(path.anchor)
    parts = [part for part in path.parts if part != path.anchor]
    while parts and (root / parts[0]).exists():
        root /= parts.pop(0)
    return str(Path(escape(str(root)), *parts)), root


def _below(folder: Path) -> list[Path]:
    """The files of a folder; those of its subfolders if it has none, or if these are named `key=value`."""
    there = sorted(path for path in folder.iterdir() if not _hidden(path.name))
    files = [path for path in there if path.is_file() and format_of(path)]
    folders = [path for path in there if path.is_dir() and (not files or "=" in path.name)]
    return files + [file for path in folders for file in _below(path)]


def _hidden(name: str) -> bool:
    """Names of system files beside data: `._events.csv`, `.DS_Store`, `_SUCCESS`, `_metadata`."""
    return name.startswith((".", "_")) and "=" not in name


def _keys(file: Path, root: Path) -> dict[str, str | None]:
    """The keys and values of folders below `root` that are named `key=value`."""
    pairs = [folder.partition("=") for folder in file.relative_to(root).parts[:-1] if "=" in folder]
    return {key: None if value == _NO_VALUE else _unquoted(value) for key, _, value in pairs}


def _unquoted(value: str) -> str:
    """The text of a folder's name, unquoted: systems write a colon as %3A."""
    return re.sub(
        r"(?:%[0-9A-Fa-f]{2})+", lambda found: bytes.fromhex(found[0].replace("%", "")).decode(errors="replace"), value
    )


def _refuse_doubles(files: Sequence[LogFile]) -> None:
    """Raise DataError for two equal files, whose events would count twice. Only files of equal (unzipped) size and
    equal keys are read.
    """
    alike: dict[tuple[object, ...], list[Path]] = {}
    for file in files:
        alike.setdefault((_unzipped_size(file.path), *sorted(file.keys.items())), []).append(file.path)
    for (size, *_), same in alike.items():
        seen: dict[bytes, Path] = {}
        for path in same if len(same) > 1 and size != 0 else ():
            digest = _digest(path)
            if digest in seen:
                raise DataError(
                    f"'{seen[digest]}' and '{path}' are the same; their events would count twice: give one."
                )
            seen[digest] = path


def _unzipped_size(file: Path) -> int:
    """The size of the content modulo 2^32; the last four bytes of a .gz file of one member store it."""
    size = file.stat().st_size
    if not file.name.lower().endswith(".gz") or size < 4:
        return size % (1 << 32)
    with file.open("rb") as stream:
        stream.seek(-4, 2)
        return int.from_bytes(stream.read(4), "little")


def _digest(file: Path) -> bytes:
    digest = hashlib.sha256()
    with reading_log(file, "text"), open_text(file) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.digest()


@contextmanager
def reading_log(path: Path | str, kind: str) -> Iterator[None]:
    """As `reading`; for text files the error names the line."""
    with reading(path, kind):
        try:
            yield
        except FAILURES:
            _name_the_line(Path(path), kind)
            raise


def _name_the_line(path: Path, kind: str) -> None:
    """Raise DataError with the first bad line of a text file, if one is found."""
    if kind not in ("CSV", "JSON-lines") or not path.is_file():
        return
    try:
        refuse_bad_bytes(path)
        if kind == "JSON-lines":
            refuse_bad_line(path)
    except (OSError, EOFError):  # a .gz file that is cut off has no lines to name
        return


@dataclass(frozen=True)
class Part:
    """One file of a log (or a frame in memory), not yet read."""

    name: str
    kind: str
    frame: pl.LazyFrame
    last: str | None = None  # of a CSV file: surplus values are noticed only if the last column is read
    sure: Callable[[], pl.LazyFrame] | None = None  # as `frame`, with types guessed from every line
    exact: Exact | None = None  # columns of a JSON-lines file read as text, in which numbers may have lost digits
    written: Callable[[str], pl.Series] | None = None  # of a CSV file: the text of a column
    notes: tuple[str, ...] = ()

    def types(self) -> dict[str, pl.DataType]:
        """Column -> type."""
        with reading_log(self.name, self.kind):
            return dict(self.frame.collect_schema())

    def load(self, columns: Sequence[str]) -> pl.DataFrame:
        """Read some columns; missing ones are nulls.

        If a late line contradicts the guessed types, they are guessed again from all lines.
        """
        with reading_log(self.name, self.kind):
            try:
                loaded = self._select(self.frame, columns)
            except pl.exceptions.ComputeError:
                if self.sure is None:
                    raise
                loaded = self._select(self.sure(), columns)
        for column in () if self.exact is None else self.exact(columns):
            _refuse_lost_digits(self.name, loaded[column])
        return loaded

    def head(self, column: str, lines: int) -> pl.Series:
        """The first values of a column; empty if it is missing."""
        with reading_log(self.name, self.kind):
            if column not in self.frame.collect_schema():
                return pl.Series(column, [], dtype=pl.String)
            return self.frame.select(column).head(lines).collect()[column]

    def _select(self, frame: pl.LazyFrame, columns: Sequence[str]) -> pl.DataFrame:
        present = frame.collect_schema()
        guard = [self.last] if self.last is not None and self.last not in columns else []
        absent = [pl.lit(None).alias(name) for name in columns if name not in present]
        return frame.with_columns(absent).select(*columns, *guard).collect().drop(guard)


def scan(path: Path, exact: Exact) -> Part | None:
    """One file, lazily; None where it is empty."""
    kind = format_of(path)
    if path.stat().st_size == 0:
        return None
    with reading_log(path, str(kind)):
        if kind == "Parquet":
            return Part(str(path), kind, scan_parquet(path))
        if kind == "JSON-lines":
            refuse_other_json(path)
            return Part(str(path), kind, scan_json(path), exact=exact)
        table = open_table(path, exact)
        if table is None:
            return None
        last = table.names[-1]
        return Part(
            str(path), "CSV", table.guessed(), last, lambda: table.scan(None), written=table.written, notes=table.notes
        )


def _refuse_lost_digits(path: str, ids: pl.Series) -> None:
    """Raise DataError for ids that lost digits. In a JSON column with text, numbers become text too, those with a
    decimal point by way of floats.

    The column is read again to compare, but only if an id has the 16 digits of 2^53.
    """
    if ids.dtype != pl.String or not ids.str.contains("^-?[0-9]{16}").any():
        return
    numbers, whole = (_only(path, ids.name, kind) for kind in (pl.Float64(), pl.Int128()))
    lost = ids.filter(whole.is_null() & (numbers.abs() >= 2**53))
    if len(lost):
        raise DataError(
            f"Column '{ids.name}' of '{path}' has numbers beside text, such as {lost[0][:20]}, "
            f"which may have lost digits; write all of them as text."
        )


def _only(path: str, column: str, kind: pl.DataType) -> pl.Series:
    """The values of one type in a column of JSON-lines, null for all others."""
    frame = scan_json(path, schema_overrides={column: kind}, ignore_errors=True)
    with reading(path, "JSON-lines"):
        return frame.select(column).collect()[column]


def line_bytes(path: Path) -> float:
    """The mean length of a line, unzipped, from the first ones."""
    with reading(path, "text"):
        head = head_of(path)
    return len(head) / max(1, head.count(b"\n"))
