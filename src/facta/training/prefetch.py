"""A second thread builds the next batch while the model computes.

Batches are functions of their place, so this changes only the time of a run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Built = TypeVar("Built")
BATCHES_AHEAD = 2


def prefetched(build: Callable[[int], Built], places: Iterable[int]) -> Generator[Built]:
    """`build(place)` for each place, in order, with at most BATCHES_AHEAD built in advance."""
    with ThreadPoolExecutor(1, thread_name_prefix="facta-batches") as pool:
        waiting: deque[Future[Built]] = deque()
        try:
            for place in places:
                waiting.append(pool.submit(build, place))
                if len(waiting) > BATCHES_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
