"""JSON-lines: a lazy scan, and errors that name the line."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from facta.data.log.text_files import excerpt, head_of, open_text
from facta.errors import DataError


def scan_json(path: Path | str, **options: Any) -> pl.LazyFrame:
    """JSON-lines, lazily. Types are taken from every line, since the last one may have a new column.

    `pl.scan_ndjson` takes each path as a pattern, so its special characters are escaped.
    """
    return pl.scan_ndjson(glob.escape(str(path)), infer_schema_length=None, **options)


def refuse_other_json(path: Path) -> None:
    """Raise DataError for JSON that is not one object a line."""
    head = head_of(path)
    if head.startswith(b"\xef\xbb\xbf"):
        raise DataError(f"Line 1 of '{path}' begins with a byte order mark; save it as UTF-8 without one.")
    start = head.lstrip()
    if start.startswith(b"["):
        raise DataError(f"'{path}' is a JSON array; expected JSON-lines: write one object a line, without [ ].")
    if start.rstrip(b"\r\n").partition(b"\n")[0].strip() == b"{":
        raise DataError(f"'{path}' has JSON objects that span lines; expected JSON-lines: write one object a line.")


def refuse_bad_line(path: Path) -> None:
    """Raise DataError naming the first line that is no JSON object; slow, for files that the parser has refused."""
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            text = line.decode("utf-8", errors="replace").strip()
            if not text:
                continue
            where = f"Line {number:,} of '{path}'"
            try:
                found = json.loads(text, parse_constant=_no_json)
            except _NotJson as error:
                raise DataError(
                    f"{where} has {error}, which is not JSON; write null where a number is missing."
                ) from None
            except ValueError as error:
                torn = "" if line.endswith(b"\n") else ", and it has no line break: the file was cut off"
                raise DataError(f"{where} is not JSON ({error}){torn}; it holds: {excerpt(text)}.") from None
            if not isinstance(found, dict):
                kind = "a JSON array" if isinstance(found, list) else f"{excerpt(text)}"
                raise DataError(f'{where} holds {kind}; expected an object, as in {{"user_id": 1, …}}.')


class _NotJson(Exception):
    """Raised for NaN, Infinity and -Infinity, which Python's parser accepts as numbers."""


def _no_json(name: str) -> NoReturn:
    raise _NotJson(name)
