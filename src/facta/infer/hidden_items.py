"""Items that no list holds, as the event store says: an item is hidden, and may be shown again.

Letters: n hidden items.
"""

from __future__ import annotations

import time

import numpy as np

from facta.arrays import Ints
from facta.data.batches.stored import RowsOf
from facta.data.dataset.ids import ItemId
from facta.store.protocol import EventStore

EVERY = 1.0  # seconds until what other processes have hidden is seen


class HiddenItems:
    """The hidden items of a store in rows of a catalogue, brought up to date before answers."""

    def __init__(self, store: EventStore, rows_of: RowsOf) -> None:
        """`rows_of`: ids -> catalogue rows, -1 for those that it lacks."""
        self._store, self._rows_of = store, rows_of
        self.every, self._looked = EVERY, -float("inf")
        self._revision, self._hidden = 0, set[ItemId]()
        self.rows: Ints = np.zeros(0, dtype=np.int64)  # [n]

    def refresh(self, *, at_once: bool = False) -> None:
        """Read what was said of items since; raises StoreError. Another look at the store would double what a small
        step asks it: where nobody says that there is news, it is taken once a second."""
        if not at_once and time.monotonic() - self._looked < self.every:
            return
        changes = self._store.items(self._revision)
        self._looked = time.monotonic()
        if changes.revision == self._revision:
            return
        for item in changes.items:
            (self._hidden.add if item.hidden else self._hidden.discard)(item.id)
        rows = self._rows_of(list(self._hidden))
        self._revision, self.rows = changes.revision, rows[rows >= 0]
