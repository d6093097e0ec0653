"""Lookup of series entries (changes of facts) by event and by time.

Letters: A entries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from facta import jagged
from facta.types import Series


class Entries:
    """Series entries of a batch, sorted by row and by the number of events before them."""

    ROW_STRIDE = 1 << 32  # above the number of events of any row

    def __init__(self, series: Series) -> None:
        self.series, self.offsets, self.row = series, series.offsets, jagged.rows(series.offsets)
        self._at = self.row * self.ROW_STRIDE + series.after  # ascending

    def until(self, row: Tensor, event: Tensor) -> Tensor:
        """How many entries of a row stand before an event: those with at most as many events before them."""
        return torch.searchsorted(self._at, row * self.ROW_STRIDE + event, right=True) - self.offsets[row]

    def before(self, row: Tensor, time: Tensor) -> Tensor:
        """How many entries of a row are earlier than a time."""
        assert self.series.time is not None
        rank = torch.unique(torch.cat([self.series.time, time]), return_inverse=True)[1]  # times exceed a stride
        changed, asked = rank[: len(self.row)], rank[len(self.row) :]
        return (
            torch.searchsorted(self.row * self.ROW_STRIDE + changed, row * self.ROW_STRIDE + asked) - self.offsets[row]
        )
