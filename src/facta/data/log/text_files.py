"""Checks of a text file before it is parsed: encoding, line breaks, and a cut-off end.

Errors here name the cause, because the parser would name only its consequence.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from facta.errors import DataError

_HEAD_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 22
_EXCERPT_LETTERS = 60
_BLANK_BEGINNINGS = (b"\n", b"\r", b" ", b"\t", b",", b";", b"|", b'""')  # bytes that may begin a line without a value

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32 text; save it as UTF-8"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save the sheet as CSV (UTF-8)"),
    (b"\x1f\x8b", "compressed with gzip; give it a name that ends in .gz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it"),
    (b"BZh", "compressed with bzip2; unpack it"),
    (b"\xfd7zXZ", "compressed with xz; unpack it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it"),
    (b"PAR1", "a Parquet file; give it a name that ends in .parquet"),
    (b"\x00\x05\x16\x07", "the hidden companion that macOS writes beside a file; give the file itself"),
    (b"SQLite format 3", "an SQLite database; export the table as CSV or Parquet"),
)


def open_text(path: Path) -> BinaryIO:
    """The bytes of a text file, unzipped where its name ends in .gz."""
    return cast(BinaryIO, gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def excerpt(text: str) -> str:
    """The beginning of a text for an error message, without control characters."""
    shown = text if len(text) <= _EXCERPT_LETTERS else f"{text[:_EXCERPT_LETTERS]}…"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in shown)


def head_of(path: Path) -> bytes:
    """The first 64 KiB, unzipped; raises DataError if they are no UTF-8 text with line breaks."""
    with open_text(path) as stream:
        head = stream.read(_HEAD_BYTES)
    for signature, found in _SIGNATURES:
        if head.startswith(signature):
            raise DataError(f"'{path}' is {found}.")
    if head[:200].count(b"\0") > len(head[:200]) // 4:
        raise DataError(f"'{path}' holds a NUL byte in every other place, as UTF-16 text does; save it as UTF-8.")
    if head.lstrip()[:1] == b"<":
        raise DataError(f"'{path}' begins with '<', so it is a web page or XML; expected a table or JSON-lines.")
    if b"\n" not in head and b"\r" in head:
        raise DataError(
            f"'{path}' has line breaks of old Macs (a carriage return alone); save it with Unix or Windows line breaks."
        )
    return head


@dataclass(frozen=True)
class Whole:
    """Results of one pass over the bytes of a text file."""

    quotes: bool  # it has quotation marks
    nul: int | None  # the line with the first NUL byte, from 1
    gaps: bool  # a line begins with a blank, a separator or its end, so it may have no value
    lines: int  # line breaks, plus one if the last line has none
    tail: bytes  # the last 64 KiB


def read_whole(path: Path) -> Whole:
    """One pass over the unzipped bytes, about as fast as reading them from memory."""
    quotes, gaps, nul, breaks, tail = False, False, None, 0, b""
    for block in _blocks(path):
        gaps = gaps or any(b"\n" + begin in block for begin in _BLANK_BEGINNINGS) or block[:1] in _BLANK_BEGINNINGS
        quotes = quotes or b'"' in block
        if nul is None and (place := block.find(b"\0")) >= 0:
            nul = breaks + block.count(b"\n", 0, place) + 1
        breaks += block.count(b"\n")
        tail = (tail + block)[-_HEAD_BYTES:]
    return Whole(quotes, nul, gaps, breaks + (bool(tail) and not tail.endswith(b"\n")), tail)


def _blocks(path: Path) -> Iterator[bytes]:
    with open_text(path) as stream:
        while block := stream.read(_BLOCK_BYTES):
            yield block


def refuse_bad_bytes(path: Path) -> None:
    """Raise DataError with the first line that is no UTF-8; slow, for files that a parser has refused."""
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                said = excerpt(line.decode("latin-1").strip())
                raise DataError(
                    f"'{path}' cannot be read as UTF-8: line {number:,} has the byte 0x{line[error.start]:02x} "
                    f"({said}); save it as UTF-8."
                ) from None


def refuse_cut(path: Path, whole: Whole, separator: str, width: int) -> None:
    """Raise DataError if the last line of a table has no line break and is shorter than all earlier lines.

    A file cut within its last number still parses: 1700075710 becomes 170007571, a moment of 1975. A last line without
    a line break is accepted if it looks like the others.
    """
    if whole.tail.endswith(b"\n") or not whole.tail:
        return
    lines = [line for line in whole.tail.decode("utf-8", errors="replace").splitlines() if line.strip()]
    if whole.lines > len(lines):
        lines = lines[1:]  # the first one may have begun before the tail
    if len(lines) < 2:
        return
    *before, last = lines
    fields, found = last.count(separator) + 1, last.rsplit(separator, 1)[-1]
    lengths = {len(line.rsplit(separator, 1)[-1].strip('"')) for line in before[1:] or before}
    if fields < width and '"' not in last:
        why = f"after {fields} of {width} columns"
    elif len(before) >= _LEAST_LINES and len(lengths) == 1 and len(found.strip('"')) < min(lengths):
        why = f"in '{excerpt(found)}', which has {len(found)} characters where all others have {min(lengths)}"
    else:
        return
    raise DataError(
        f"The last line ({whole.lines:,}) of '{path}' was cut off {why}; get the whole file, or remove that line."
    )


_LEAST_LINES = 5  # lines before the last one that determine its expected length
