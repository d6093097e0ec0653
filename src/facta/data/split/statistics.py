"""Statistics of the training events that models use beside their batches.

A model gets `Statistics`: counts of the items, the events as arrays, or sums of feedback. It gets neither a dataset nor
a split, so it cannot read a held-out event.

Letters: U users, V items, E training events, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from facta import arrays
from facta.arrays import Ints
from facta.data.dataset.dataset import Dataset
from facta.data.split.feedback_counts import FeedbackCounts, FeedbackKeys, Periods, feedback_counts
from facta.data.split.late import learned_events
from facta.data.split.splits import Split, training_events


@dataclass(frozen=True, eq=False)
class TrainingEvents:
    """Training events, user by user, those of a user from the oldest to the newest."""

    offsets: Ints  # [U+1]
    item: Ints  # [E] rows of the catalogue
    time: Ints | None  # [E] ms; None: the log has only an order

    def met(self, items: int) -> tuple[Ints, Ints]:
        """([P] users, [P] items): the distinct items of every user, by user, then by item. `items`: V."""
        pairs = np.unique(arrays.rows(self.offsets) * items + self.item)
        user, item = np.divmod(pairs, items)
        return user, item


class Statistics:
    """Statistics of a split's training events, or of those that a stream has learned (`StreamBatches.learned`).

    Only the counts of items are cached.
    """

    def __init__(self, dataset: Dataset, split: Split) -> None:
        self._dataset, self._split = dataset, split

    @property
    def items(self) -> int:
        """V, of the catalogue."""
        return self._dataset.num_items

    @property
    def users(self) -> int:
        """U, with training events or without."""
        return self._dataset.num_users

    @cached_property
    def counts(self) -> Tensor:
        """[V] int64: how many training events each item has."""
        rows = self._dataset.item[training_events(self._dataset, self._split)]
        return torch.from_numpy(np.bincount(rows, minlength=self.items))

    def events(self, positive: str | None = None) -> TrainingEvents:
        """All training events, or the successes of the feedback field `positive`, as known when training ended.

        Raises ConfigError for a field without success.
        """
        dataset, places = self._dataset, learned_events(self._dataset, self._split, positive)
        user = np.searchsorted(dataset.offsets, places, side="right") - 1
        return TrainingEvents(
            offsets=arrays.offsets_of(np.bincount(user, minlength=self.users)),
            item=dataset.item[places].astype(np.int64),
            time=None if dataset.timestamp is None else np.asarray(dataset.timestamp[places], dtype=np.int64),
        )

    def counts_of(self, positive: str | None) -> Tensor:
        """[V] counts of the events with success of a feedback field; None: of all events."""
        if positive is None:
            return self.counts
        return torch.from_numpy(np.bincount(self.events(positive).item, minlength=self.items))

    def feedback(self, keys: FeedbackKeys, periods: Periods, *, ordered: bool) -> FeedbackCounts:
        """Successes of feedback (`data/split/feedback_counts.py`)."""
        return feedback_counts(self._dataset, self._split, keys, periods, ordered=ordered)
