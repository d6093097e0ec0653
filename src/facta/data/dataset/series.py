"""Slowly changing facts of users: a table of (user, time, field, value) that keeps only the changes.

Letters: U users, n entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facta.arrays import Bools, offsets_of, rows
from facta.data.dataset.codes import codes
from facta.data.dataset.schema import Field


@dataclass(frozen=True)
class Series:
    """Changes, ordered by (user, time, input row); an entry holds until the next one of its user and field."""

    offsets: npt.NDArray[Any]  # [U+1] int64
    time: npt.NDArray[Any]  # [n] int64 milliseconds
    field: npt.NDArray[Any]  # [n] int16 place among the manifest's series_fields
    value: npt.NDArray[Any]  # [n] code of that field; stored as float64: numbers as they are, of other kinds the code


ARRAYS = ("offsets", "time", "field", "value")


def coded(stored: Series, fields: Sequence[Field]) -> Series:
    """Stored entries as codes of the fields, without entries whose bucket is that of the entry before."""
    if stored.value.dtype.kind != "f":  # written before numbers were stored
        return stored
    value = np.zeros(len(stored.value), dtype=np.int32)
    for place, one in enumerate(fields):
        at = np.flatnonzero(stored.field == place)
        value[at] = codes(one, stored.value[at]) if one.kind == "numeric" else stored.value[at]
    user = rows(stored.offsets)
    kept = np.flatnonzero(changes(user, stored.field, value))
    offsets = offsets_of(np.bincount(user[kept], minlength=len(stored.offsets) - 1))
    return Series(offsets, stored.time[kept], stored.field[kept], value[kept])


def changes(user: npt.NDArray[Any], field: npt.NDArray[Any], value: npt.NDArray[Any]) -> Bools:
    """[n] entries in order -> [n] which differ from the entry before them of the same user and field."""
    keep = np.ones(len(user), dtype=np.bool_)
    near = np.lexsort((field, user))  # stable: entries of one user and field side by side, still in order
    one, other = near[1:], near[:-1]
    same = (value[one] == value[other]) | ((value[one] != value[one]) & (value[other] != value[other]))  # NaN is NaN
    keep[one] = (user[one] != user[other]) | (field[one] != field[other]) | ~same
    return keep
