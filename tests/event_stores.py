"""Event stores for tests: each is made empty, with a clock that stands still, and removed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from facta.store.content import Clock
from facta.store.memory import MemoryStore
from facta.store.protocol import EventStore

NOW = 1_893_456_000_000  # 2030-01-01
CLOCK = Clock(now=lambda: NOW)


@contextmanager
def memory() -> Iterator[EventStore]:
    yield MemoryStore(CLOCK)


STORES: list[Callable[[], AbstractContextManager[EventStore]]] = [memory]
