"""Opening a CSV file: its header and separator, its quotation marks, its blank lines, and the types of its columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from facta.data.dataset.schema import is_known_name
from facta.data.log.text_files import excerpt, head_of, open_text, read_whole, refuse_cut
from facta.errors import DataError, counted

Exact = Callable[[Sequence[str]], Sequence[str]]
"""Column names -> the columns whose text must stay exact (ids), so that digits are not read as numbers."""

_SEPARATORS = "\t,;|"
_TYPE_LINES = 10_000  # lines from which types are guessed; all lines would cost ten times the reading
_LINES_SHOWN = 4
_EMPTY = pl.all_horizontal(pl.all().is_null() | (pl.all().cast(pl.String).str.strip_chars() == "").fill_null(True))
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}.*")


@dataclass(frozen=True)
class Table:
    """How a CSV file is to be read."""

    path: Path
    names: tuple[str, ...]
    separator: str
    skip: int = 0  # lines before the header
    quote: str | None = '"'  # None: quotation marks are ordinary characters
    texts: tuple[str, ...] = ()  # columns to be read as text
    gaps: bool = False  # leave out lines without any value
    notes: tuple[str, ...] = ()

    def scan(self, type_lines: int | None) -> pl.LazyFrame:
        """The file, lazily; types are guessed from the first `type_lines` lines, None: from all."""
        frame = self._scan(dict.fromkeys(self.texts, pl.String), infer_schema_length=type_lines)
        return frame.filter(~_EMPTY) if self.gaps else frame

    def written(self, name: str) -> pl.Series:
        """The text of a column."""
        frame = self._scan(infer_schema=False)
        return (frame.filter(~_EMPTY) if self.gaps else frame).select(name).collect()[name]

    def empty_lines(self) -> int:
        """How many lines have no value in any column."""
        return int(self._scan(infer_schema=False).select(_EMPTY.sum()).collect().item())

    def _scan(self, types: Mapping[str, Any] | None = None, **options: Any) -> pl.LazyFrame:
        return pl.scan_csv(
            self.path,
            separator=self.separator,
            quote_char=self.quote,
            skip_rows=self.skip,
            schema_overrides=types,
            glob=False,
            **options,
        )

    def guessed(self) -> pl.LazyFrame:
        """The file with types from its first lines, if these determine the types of all lines."""
        return self.scan(_TYPE_LINES if _telling(self.scan(_TYPE_LINES), self.texts) else None)


def open_table(path: Path, exact: Exact) -> Table | None:
    """Header, separator and quoting of a CSV file; None where it has no header.

    Raises DataError for a file that is no such table, and for ambiguous lines.
    """
    table = _header(path)
    if table is None:
        return None
    table = replace(table, texts=tuple(exact(table.names)))
    whole = read_whole(path)
    if whole.nul is not None:
        raise DataError(
            f"Line {whole.nul:,} of '{path}' has a NUL byte, which no text has: the file was damaged when it was "
            "written or copied; get it again, or remove that line."
        )
    refuse_cut(path, whole, table.separator, len(table.names))
    table = _quoted(table) if whole.quotes else table
    empty = table.empty_lines() if whole.gaps else 0
    if not empty:
        return table
    note = f"Skipped {counted(empty, 'blank line')} of '{path.name}'."
    return replace(table, gaps=True, notes=(*table.notes, note))


def _header(path: Path) -> Table | None:
    """The column names of a CSV file and its separator."""
    lines = head_of(path).decode("utf-8-sig", errors="replace").splitlines()
    lines = lines or [""]
    skip, said = 0, re.fullmatch(r'"?sep=(.)"?', lines[0], flags=re.IGNORECASE)  # what Excel reads and writes
    if said is not None:
        skip, lines = 1, lines[1:] or [""]
    line = lines[0]
    separator = max(_SEPARATORS, key=line.count) if said is None else said[1]
    names = next(csv.reader([line], delimiter=separator), [])
    if not names:
        return None
    if _are_values(names):
        raise DataError(
            f"The first line of '{path}' holds values ({excerpt(line)}), not names; put a header line above it."
        )
    if len(names) == 1:
        raise DataError(f"'{path}' has one column ({excerpt(line)}); expected columns divided by comma, tab, ; or |.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"'{path}' has two columns named '{twice[0]}'; rename or remove one.")
    return Table(path, tuple(names), separator, skip)


def _are_values(names: Sequence[str]) -> bool:
    """Whether a first line holds values: numbers or dates, and no name that means a user, an item or a time."""
    values = [name for name in names if _is_number(name) or _DATE.fullmatch(name.strip())]
    return bool(values) and (len(values) == len(names) or not any(map(is_known_name, names)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _telling(frame: pl.LazyFrame, texts: Collection[str]) -> bool:
    """Whether the first lines determine the types: further lines agree, and no column is empty so far."""
    try:
        head = frame.head(_TYPE_LINES).collect()
    except pl.exceptions.ComputeError:
        return False
    guesses = [name for name, kind in head.schema.items() if kind == pl.String and name not in texts]
    return all(head[name].null_count() < len(head) for name in guesses)


def _quoted(table: Table) -> Table:
    """The meaning of the quotation marks of a file.

    A parser silently swallows all lines between a mark that opens a field and the next mark. So a file is accepted if
    every line is whole by itself; or if the fields that span lines are closed and contain no line that looks like an
    event; or, with marks as ordinary characters, if every line then has the right number of columns and no id or time
    is within marks. Other files are refused, with the line numbers.
    """
    odd = _odd_lines(table)
    if not odd or _spans_lines(table, set(odd)):
        return table
    lines = ", ".join(f"{number:,}" for number in odd[:_LINES_SHOWN]) + (", …" if len(odd) > _LINES_SHOWN else "")
    where = f"{'line' if len(odd) == 1 else 'lines'} {lines} of '{table.path}'"
    if _marks_are_characters(table):
        note = f"Quotation marks in {where} open or close no field; they were read as characters of the text."
        return replace(table, quote=None, notes=(*table.notes, note))
    raise DataError(
        f"A quotation mark in {where} opens a field and does not close it, or is within a field, so that lines cannot "
        "be separated; close it, double it within quotation marks, or remove it."
    )


def _odd_lines(table: Table) -> list[int]:
    """The numbers, from 1, of lines in which quotation marks are not those of whole fields."""
    separator = re.escape(table.separator)
    field = rf'(?:"(?:[^"]|"")*"|[^"{separator}]*)'
    lines = _lines(table.path).filter(pl.col("line").str.contains('"', literal=True))
    odd = lines.filter(~pl.col("line").str.contains(rf"^{field}(?:{separator}{field})*\r?$"))
    return [int(number) for number in odd.select("number").collect(engine="streaming")["number"]]


def _lines(path: Path) -> pl.LazyFrame:
    """number (from 1), line: the physical lines of a file."""
    return pl.scan_csv(
        path,
        has_header=False,
        separator="\x1e",  # a control character that separates records: logs do not contain it
        quote_char=None,
        new_columns=["line"],
        infer_schema=False,
        truncate_ragged_lines=True,
        row_index_name="number",
        row_index_offset=1,
        glob=False,
    )


def _spans_lines(table: Table, odd: Collection[int]) -> bool:
    """Whether all quotation marks enclose fields, and no field that spans lines contains a line of the table.

    `odd`: the lines that are not whole by themselves; each must be part of a field that spans lines.
    """
    width = len(table.names)
    with io.TextIOWrapper(open_text(table.path), encoding="utf-8", errors="replace", newline="") as stream:
        for _ in range(table.skip):
            stream.readline()
        reader, before = csv.reader(stream, delimiter=table.separator, strict=True), table.skip
        try:
            for record in reader:
                first, before = before + 1, reader.line_num + table.skip
                if (record and len(record) != width) or (first == before and first in odd):
                    return False
                if any(_holds_a_line(field, table.separator, width) for field in record if "\n" in field):
                    return False
        except csv.Error:
            return False
    return True


def _holds_a_line(field: str, separator: str, width: int) -> bool:
    """Whether a line within a field has the columns of a whole line."""
    return any(line.count(separator) >= width - 1 for line in field.split("\n")[1:])


def _marks_are_characters(table: Table) -> bool:
    """Whether each line has its columns without regard to quotation marks, and ids and times have none."""
    width, separator = len(table.names), table.separator
    if any(name.startswith('"') for name in table.names):
        return False
    counts = _lines(table.path).filter(pl.col("line").str.strip_chars() != "")
    counts = counts.filter(pl.col("number") > table.skip)
    marked = pl.any_horizontal(
        pl.col("line").str.split(separator).list.get(place, null_on_oob=True).str.contains('"', literal=True)
        for place, name in enumerate(table.names)
        if name in table.texts or is_known_name(name)
    )
    held = counts.select(
        (pl.col("line").str.count_matches(separator, literal=True) == width - 1).all().alias("whole"),
        marked.any().alias("marked"),
    )
    found = held.collect(engine="streaming")
    return bool(found["whole"].item()) and not bool(found["marked"].item())
