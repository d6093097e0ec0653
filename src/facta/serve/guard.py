"""What is refused before a path is looked at: strangers, foreign hosts, bodies that are too long, too many requests.

Plain ASGI: nothing of a refused body is read.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from facta.errors import BusyError, FactaError
from facta.serve.config import Limits
from facta.serve.front import REQUEST
from facta.serve.keys import Keys, Role, check_keyless
from facta.serve.problems import RequestError, problem_of

_OPEN = ("/", "/health/live", "/health/ready", "/docs", "/openapi.json")
"""Paths that tell nothing of anybody: they need no key, as what the page loads from `/static/` needs none."""

_WATCHED = ("/health/live", "/health/ready", "/metrics")
"""Paths that answer also when the service has more to do than it can."""

_ASKS = ("/v1/recommend", "/v1/rank")
_LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:]+\]|[^:]+)(:[0-9]+)?")


def needed(method: str, path: str) -> Role | None:
    """The role that a request needs; None: none at all."""
    if path in _OPEN or path.startswith("/static/"):
        return None
    if path.startswith("/v1/models") and method not in ("GET", "HEAD"):
        return "admin"
    return "read" if method in ("GET", "HEAD") or path in _ASKS else "write"


class Guard:
    """`app` for those who may. `keys`: None on loopback alone, where any program of the machine may do everything, but
    no page of a browser: it would come with another host, or with a type of content that needs nobody's consent."""

    def __init__(self, app: ASGIApp, keys: Keys | None, limits: Limits, host: str) -> None:
        """Raises ConfigError where others could come without a key."""
        if keys is None:
            check_keyless(host)
        self.app, self._keys, self._limits = app, keys, limits
        self._inside = 0  # requests at work
        self._buckets: dict[str, tuple[float, float]] = {}  # key -> (requests that are left, as of when)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _WATCHED:
            await self._guarded(scope, receive, send)
            return
        if self._inside >= self._limits.waiting:  # before anything is read of it: what is refused must cost little
            error = BusyError(f"Found {self._inside:,} requests at work; expected fewer: ask again a little later.")
            await problem_of(error, scope[REQUEST].id)(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._guarded(scope, receive, send)
        finally:
            self._inside -= 1

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(
                    scope, {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
                )
            except FactaError as error:
                await problem_of(error, scope[REQUEST].id)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope, headers: Mapping[str, str]) -> None:
        role = needed(scope["method"], scope["path"])
        if self._keys is None:
            _check_local(scope["method"], headers)
            name = ""
        else:
            name = self._check_key(role, headers)
        if role is not None:
            self._check_rate(name)
        check_length(headers.get("content-length"), self._limits.body)

    def _check_key(self, role: Role | None, headers: Mapping[str, str]) -> str:
        assert self._keys is not None
        if role is None:
            return ""
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise RequestError(401, "Found no key; expected `Authorization: Bearer KEY`.", WWW_Authenticate="Bearer")
        key = self._keys.find(token.strip())
        if key is None:
            raise RequestError(
                401, "Found a key that is not known here; make one with `facta keys new`.", WWW_Authenticate="Bearer"
            )
        if key.role not in (role, "admin"):
            raise RequestError(403, f"Found a key of the role '{key.role}'; this needs one of '{role}' or 'admin'.")
        return key.sha256

    def _check_rate(self, name: str) -> None:
        """As many at once as a second may have, and no more in the long run."""
        rate = self._limits.rate
        if rate is None:
            return
        now = time.monotonic()
        left, then = self._buckets.get(name, (max(rate, 1.0), now))
        left = min(left + (now - then) * rate, max(rate, 1.0))
        if left < 1:
            self._buckets[name] = left, now
            raise RequestError(
                429, f"Found more than {rate:g} requests a second; ask again a little later.",
                Retry_After=str(max(round((1 - left) / rate + 0.5), 1)),
            )  # fmt: skip
        self._buckets[name] = left - 1, now


def check_length(length: str | int | None, most: int) -> None:
    """Raise RequestError for a body that is too long; the connection is closed, so that nobody reads its rest."""
    if length is None or int(length) <= most:
        return
    raise RequestError(413, f"Found a body of more than {most:,} bytes; post less at a time.", Connection="close")


def _check_local(method: str, headers: Mapping[str, str]) -> None:
    """Raise RequestError for what a page of somebody else could send through a browser of this machine."""
    host = _HOST.fullmatch(headers.get("host", ""))
    if host is None or host["name"].lower() not in _LOCAL:
        raise RequestError(
            403, f"Found the host '{headers.get('host', '')}'; without keys expected localhost or 127.0.0.1."
        )
    origin = headers.get("origin")
    if origin is not None:
        of = _HOST.fullmatch(origin.partition("://")[2])
        if of is None or of["name"].lower() not in _LOCAL:
            raise RequestError(403, f"Found a request of the page '{origin}'; without keys no other page may ask.")
    written = headers.get("content-type", "").partition(";")[0].strip().lower()
    empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if not (empty and not written) and method not in ("GET", "HEAD", "DELETE") and written != "application/json":
        raise RequestError(415, f"Found a body of type '{written}'; expected application/json.")
