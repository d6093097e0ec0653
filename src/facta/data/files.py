"""Finding the files of an event log and opening each lazily: Parquet, CSV, JSON-lines, the last two also as .gz."""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import polars as pl

from facta.errors import DataError

Format = Literal["Parquet", "CSV", "JSON-lines"]
_SUFFIXES: dict[str, Format] = {
    **dict.fromkeys((".parquet", ".pq"), "Parquet"),
    **dict.fromkeys((".csv", ".tsv", ".inter", ".item", ".user", ".txt"), "CSV"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "JSON-lines"),
}
_SEPARATORS = "\t,;|"
_HEAD = 10_000  # lines from which a CSV file's types are guessed; looking at all of them costs ten times the reading


def format_of(path: Path) -> Format | None:
    """The format that a file's name promises; None: not one of ours."""
    name = path.name.lower().removesuffix(".gz")
    kind = _SUFFIXES.get(Path(name).suffix)
    return None if kind == "Parquet" and path.name.lower().endswith(".gz") else kind


def find_files(source: Sequence[str | Path]) -> list[Path]:
    """Files, folders and globs -> files in a fixed order; refuses none, doubles, and formats side by side."""
    files = [file for place in source for file in _expand(place)]
    if not files:
        raise DataError(f"No file was found for {', '.join(map(str, source)) or 'an empty list'}.")
    kinds = {format_of(file) for file in files}
    if None in kinds:
        odd = next(file for file in files if format_of(file) is None)
        raise DataError(f"'{odd}' has no known format; expected {', '.join(sorted(_SUFFIXES))} (text also .gz).")
    if len(kinds) > 1:
        raise DataError(f"The files mix {' and '.join(sorted(map(str, kinds)))}; prepare one format at a time.")
    _refuse_doubles(files)
    return files


def _expand(place: str | Path) -> list[Path]:
    path = Path(place)
    if (path / "manifest.json").exists():
        raise DataError(f"'{path}' is a prepared dataset already; expected an event log.")
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and format_of(file))
    if path.exists():
        return [path]
    found = sorted(map(Path, glob.glob(str(place), recursive=True)))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not found:
        raise DataError(f"There is no file '{place}'.")
    return [file for file in found if file.is_file()]


def _refuse_doubles(files: Sequence[Path]) -> None:
    """The same events twice would count twice. Only files of equal size are read."""
    sizes: dict[int, list[Path]] = {}
    for file in files:
        sizes.setdefault(file.stat().st_size, []).append(file)
    for size, same in sizes.items():
        seen: dict[bytes, Path] = {}
        for file in same if len(same) > 1 and size > 0 else ():
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").digest()
            if digest in seen:
                raise DataError(
                    f"'{seen[digest]}' and '{file}' are the same; their events would count twice: give one."
                )
            seen[digest] = file


@contextmanager
def reading(path: Path | str, kind: str) -> Iterator[None]:
    """Turn whatever goes wrong inside polars into one sentence about the file."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, EOFError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        raise DataError(
            f"'{path}' cannot be read as {kind} ({reason}); is it cut off, or of another format?"
        ) from error


Exact = Callable[[Sequence[str]], Sequence[str]]
"""Column names -> those whose text must stay exact (ids): digits are not numbers before we say so."""


@dataclass(frozen=True)
class Part:
    """One file of a log (or a frame in memory), not yet read."""

    name: str
    kind: str
    frame: pl.LazyFrame
    last: str | None = None  # of a CSV file: superfluous values are noticed only where the last column is read
    sure: Callable[[], pl.LazyFrame] | None = None  # the same, its types guessed from every line
    exact: Exact | None = None  # of a JSON-lines file: text in which numbers may have lost digits

    def types(self) -> dict[str, pl.DataType]:
        """Column -> type."""
        with reading(self.name, self.kind):
            return dict(self.frame.collect_schema())

    def load(self, columns: Sequence[str]) -> pl.DataFrame:
        """Read some columns, nulls for those that are not there.

        Where a late line disagrees with the guessed types, they are guessed again from all lines.
        """
        with reading(self.name, self.kind):
            try:
                loaded = self._select(self.frame, columns)
            except pl.exceptions.ComputeError:
                if self.sure is None:
                    raise
                loaded = self._select(self.sure(), columns)
        for column in () if self.exact is None else self.exact(columns):
            _refuse_lost_digits(self.name, loaded[column])
        return loaded

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
    if kind == "Parquet":
        return Part(str(path), kind, pl.scan_parquet(path))
    if kind == "JSON-lines":  # every line is looked at: a column may appear for the first time in the last one
        return Part(str(path), kind, pl.scan_ndjson(path, infer_schema_length=None), exact=exact)
    return _scan_csv(path, exact)


def _refuse_lost_digits(path: str, ids: pl.Series) -> None:
    """Where a column of JSON holds text, its numbers become text too, those with a decimal point by way of floats.

    What they were is only told by reading the column again, which is done where any id has the 16 digits of 2^53.
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
    frame = pl.scan_ndjson(path, schema_overrides={column: kind}, ignore_errors=True, infer_schema_length=None)
    with reading(path, "JSON-lines"):
        return frame.select(column).collect()[column]


def _scan_csv(path: Path, exact: Exact) -> Part | None:
    header, separator = _header(path)
    if not header:
        return None
    texts = dict.fromkeys(exact(header), pl.String)

    def attempt(lines: int | None) -> pl.LazyFrame:
        return pl.scan_csv(path, separator=separator, schema_overrides=texts, infer_schema_length=lines)

    with reading(path, "CSV"):
        lines = _HEAD if _telling(attempt(_HEAD), texts) else None
    return Part(str(path), "CSV", attempt(lines), header[-1], lambda: attempt(None))


def _telling(frame: pl.LazyFrame, texts: Collection[str]) -> bool:
    """Whether the first lines tell the types: nothing near contradicts them, and no column is empty so far."""
    try:
        head = frame.head(_HEAD).collect()
    except pl.exceptions.ComputeError:
        return False
    guesses = [name for name, kind in head.schema.items() if kind == pl.String and name not in texts]
    return all(head[name].null_count() < len(head) for name in guesses)


def _header(path: Path) -> tuple[list[str], str]:
    """The column names of a CSV file and its separator."""
    with reading(path, "CSV"), _open(path) as stream:
        line = stream.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n")
    separator = max(_SEPARATORS, key=line.count)
    names = next(csv.reader([line], delimiter=separator), [])
    if names and all(_is_number(name) for name in names):
        raise DataError(
            f"The first line of '{path}' holds values ({line[:60]}), not names; put a header line above it."
        )
    if len(names) == 1:
        raise DataError(f"'{path}' has one column ({line[:60]}); expected columns divided by comma, tab, ; or |.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"'{path}' has two columns named '{twice[0]}'; rename or remove one.")
    return names, separator


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def line_bytes(path: Path) -> float:
    """The mean length of a line, unzipped, from the first ones."""
    with reading(path, "text"), _open(path) as stream:
        head = stream.read(1 << 16)
    return len(head) / max(1, head.count(b"\n"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
