"""An open loop: requests come when they are due, whatever the service does; latency counts from then.

    python -m benchmarks.service.opened PLAN    a process of its own; PLAN is JSON of `Plan`, the answer a line of JSON

Arrivals are Poisson. A connection has one request at a time; where all are taken, a request waits for one, and that
counts. HTTP is spoken by hand: a client library would take more of the two cores than the service.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import httptools
import numpy as np
import uvloop

SECOND = 1000.0  # ms
PATIENCE_SECONDS = 30.0  # for answers after the last request; those that do not come have failed


@dataclass(frozen=True)
class Plan:
    port: int
    key: str
    users: tuple[int | str, ...]
    items: tuple[int | str, ...]
    rate: float  # requests a second
    seconds: float
    warm: float = 20.0  # seconds of the same load that are not counted
    events: float = 0.2  # the share that posts
    candidates: int = 0  # of a ranking in place of a recommendation; 0: recommend
    connections: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Loaded:
    """Milliseconds of each request that was due after the warm time, by what it asked and how it ended."""

    recommend: list[float]
    events: list[float]
    refused: list[float]  # 429 and 503
    failed: int  # all else that is no 200

    @property
    def count(self) -> int:
        return len(self.recommend) + len(self.events) + len(self.refused) + self.failed


def opened(plan: Plan) -> Loaded:
    """Run the loop in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.service.opened", json.dumps(asdict(plan))]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Loaded(**json.loads(said))


def high(values: list[float], share: float = 0.99) -> float:
    """A high quantile."""
    return float(np.quantile(values, share)) if values else float("nan")


@dataclass
class _Request:
    due: float
    kind: str
    data: bytes


class _Connection(asyncio.Protocol):
    """One request at a time; tells the loop when its answer has come."""

    def __init__(self, loop: _Loop) -> None:
        self.loop, self.asked = loop, None
        self.transport: asyncio.Transport | None = None
        self.asked: _Request | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.parser = cast(asyncio.Transport, transport), httptools.HttpResponseParser(self)

    def ask(self, request: _Request) -> None:
        assert self.transport is not None
        self.asked = request
        self.transport.write(request.data)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        asked, self.asked = self.asked, None
        assert asked is not None
        self.loop.ended(self, asked, self.parser.get_status_code())

    def connection_lost(self, error: Exception | None) -> None:
        self.loop.lost(self)


class _Loop:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.random = plan, random.Random(plan.seed)
        self.free: deque[_Connection] = deque()
        self.waiting: deque[_Request] = deque()
        self.found: dict[str, list[float]] = {"recommend": [], "events": [], "refused": []}
        self.failed = self.left = self.posted = 0
        self.over = asyncio.Event()

    async def run(self) -> Mapping[str, Any]:
        running = asyncio.get_running_loop()
        for number in range(self.plan.connections):
            if number % 64 == 63:  # a server takes so many at a time, and refuses others
                await asyncio.sleep(0.05)
            _, made = await running.create_connection(lambda: _Connection(self), "127.0.0.1", self.plan.port)
            self.free.append(made)
        self.began = due = time.perf_counter()
        end = self.began + self.plan.warm + self.plan.seconds
        while (due := due + self.random.expovariate(self.plan.rate)) < end:
            wait = due - time.perf_counter()
            if wait > 0.0005:
                await asyncio.sleep(wait)
            elif self.left % 16 == 0:
                await asyncio.sleep(0)
            self._begin(due)
        last = time.perf_counter() + PATIENCE_SECONDS
        while self.left and time.perf_counter() < last:
            await asyncio.sleep(0.01)
        self.failed += self.left
        return {**self.found, "failed": self.failed}

    def _begin(self, due: float) -> None:
        request = _Request(due, *self._next())
        self.left += 1
        if self.free:
            self.free.popleft().ask(request)
        else:
            self.waiting.append(request)

    def _next(self) -> tuple[str, bytes]:
        plan, user = self.plan, json.dumps(self.random.choice(self.plan.users))
        if self.random.random() < plan.events:
            self.posted += 1
            now = time.time_ns() // 1_000_000
            item = json.dumps(self.random.choice(plan.items))
            return "events", self._post("/v1/events", f'{{"user_id":{user},"item_id":{item},"timestamp":{now}}}')
        if plan.candidates:
            asked = json.dumps(self.random.choices(plan.items, k=plan.candidates))
            return "recommend", self._post("/v1/rank", f'{{"user_id":{user},"candidates":{asked}}}')
        return "recommend", self._post("/v1/recommend", f'{{"user_id":{user},"k":10}}')

    def _post(self, path: str, body: str) -> bytes:
        return (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.plan.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    def ended(self, connection: _Connection, request: _Request, status: int) -> None:
        self.left -= 1
        if self.waiting:
            connection.ask(self.waiting.popleft())
        else:
            self.free.append(connection)
        if request.due < self.began + self.plan.warm:
            return
        taken = SECOND * (time.perf_counter() - request.due)
        if status == 200:
            self.found[request.kind].append(taken)
        elif status in (429, 503):
            self.found["refused"].append(taken)
        else:
            self.failed += 1

    def lost(self, connection: _Connection) -> None:
        if connection.asked is not None:
            self.failed, self.left = self.failed + 1, self.left - 1


if __name__ == "__main__":
    made = Plan(**json.loads(sys.argv[1]))
    print(json.dumps(uvloop.run(_Loop(made).run())))
