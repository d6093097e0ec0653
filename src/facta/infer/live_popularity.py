"""Popularity of live events: each is worth half after every half-life, and new ones count at once.

Counting reads all events of the store. It is done anew for an answer as long as it takes no time; where it takes
longer, a thread does it, for a fiftieth of the time, and answers have the last counts.

Letters: V catalogue items.
"""

from __future__ import annotations

import time
from threading import Thread

import numpy as np

from facta.arrays import Floats32
from facta.data.batches.stored import RowsOf
from facta.errors import ConfigError, StoreError
from facta.store.protocol import EventStore

PATIENCE = 0.02  # seconds: an answer waits so long for new counts, where the last ones took no longer
SHARE = 0.02  # of the time that a thread may count
_DAY = 86_400_000  # ms


class LivePopularity:
    """What the events of a store say of the items of a catalogue."""

    def __init__(self, store: EventStore, rows_of: RowsOf, count: int, half_life_days: float) -> None:
        """`rows_of`: ids -> rows of a catalogue of `count` items, -1 for those that it lacks. Raises ConfigError."""
        if isinstance(half_life_days, bool) or not 0 < half_life_days < float("inf"):
            raise ConfigError(f"Found popular_half_life = {half_life_days!r}; expected days, a number above 0.")
        self._store, self._rows_of, self._count, self._half_life = store, rows_of, count, half_life_days * _DAY
        self.patience = PATIENCE
        self._scores: Floats32 | None = None
        self._took, self._until = 0.0, -float("inf")  # seconds of the last count, and when that one ended
        self._thread: Thread | None = None

    def scores(self) -> Floats32:
        """[V] what the events of each item are worth. Raises StoreError where nothing was counted yet."""
        if self._scores is None or self._took <= self.patience:
            self._read()
        elif time.monotonic() - self._until > self._took / SHARE and not (self._thread and self._thread.is_alive()):
            self._thread = Thread(target=self._try, name="facta-popularity", daemon=True)
            self._thread.start()
        assert self._scores is not None
        return self._scores

    def _try(self) -> None:
        try:
            self._read()
        except StoreError:  # the last counts serve on
            self._until = time.monotonic()

    def _read(self) -> None:
        began = time.monotonic()
        worth = self._store.popularity(self._half_life)
        rows = self._rows_of(list(worth))
        scores = np.zeros(self._count, dtype=np.float32)
        scores[rows[rows >= 0]] = np.array(list(worth.values()), dtype=np.float32)[rows >= 0]
        self._scores, self._until = scores, time.monotonic()
        self._took = self._until - began
