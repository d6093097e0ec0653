"""The first to see a request and the last to see its answer: ids of requests, log lines, counters. Plain ASGI."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facta.serve.metrics import Metrics

REQUEST = "facta.request"
"""Where in the scope of ASGI the request is described."""

_ID = re.compile(r"[\x21-\x7e]{1,128}")
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass
class Request:
    """What is known of a request beside its path and body."""

    id: str
    trace: str | None
    user: Any = None  # whom it is about, for keyed hashes in the log
    key: str = ""  # the name of the key that it came with


class Front:
    """`app` with ids of requests, a log line for each, and counters. `log_users`: lines have a hash of the user, keyed
    by a secret of this process: equal for equal users until it ends, and for nobody outside."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, log_users: bool) -> None:
        self.app, self.metrics, self.lines = app, metrics, Lines()
        self._prefix, self._count = secrets.token_hex(8), count(1)  # of the ids of requests that bring none
        self._secret = secrets.token_bytes(32) if log_users else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request = Request(
            _taken(headers, b"x-request-id", _ID) or f"{self._prefix}-{next(self._count)}",
            _taken(headers, b"traceparent", _TRACE),
        )
        scope[REQUEST] = request
        scope["path"] = scope["raw_path"].decode("ascii", "replace")  # ids in it stay encoded: they may hold a slash
        began, status = time.perf_counter(), 500

        async def answering(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request.id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, answering)
        finally:
            self._note(scope, request, status, time.perf_counter() - began)

    def _note(self, scope: Scope, request: Request, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "")  # with {id}, never the id
        self.metrics.answered(f"{scope['method']} {route}" if route else "other", status, seconds)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": now,
            "level": "info",
            "message": "request",
            "request_id": request.id,
            "method": scope["method"],
            "route": route,
            "status": status,
        }
        line["ms"] = round(seconds * 1000, 2)
        if request.trace is not None:
            line["traceparent"] = request.trace
        if self._secret is not None and request.user is not None:
            line["user"] = hmac.new(self._secret, repr(request.user).encode(), hashlib.sha256).hexdigest()[:16]
        self.lines.add(line)


def _taken(headers: dict[bytes, bytes], name: bytes, shape: re.Pattern[str]) -> str | None:
    """A header that others may have set, if it looks as it should: it goes into logs."""
    text = headers.get(name, b"").decode("latin-1")
    return text if shape.fullmatch(text) else None


class Lines:
    """Lines of JSON on stderr, those of a tenth of a second at once: each alone costs a tenth of a request."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []

    def add(self, line: Mapping[str, Any]) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_later(0.1, self.write)
        self._waiting.append(to_json(line) + b"\n")

    def write(self) -> None:
        """Write those that wait."""
        data, self._waiting = b"".join(self._waiting), []
        with suppress(OSError):  # a log that nobody takes is no reason to answer nobody
            while data:
                data = data[os.write(2, data) :]


class JsonLines(logging.Formatter):
    """Log records as lines of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= getattr(record, "line", {})
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line)
