"""Ids and rows: the user's own ids (any integer or text) and our dense integers, both ways, never through floats.

New ids get rows in sorted order (numbers by value, text by UTF-8 bytes), after the rows of an existing catalogue. So
rows depend on the set of ids alone, not on the order of the log, and a row never changes its meaning.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.arrays import Ints
from facta.errors import DataError, counted

ItemId = int | str

_IDS_SHOWN = 5
_CHUNK_IDS = 1 << 22  # ids looked up at a time: bounds the memory of the join
_SEARCH_FACTOR = 16  # a join hashes all ids (.1 s a million), a search takes about a microsecond per looked-up id
_WHOLE = r"^-?(0|[1-9][0-9]*)$"  # digits that stay equal as an integer and back; 007 does not
_MISSING = r"(?i)^(nan|na|n/a|<na>|null|none)$"  # texts that stand for a missing value
_WHOLE_OR_MISSING = rf"{_WHOLE[:-1]}(\.0)?$|{_MISSING}"  # tables with gaps write 1 as 1.0
_EXACT = {"Float16": 2**11, "Float32": 2**24, "Float64": 2**53}  # floats below hold every integer exactly


class Ids:
    """The ids of all rows: `ids[row]` is the id of `row`."""

    def __init__(self, ids: pl.Series, what: str) -> None:
        self.ids = ids  # Int64, UInt64 or String; distinct
        self.what = what  # "user" or "item", for sentences

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Iterable[Any] | pl.Series) -> Ints:
        """[n] ids -> [n] rows; raises DataError that names the ids without a row."""
        ids = ids if isinstance(ids, pl.Series) else list(ids)
        found = self._find(self._like_ours(ids if isinstance(ids, pl.Series) else _series(ids)))
        if (found < 0).any():
            names = list(dict.fromkeys(repr(i) for i, row in zip(ids, found.tolist(), strict=True) if row < 0))
            more = f" and {len(names) - _IDS_SHOWN} more" if len(names) > _IDS_SHOWN else ""
            raise DataError(f"Unknown {self.what} {', '.join(names[:_IDS_SHOWN])}{more}; {self._expected()}.")
        return found

    def rows_if_known(self, ids: Sequence[ItemId]) -> Ints:
        """[n] plain ids of our own type -> [n] rows, -1 for ids without a row."""
        kind = pl.String if self.ids.dtype == pl.String else pl.Int128
        try:
            given = pl.Series("id", ids, dtype=kind)
        except (OverflowError, UnicodeEncodeError):  # such ids cannot occur in a table
            given = pl.Series("id", [id_ if _in_a_table(id_) else None for id_ in ids], dtype=kind)
        return self._find(given.cast(self.ids.dtype, strict=False))

    def rows_known(self, ids: pl.Series) -> npt.NDArray[np.int32]:
        """[n] ids of our own type, all known -> [n] rows; the fast path for whole columns."""
        out = np.empty(len(ids), dtype=np.int32)
        for start in range(0, len(ids), _CHUNK_IDS):
            out[start : start + _CHUNK_IDS] = self._find(ids.slice(start, _CHUNK_IDS))
        return out

    def _find(self, ids: pl.Series) -> Ints:
        """[n] ids of our own type -> [n] rows, -1 for ids without a row."""
        few = len(ids) * _SEARCH_FACTOR < len(self.ids)
        return self._search(ids) if few or self._numbers is not None else self._join(ids)

    def _join(self, ids: pl.Series) -> Ints:
        """Slow twin of `_search`: its cost grows with the number of all ids."""
        table = pl.DataFrame({"id": self.ids, "row": np.arange(len(self.ids), dtype=np.int64)})
        found = pl.DataFrame({"id": ids}).join(table, on="id", how="left", maintain_order="left")["row"]
        return found.fill_null(-1).to_numpy(writable=True)

    def _search(self, ids: pl.Series) -> Ints:
        """By bisection among the sorted ids; the order is made once, at the first search."""
        if len(self) == 0 or len(ids) == 0:
            return np.full(len(ids), -1)
        given = ids.fill_null(self.ids[0]) if ids.null_count() else ids
        if self._numbers is None:  # text is ordered by its UTF-8 bytes
            place = self._sorted.search_sorted(given).to_numpy().astype(np.int64).clip(max=len(self) - 1)
            equal = (self._sorted[place] == given).to_numpy()
        else:
            wanted = given.to_numpy()
            place = np.searchsorted(self._numbers, wanted).clip(max=len(self) - 1)
            equal = self._numbers[place] == wanted
        found = np.where(equal, place if self._order is None else self._order[place], -1)
        return np.where(ids.is_null().to_numpy(), -1, found) if ids.null_count() else found

    @cached_property
    def _order(self) -> Ints | None:
        """[V] rows in the order of their ids; None if rows have that order already."""
        return None if self.ids.is_sorted() else self.ids.arg_sort().cast(pl.Int64).to_numpy()

    @cached_property
    def _sorted(self) -> pl.Series:
        return self.ids if self._order is None else self.ids.gather(self._order)

    @cached_property
    def _numbers(self) -> npt.NDArray[Any] | None:
        """[V] sorted ids that are numbers; None for text."""
        return None if self.ids.dtype == pl.String else self._sorted.to_numpy()

    def _like_ours(self, ids: pl.Series) -> pl.Series:
        if len(ids) == 0:
            return ids.cast(self.ids.dtype)
        text = self.ids.dtype == pl.String
        if text != (ids.dtype == pl.String) or not (text or ids.dtype.is_integer()):
            first = " ".join(repr(ids[0]).split())  # a list within a column is shown over several lines
            raise DataError(f"Found {self.what} ids of type {ids.dtype} ({first}); {self._expected()}.")
        return ids.cast(self.ids.dtype, strict=False)  # out of range becomes null, which has no row

    def _expected(self) -> str:
        kind = "text" if self.ids.dtype == pl.String else "whole numbers"
        example = f" such as {self.ids[0]!r}" if len(self.ids) else ""
        return f"expected one of {len(self):,} {self.what} ids ({kind}{example})"


def _series(ids: list[Any]) -> pl.Series:
    ids = [i.item() if isinstance(i, np.generic) else i for i in ids]
    try:
        wide = all(type(i) is int for i in ids)  # polars would guess a type from the first ids
        return pl.Series("id", ids, dtype=pl.Int128 if wide else None)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        raise DataError(
            f"Found ids of several types, such as {ids[:3]!r}; expected all whole numbers or all text."
        ) from None


def all_rows(ids: pl.Series, known: pl.Series | None = None) -> pl.Series:
    """The ids of all rows: those known, in their order, then the others among `ids`, sorted."""
    distinct = ids.unique()
    if known is None:
        return distinct.sort()
    new = pl.DataFrame({"id": distinct}).join(pl.DataFrame({"id": known}), on="id", how="anti")["id"].sort()
    return pl.concat([known, new])


def clean_ids(ids: pl.Series, what: str, *, text: bool = False, like: pl.DataType | None = None) -> pl.Series:
    """A column of ids as Int64, UInt64 or String; missing ones (null, NaN, empty text) stay null.

    `text`: the ids come from a text file, so digits may be numbers. `like`: the type that they have to match. Raises
    DataError for types that are no ids, for broken numbers, and for floats so large that digits may be lost.
    """
    if ids.dtype == pl.String or ids.dtype in (pl.Categorical, pl.Enum):
        ids = ids.cast(pl.String)
        ids = ids.set(ids == "", None) if (ids == "").any() else ids
        clean = _numbers(ids) if text and like != pl.String else ids
    elif ids.dtype.is_integer():
        clean = _narrow(ids, what)
    elif ids.dtype.is_float():
        clean = _from_floats(ids, what)
    elif ids.dtype.is_decimal():
        clean = _from_decimals(ids, what)
    elif ids.dtype == pl.Null:
        clean = ids.cast(like or pl.Int64)
    else:
        raise DataError(f"Column '{ids.name}' has type {ids.dtype}; {what} ids are whole numbers or text: convert it.")
    return clean if like is None or clean.dtype == like else _matched(clean, what, like)


def refuse_missing(ids: pl.Series, column: str, what: str) -> None:
    """Raise DataError where a column of clean ids has gaps."""
    if ids.null_count():
        raise DataError(
            f"Column '{column}' has {counted(ids.null_count(), 'event')} without {what} id; "
            f"remove them, or let prepare do it with drop=('invalid',) (--drop invalid)."
        )


def _numbers(ids: pl.Series) -> pl.Series:
    """Text of whole numbers and gaps becomes integers, or plain digits beyond 64 bits; other text does not change."""
    if len(ids) == ids.null_count():
        return ids
    if not ids.str.contains(_WHOLE).all():
        if not ids.str.contains(_WHOLE_OR_MISSING).all():
            return ids
        ids = ids.set(ids.str.contains(_MISSING), None).str.strip_suffix(".0")
    for kind in (pl.Int64, pl.UInt64):
        numbers = ids.cast(kind, strict=False)
        if numbers.null_count() == ids.null_count():
            return numbers
    return ids.set(ids == "-0", "0")  # one number, which would be two texts


def _narrow(ids: pl.Series, what: str) -> pl.Series:
    if ids.dtype in (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32):
        return ids.cast(pl.Int64)
    for kind in (pl.Int64, pl.UInt64):
        numbers = ids.cast(kind, strict=False)
        if numbers.null_count() == ids.null_count():
            return numbers
    raise DataError(
        f"Column '{ids.name}' has {what} ids beyond 64 bits, or negative ones beside huge ones; make them text."
    )


def _from_floats(ids: pl.Series, what: str) -> pl.Series:
    ids = ids.fill_nan(None)
    _refuse(ids.filter((ids != ids.round()) | (ids.abs() >= _EXACT[str(ids.dtype)])), what)
    return ids.cast(pl.Int64)


def _from_decimals(ids: pl.Series, what: str) -> pl.Series:
    whole = ids.cast(pl.Int128)  # cuts the decimals
    _refuse(ids.filter(whole.cast(ids.dtype) != ids), what)
    return _narrow(whole, what)


def _refuse(odd: pl.Series, what: str) -> None:
    if len(odd):
        raise DataError(
            f"Column '{odd.name}' has {what} ids as {odd.dtype}, such as {odd[0]}, which may have lost digits; "
            f"write them as whole numbers or text."
        )


def with_decimals(raw: pl.Series) -> bool:
    """Whether a column has whole-number ids written with a decimal point."""
    if raw.dtype == pl.String:
        return bool(raw.str.contains(".", literal=True).any())
    return raw.dtype.is_float() or (isinstance(raw.dtype, pl.Decimal) and raw.dtype.scale > 0)


def _matched(ids: pl.Series, what: str, like: pl.DataType) -> pl.Series:
    if ids.dtype.is_integer() and like.is_integer():
        numbers = ids.cast(like, strict=False)
        if numbers.null_count() == ids.null_count():
            return numbers
    raise DataError(
        f"Column '{ids.name}' has {what} ids of type {ids.dtype}, but the other tables have {like}; "
        f"write the ids of all tables with one type."
    )


def id_from_text(ids: pl.Series, text: str, what: str) -> ItemId:
    """The id of a command-line `text`: a whole number where `ids` are numbers. Raises DataError."""
    if ids.dtype == pl.String:
        return text
    try:
        return int(text)
    except ValueError:
        raise DataError(f"Found the {what} id '{text}'; {what} ids here are whole numbers, such as {ids[0]}.") from None


def _in_a_table(id_: ItemId) -> bool:
    """Whether a column of ids can hold the value: 64 bits, or text that UTF-8 can encode."""
    if isinstance(id_, int):
        return -(2**63) <= id_ < 2**64
    return not any("\ud800" <= letter <= "\udfff" for letter in id_)


def plain_value(value: Any) -> Any:
    """NumPy and torch scalars as Python values; nothing else is converted, so ids never pass through floats."""
    if isinstance(value, np.generic):
        return value.item()
    torch = sys.modules.get("torch")  # if torch is not imported, the value is no tensor
    return value.item() if torch is not None and isinstance(value, torch.Tensor) and value.ndim == 0 else value
