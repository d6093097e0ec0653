"""Ids and rows: the user's own ids (any integer or text) and our dense integers, both ways, never through floats.

Rows of new ids are given in sorted order (numbers by value, text by UTF-8 bytes), behind the rows that a catalogue
already has: so they depend on the set of ids alone, and a row never changes its meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from facta.errors import DataError

_SHOWN = 5


class Ids:
    """The ids of all rows: `ids[row]` is the id of `row`."""

    def __init__(self, ids: pl.Series, what: str) -> None:
        self.ids = ids
        self.what = what  # "user" or "item", for sentences
        self._table = pl.DataFrame({"id": ids, "row": np.arange(len(ids), dtype=np.int64)})

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Iterable[Any] | pl.Series) -> np.ndarray:
        """[n] ids -> [n] int64 rows; raises DataError that names the ids without a row."""
        series = self._series(ids)
        found = pl.DataFrame({"id": series}).join(self._table, on="id", how="left", maintain_order="left")["row"]
        if found.null_count():
            unknown = series.filter(found.is_null()).unique(maintain_order=True)
            shown = ", ".join(repr(value) for value in unknown.head(_SHOWN))
            more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
            raise DataError(
                f"Unknown {self.what} {shown}{more}: the dataset has {len(self):,} {self.what}s; "
                f"give ids as they stand in the log ({self.ids.dtype}, such as {self.ids[0]!r})."
            )
        return found.to_numpy()

    def _series(self, ids: Iterable[Any] | pl.Series) -> pl.Series:
        series = ids if isinstance(ids, pl.Series) else pl.Series("id", list(ids), strict=False)
        if len(series) == 0:
            return series.cast(self.ids.dtype)
        text = self.ids.dtype == pl.String
        if text != (series.dtype == pl.String) or not (text or series.dtype.is_integer()):
            raise DataError(
                f"Found {self.what} ids of type {series.dtype}; expected {self.ids.dtype}, such as {self.ids[0]!r}."
            )
        return series.cast(self.ids.dtype, strict=False)  # out of range: null, which has no row


def new_rows(ids: pl.Series, known: pl.Series | None = None) -> pl.Series:
    """The ids of all rows: those known, in their order, then the others among `ids`, sorted."""
    distinct = ids.unique().sort()
    if known is None:
        return distinct
    return pl.concat([known, distinct.filter(~distinct.is_in(known.implode()))])
