"""The exact best k of every row of a stream of score blocks; groups without a candidate are skipped.

Letters: r rows, c columns of a block, k items kept, g columns of a group.

A score and its column make one int64 that sorts by score, then by lower column; all differ, so the best k are unique. A
group of columns is examined only if its maximum beats the row's k-th best at the last merge. Merging after 1, 2, 4, …
blocks keeps about k candidates a row. Worst case: scores ascending by column; then every score is examined (slow, still
exact).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from facta import arrays
from facta.arrays import Floats32, Ints
from facta.errors import ProtocolError

PENDING_PER_ROW = 256  # mean candidates a row that force a merge, to bound memory
_LOWEST = np.iinfo(np.int64).min


class TopK:
    """Feed blocks in ascending order of their columns with `offer`, then take the `lists`."""

    def __init__(self, rows: int, k: int, group: int) -> None:
        self.k, self.group = k, group
        self._keys = np.full((rows, k), _LOWEST)
        self._beat = np.full((rows, 1), -np.inf, dtype=np.float32)  # candidates score above this
        self._pending: list[tuple[Ints, Ints]] = []  # rows and keys of candidates
        self._waiting, self._blocks, self._merge_at = 0, 0, 1
        self._highest: Tensor | None = None

    def offer(self, block: Tensor, first: int) -> None:
        """Scores [r, c] of the columns first, first + 1, …; c is a multiple of the group."""
        rows, columns = block.shape
        groups = columns // self.group
        folded = block.view(
            rows, self.group, groups
        )  # column = place * groups + group, so that the reduction runs over whole SIMD vectors
        highest = torch.amax(folded, 1)
        self._highest = highest if self._highest is None else torch.maximum(self._highest, highest, out=self._highest)
        if self._blocks == 0:
            self._beat[:] = self._first_bar(highest)
        row, group = np.divmod(np.flatnonzero(highest.numpy() > self._beat), groups)
        values = folded.numpy()[row, :, group]  # [n, group]
        chosen, place = np.nonzero(values > self._beat[row])
        column = first + place * groups + group[chosen]
        self._pending.append((row[chosen], sortable(values[chosen, place], column)))
        self._waiting += len(chosen)
        self._blocks += 1
        if self._blocks >= self._merge_at or self._waiting > PENDING_PER_ROW * rows:
            self._merge()

    def lists(self) -> tuple[Ints, Floats32]:
        """Columns [r, k], best first, and their scores; padded with -1 and -inf."""
        if self._highest is not None and bool(self._highest.isnan().any()):
            raise ProtocolError(
                "Found a score that is not a number (NaN): this model cannot rank; look at its training loss."
            )
        self._merge()
        return _sorted_lists(self._keys)

    def _first_bar(self, highest: Tensor) -> Floats32:
        """Just below the k-th highest group maximum of the first block, which at least k scores reach."""
        if highest.shape[1] < self.k:
            return np.full_like(self._beat, -np.inf)
        kth = highest.shape[1] - self.k
        return np.nextafter(np.partition(highest.numpy(), kth, axis=1)[:, kth, None], np.float32(-np.inf))

    def _merge(self) -> None:
        rows = len(self._keys)
        row = np.concatenate([part[0] for part in self._pending]) if self._pending else np.empty(0, np.int64)
        if len(row):
            keys = np.concatenate([part[1] for part in self._pending])
            order = np.argsort(row.astype(np.uint16), kind="stable")  # a radix sort
            count = np.bincount(row, minlength=rows)
            place = arrays.places(arrays.offsets_of(count))
            pool = np.full((rows, self.k + int(count.max())), _LOWEST)
            pool[:, : self.k] = self._keys
            pool[row[order], self.k + place] = keys[order]
            self._keys = np.partition(pool, pool.shape[1] - self.k, axis=1)[:, -self.k :]
            lowest = self._keys.min(1, keepdims=True)
            self._beat = np.maximum(self._beat, np.where(lowest == _LOWEST, np.float32(-np.inf), _score(lowest)))
        self._pending, self._waiting, self._merge_at = [], 0, 2 * max(self._blocks, 1)


def best_of(columns: Sequence[Ints], scores: Sequence[Floats32], k: int) -> tuple[Ints, Floats32]:
    """Lists [r, k] of several parts of a catalogue -> the best k of all, as `TopK.lists`."""
    column, score = np.concatenate(columns, axis=1), np.concatenate(scores, axis=1)
    keys = np.where(column < 0, _LOWEST, sortable(score, column))
    return _sorted_lists(np.partition(keys, keys.shape[1] - k, axis=1)[:, -k:])


def _sorted_lists(keys: Ints) -> tuple[Ints, Floats32]:
    keys = np.sort(keys, axis=1)[:, ::-1]
    empty = keys == _LOWEST
    return np.where(empty, -1, _column(keys)), np.where(empty, np.float32(-np.inf), _score(keys))


def sortable(score: Floats32, column: Ints) -> Ints:
    """float32 scores and columns below 2^32 -> int64 that sort by score, then by lower column."""
    bits = (score + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0: they are equal
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ascending.astype(np.int64) << 32) | (0xFFFFFFFF - column)


def _score(keys: Ints) -> Floats32:
    bits = (keys >> 32).astype(np.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32)


def _column(keys: Ints) -> Ints:
    return 0xFFFFFFFF - (keys & 0xFFFFFFFF)
