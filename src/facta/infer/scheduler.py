"""Whose turn it is: requests in the order in which they came, a step's worth at a time; no tensors.

What arrives while a step runs is the next step. A request that a step does not finish, a ranking of many candidates,
goes to the end of the queue: it advances between the others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from facta.errors import BusyError
from facta.infer.work import Work

STEP_SECONDS = 0.02  # a step is planned to last so long
FEWEST, MOST = 64, 16_384  # tokens of a step, whatever the clock says
_SHARE = 0.2  # of a new measurement in the mean


class Scheduler:
    """A queue of bounded length, and the pace at which it empties."""

    def __init__(self, limit: int = 1024, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self._clock = limit, clock
        self._queue: deque[Work] = deque()
        self._pace: float | None = None  # tokens a second
        self.expired = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def tokens(self) -> int:
        """How many tokens the next step may have."""
        return FEWEST if self._pace is None else min(max(int(self._pace * STEP_SECONDS), FEWEST), MOST)

    def add(self, work: Work) -> None:
        """Wait for a turn. Raises BusyError where too many do."""
        if len(self._queue) >= self.limit:
            raise BusyError(f"Found {len(self._queue):,} requests that wait; expected fewer: ask again a little later.")
        self._queue.append(work)

    def again(self, work: Work) -> None:
        """Wait for another turn, behind those who came meanwhile."""
        self._queue.append(work)

    def next(self, cost: Callable[[Work], int]) -> list[Work]:
        """Who is served now: at least one, and no more than fit into a step. `cost`: tokens."""
        step: list[Work] = []
        room = self.tokens
        while self._queue:
            work = self._queue[0]
            if self._late(work):
                self._queue.popleft()
                continue
            tokens = cost(work)
            if step and tokens > room:
                break
            room -= tokens
            step.append(self._queue.popleft())
        return step

    def took(self, tokens: int, seconds: float) -> None:
        """A step of so many tokens has lasted so long."""
        pace = tokens / max(seconds, 1e-6)
        self._pace = pace if self._pace is None else (1 - _SHARE) * self._pace + _SHARE * pace

    def _late(self, work: Work) -> bool:
        """Whether nobody waits for an answer any more; the request is then over."""
        if work.cancelled:
            work.done = True
        elif work.deadline is not None and self._clock() > work.deadline:
            self.expired += 1
            work.fail(BusyError("Found a request that waited beyond its deadline; ask again, or give it more time."))
        return work.done
