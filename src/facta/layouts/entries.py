"""Changes of slowly changing facts by the events and times that they come before.

Letters: A entries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from facta import jagged
from facta.types import Series


class Entries:
    """Series entries by the events that come before them."""

    FAR = 1 << 32  # more than the events of any row

    def __init__(self, series: Series) -> None:
        self.series, self.offsets, self.row = series, series.offsets, jagged.rows(series.offsets)
        self._at = self.row * self.FAR + series.after  # ascending

    def until(self, row: Tensor, event: Tensor) -> Tensor:
        """How many of a row's entries come before an event: those with no more events before them than it has."""
        return torch.searchsorted(self._at, row * self.FAR + event, right=True) - self.offsets[row]

    def before(self, row: Tensor, time: Tensor) -> Tensor:
        """How many of a row's entries are earlier than a time."""
        assert self.series.time is not None
        rank = torch.unique(torch.cat([self.series.time, time]), return_inverse=True)[1]  # times are too large
        changed, asked = rank[: len(self.row)], rank[len(self.row) :]
        return torch.searchsorted(self.row * self.FAR + changed, row * self.FAR + asked) - self.offsets[row]
