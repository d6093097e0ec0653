"""A service with more requests at work than may wait refuses the next one before it reads anything of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from facta.serve.config import Limits
from facta.serve.front import REQUEST
from facta.serve.front import Request as Known
from facta.serve.guard import Guard


class App:
    """Answers when it is told to; counts what it began."""

    def __init__(self) -> None:
        self.began, self.free = 0, asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.began += 1
        if scope["path"] == "/v1/recommend":
            await self.free.wait()
        if scope["method"] == "PUT":
            raise RuntimeError("a mistake")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def asked(guard: Guard, path: str, method: str = "GET") -> tuple[int, dict[bytes, bytes]]:
    found: list[Any] = []

    async def send(message: Any) -> None:
        found.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    scope = {"type": "http", "path": path, "method": method, "headers": [(b"host", b"localhost")]}
    await guard({**scope, REQUEST: Known("r", None)}, receive, send)
    return found[0]["status"], dict(found[0]["headers"])


def test_who_comes_while_too_many_are_at_work_is_refused_at_once() -> None:
    async def walk() -> None:
        app = App()
        guard = Guard(app, None, Limits(waiting=2), "127.0.0.1")
        first = [asyncio.create_task(asked(guard, "/v1/recommend")) for _ in range(2)]
        await asyncio.sleep(0)
        status, headers = await asked(guard, "/v1/recommend")
        assert status == 503 and int(headers[b"retry-after"]) > 0 and app.began == 2
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert (await asked(guard, path))[0] == 200
        app.free.set()
        assert [status for status, _ in await asyncio.gather(*first)] == [200, 200]
        assert (await asked(guard, "/v1/recommend"))[0] == 200

    asyncio.run(walk())


def test_what_fails_is_at_work_no_longer() -> None:
    async def walk() -> None:
        app = App()
        guard = Guard(app, None, Limits(waiting=1), "127.0.0.1")
        for _ in range(3):
            with suppress(RuntimeError):
                await asked(guard, "/v1/models", "PUT")
        assert app.began == 3 and (await asked(guard, "/v1/users"))[0] == 200

    asyncio.run(walk())
