"""Training once through a log in order of time: each period is predicted before it is learned.

Letters: U users, P periods.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from facta.arrays import Ints
from facta.data.batches.rows import Rows, overlapping_windows
from facta.data.batches.training import TrainingBatches
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import Split, events_before
from facta.errors import ProtocolError
from facta.types import SequenceBatch

HOUR_MS = 3_600_000


class StreamBatches:
    """An epoch is a period of the log: its events are the targets, and all earlier events are inputs.

    Periods of `hours` begin with the log and end with the last training event. Memory holds the rows of one period, and
    while these are found 8 bytes for each event of the log.
    """

    def __init__(self, dataset: Dataset, split: Split, *, hours: float, **settings: Any) -> None:
        if dataset.timestamp is None:
            raise ProtocolError("A stream needs timestamps; this dataset has only an order. Set training.hours=null.")
        self.dataset, self.split, self.settings = dataset, split, settings
        self.step = int(hours * HOUR_MS)
        self.start = int(dataset.timestamp.min())
        trained = dataset.offsets[:-1][split.train_end > 0] + split.train_end[split.train_end > 0] - 1
        last = int(dataset.timestamp[trained].max()) if len(trained) else self.start
        self.periods = (last - self.start) // self.step + 1
        self._period = lru_cache(maxsize=2)(self._make)  # the prefetch thread asks for the current period and the next

    def steps(self, epoch: int) -> int:
        """Batches in a period; a period without events has none."""
        return self._period(epoch).steps(epoch)

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        """The batch at a place in training."""
        return self._period(epoch).batch(epoch, step)

    def asked(self, epoch: int, window: int) -> Rows:
        """Rows with the events of a period as targets, each with all earlier events: they measure the model on events
        that it has not learned. After the last period come the events that the split holds out.
        """
        first, last = self._bounds(epoch)
        users = np.flatnonzero(last > first)
        return overlapping_windows(users, first[users], last[users], window)

    def learned(self, epoch: int) -> Split:
        """The split whose training events end with a period."""
        end = self.start + (epoch + 1) * self.step
        cut = end if self.split.train_cut is None else min(end, self.split.train_cut)
        return replace(self.split, train_end=self._bounds(epoch)[1], train_cut=cut)

    def _make(self, epoch: int) -> TrainingBatches:
        return TrainingBatches(self.dataset, self.learned(epoch), since=self._bounds(epoch)[0], **self.settings)

    def _bounds(self, epoch: int) -> tuple[Ints, Ints]:
        """[U], [U] places of the period's events in each history."""
        if epoch == self.periods:
            return self.split.train_end, self.split.validation_end
        begin, until = self.start + epoch * self.step, self.split.train_end
        first, last = (np.minimum(events_before(self.dataset, at), until) for at in (begin, begin + self.step))
        return first, last
