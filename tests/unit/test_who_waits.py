"""A client that goes before its answer has come: what is computed for it ends."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request

from facta.serve.app import _for_who_waits
from facta.serve.config import EngineConfig
from facta.serve.front import REQUEST
from facta.serve.front import Request as Known
from facta.serve.link import Answer, EngineLink
from facta.serve.wire import Frame, Verb


class Line:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Frame] = []

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)


def request(*messages: str, seconds: float = 0.0) -> Request:
    """A request whose client says this, one message after the other, and then nothing."""
    left = [*messages]

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.sleep(60)
        await asyncio.sleep(seconds)
        return {"type": left.pop(0)}

    class App:
        class state:
            answers = None

    return Request({"type": "http", "app": App, REQUEST: Known("r", None)}, receive)


def link() -> tuple[EngineLink, Line]:
    made, line = EngineLink(EngineConfig(name="default", artifact="none", store="none")), Line()
    made.about, made._line = {}, line  # type: ignore[assignment]
    return made, line


def test_an_engine_is_told_that_nobody_waits() -> None:
    async def walk() -> None:
        engine, line = link()
        asked = request("http.request", "http.disconnect", seconds=0.01)
        response = await _for_who_waits(asked, engine.ask(Verb.RANK, {"candidates": [1]}, 5.0))
        await asyncio.sleep(0)
        assert response.status_code == 499 and engine.waiting == 0
        assert [(one.number, one.code) for one in line.sent] == [(1, Verb.RANK), (1, Verb.CANCEL)]

    asyncio.run(walk())


def test_who_waits_is_answered_and_nothing_is_cancelled() -> None:
    async def walk() -> None:
        engine, line = link()

        async def answered() -> Answer:
            asking = asyncio.create_task(engine.ask(Verb.RANK, {}, 5.0))
            await asyncio.sleep(0.01)
            engine.answered(Frame(1, 200, to_json({"items": []})))
            return await asking

        response = await _for_who_waits(request("http.request"), answered())
        assert response.status_code == 200 and response.body == b'{"items":[]}'
        assert [one.code for one in line.sent] == [Verb.RANK]

    asyncio.run(walk())
