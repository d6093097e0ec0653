"""Parquet files: paths are no patterns, and errors of the reader become one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from facta.errors import DataError


def scan_parquet(path: Path | str) -> pl.LazyFrame:
    """A Parquet file, lazily. Its path is no pattern, and the folders above it are no columns."""
    return pl.scan_parquet(path, glob=False, hive_partitioning=False)


def read_parquet(path: Path | str) -> pl.DataFrame:
    """A Parquet file. Its path is no pattern, and the folders above it are no columns."""
    return scan_parquet(path).collect()


FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, EOFError)
"""Errors that polars raises for unreadable files."""


@contextmanager
def reading(path: Path | str, kind: str) -> Iterator[None]:
    """Turn errors of polars into one sentence about the file."""
    try:
        yield
    except FAILURES as error:
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        raise DataError(
            f"'{path}' cannot be read as {kind} ({reason}); is it cut off, or of another format?"
        ) from error
