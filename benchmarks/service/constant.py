"""The service with everything but its answers: the same app, worker and middleware, and endpoints that return the same
bytes each time.

    python -m benchmarks.service.constant CONFIG    CONFIG is JSON of `ServeConfig`
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.responses import Response

from facta.serve import app as served
from facta.serve import run
from facta.serve.config import ServeConfig
from facta.serve.models import Models

ITEM = b'{"id":2571,"title":"Matrix, The (1999)","score":0.5123456}'
LIST = b'{"request_id":"0123456789abcdef-1234","model":{"name":"default","fingerprint":"0123456789abcdef"},"items":['
ANSWERS = {
    "/v1/recommend": LIST + b",".join([ITEM] * 10) + b"]}",
    "/v1/events": b'{"accepted":1,"duplicates":0,"event_ids":["0123456789abcdef"],"unknown_items":[]}',
}


def constant(body: bytes) -> Callable[[], Awaitable[Response]]:
    """An endpoint that returns it."""

    async def answer() -> Response:
        return Response(body, media_type="application/json")

    return answer


def add_answers(app: FastAPI) -> None:
    """Routes before all others."""
    for path, body in ANSWERS.items():
        app.router.routes.insert(0, APIRoute(path, constant(body), methods=["POST"], response_model=None))


if __name__ == "__main__":
    Models.start = lambda self: None  # type: ignore[method-assign]
    served._add_answers = add_answers
    run.run(ServeConfig.parse(from_json(sys.argv[1])))
