"""The first to see a request and the last to see its answer: ids of requests, log lines, counters. Plain ASGI."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facta.serve.metrics import Metrics

REQUEST = "facta.request"
"""Where in the scope of ASGI the request is described."""

log = logging.getLogger("facta.serve")
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
        self.app, self.metrics = app, metrics
        self._secret = secrets.token_bytes(32) if log_users else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request = Request(_taken(headers, b"x-request-id", _ID) or uuid4().hex, _taken(headers, b"traceparent", _TRACE))
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
        if not log.isEnabledFor(logging.INFO):
            return
        line = {"request_id": request.id, "method": scope["method"], "route": route, "status": status}
        line["ms"] = round(seconds * 1000, 2)
        if request.trace is not None:
            line["traceparent"] = request.trace
        if self._secret is not None and request.user is not None:
            line["user"] = hmac.new(self._secret, repr(request.user).encode(), hashlib.sha256).hexdigest()[:16]
        log.info("request", extra={"line": line})


def _taken(headers: dict[bytes, bytes], name: bytes, shape: re.Pattern[str]) -> str | None:
    """A header that others may have set, if it looks as it should: it goes into logs."""
    text = headers.get(name, b"").decode("latin-1")
    return text if shape.fullmatch(text) else None


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
