"""Jagged NumPy arrays, the twin of `facta.jagged` outside of models, and the names of array types.

Letters: B rows, T values in all. Row b holds values[offsets[b] : offsets[b + 1]].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
AnyInts = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


def offsets_of(row_lengths: AnyInts | Bools) -> Ints:
    """[B] lengths -> [B+1] offsets. Of truth values: the number of true ones before each place."""
    offsets = np.zeros(len(row_lengths) + 1, dtype=np.int64)
    np.cumsum(row_lengths, out=offsets[1:])
    return offsets


def rows(offsets: Ints) -> Ints:
    """[B+1] -> [T]: the row that each value belongs to."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def places(offsets: Ints) -> Ints:
    """[B+1] -> [T]: the place of each value within its row, from 0."""
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))


def spans(starts: Ints, row_lengths: Ints) -> Ints:
    """Flat indexes of the ranges [start, start + length), one after the other: [B], [B] -> [sum of lengths]."""
    offsets = offsets_of(row_lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], row_lengths)
