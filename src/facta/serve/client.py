"""A client in the words of the service, for programs that wait and for programs that do not.

    with Client("http://127.0.0.1:8000") as service:
        service.append({"user_id": 17, "item_id": 318, "timestamp": "2030-01-01T12:00"})
        service.recommend(17, k=10)["items"]

Answers are the JSON of the service. Refusals are facta's errors, with the service's sentence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx

from facta import errors
from facta.errors import BusyError, FactaError

Id = int | str
Json = dict[str, Any]
Found = TypeVar("Found")

_AGAIN = (429, 503)  # the service says when
_MOST = 5.0  # seconds between two tries


class _Call(NamedTuple):
    method: str
    path: str
    body: Any = None
    query: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}
    safe: bool = True  # to be sent again where nobody knows whether it came through


class _Verbs(Generic[Found]):
    """What may be asked of a service; `Found` is its answer, or what is waited for."""

    def _do(self, call: _Call) -> Found:
        raise AssertionError

    def append(self, events: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> Found:
        """Keep events, each in the words of the log: all or none. It may be sent again without keeping them twice."""
        posted = events if isinstance(events, Mapping) else [*events]
        return self._do(_Call("POST", "/v1/events", posted, headers={"Idempotency-Key": uuid4().hex}))

    def amend(self, user: Id, event_id: str, values: Mapping[str, Any]) -> Found:
        """Feedback that came late."""
        return self._do(_Call("PATCH", f"/v1/users/{_part(user)}/events/{_part(event_id)}", values))

    def remove(self, user: Id, event_id: str) -> Found:
        """Take an event back."""
        return self._do(_Call("DELETE", f"/v1/users/{_part(user)}/events/{_part(event_id)}"))

    def person(self, user: Id, events: int = 100) -> Found:
        """What is known of a user, with so many of the newest events."""
        return self._do(_Call("GET", f"/v1/users/{_part(user)}", query={"events": events}))

    def tell(self, user: Id, facts: Mapping[str, Any], series: Sequence[Mapping[str, Any]] = ()) -> Found:
        """Facts of a user, in place of those told before."""
        return self._do(_Call("PUT", f"/v1/users/{_part(user)}", {"facts": facts, "series": [*series]}))

    def merge(self, source: Id, target: Id) -> Found:
        """Give everything of `source` to `target`."""
        return self._do(_Call("POST", f"/v1/users/{_part(target)}/merge", {"user_id": source}))

    def forget(self, user: Id) -> Found:
        """Delete all that is known of a user."""
        return self._do(_Call("DELETE", f"/v1/users/{_part(user)}"))

    def recommend(self, user: Id | None = None, k: int = 10, **more: Any) -> Found:
        """The best items for a user, or for a `history`; `more` is what the service is told: at, context, exclude,
        allow, where, at_most, by, explain, model."""
        return self._do(_Call("POST", "/v1/recommend", _said(user_id=user, k=k, **more)))

    def rank(self, user: Id | None, candidates: Iterable[Id], **more: Any) -> Found:
        """Candidates by what a user would do with them; `more`: history, at, context, by, model."""
        return self._do(_Call("POST", "/v1/rank", _said(user_id=user, candidates=[*candidates], **more)))

    def similar_items(self, item: Id, k: int = 10) -> Found:
        """Items that are most like an item."""
        return self._do(_Call("GET", f"/v1/items/{_part(item)}/similar", query={"k": k}))

    def items(self, typed: str, k: int = 10) -> Found:
        """Items by the words of their titles."""
        return self._do(_Call("GET", "/v1/items", query={"q": typed, "k": k}))

    def hide(self, item: Id, *, hidden: bool = True) -> Found:
        """Keep an item out of all lists, or let it in again."""
        return self._do(_Call("PATCH", f"/v1/items/{_part(item)}", {"hidden": hidden}))

    def models(self) -> Found:
        """What is served."""
        return self._do(_Call("GET", "/v1/models"))

    def swap(self, name: str, artifact: str, ranker: str | None = None) -> Found:
        """Let another artifact of the service's folder answer under a name."""
        return self._do(_Call("PUT", f"/v1/models/{_part(name)}", _said(artifact=artifact, ranker=ranker), safe=False))


class Client(_Verbs[Json]):
    """A service at a URL. `key`: of `facta keys new`; `seconds`: that a call may take; `tries`: of what may be sent
    again, at times that the service says."""

    def __init__(self, url: str, key: str | None = None, *, seconds: float = 10.0, tries: int = 4) -> None:
        self._http = httpx.Client(base_url=url, headers=_headers(key), timeout=seconds)
        self._tries = tries

    def _do(self, call: _Call) -> Json:
        for left in range(self._tries - 1, -1, -1):
            try:
                answer = self._http.send(_request(self._http, call))
            except httpx.TransportError as error:
                _give_up(call, error, left)
                time.sleep(_pause(self._tries - left))
                continue
            if answer.status_code not in _AGAIN or not left:
                break
            time.sleep(_pause(self._tries - left, answer))
        return _found(answer)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Verbs[Awaitable[Json]]):
    """`Client` for asyncio: each call is awaited."""

    def __init__(self, url: str, key: str | None = None, *, seconds: float = 10.0, tries: int = 4) -> None:
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(key), timeout=seconds)
        self._tries = tries

    async def _do(self, call: _Call) -> Json:
        for left in range(self._tries - 1, -1, -1):
            try:
                answer = await self._http.send(_request(self._http, call))
            except httpx.TransportError as error:
                _give_up(call, error, left)
                await asyncio.sleep(_pause(self._tries - left))
                continue
            if answer.status_code not in _AGAIN or not left:
                break
            await asyncio.sleep(_pause(self._tries - left, answer))
        return _found(answer)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _request(http: httpx.Client | httpx.AsyncClient, call: _Call) -> httpx.Request:
    body = {} if call.body is None else {"json": call.body}
    return http.build_request(call.method, call.path, params=call.query or None, headers=call.headers, **body)


def _give_up(call: _Call, error: Exception, left: int) -> None:
    """Raise BusyError where a call that failed on its way is not sent again."""
    if not left or not call.safe:
        raise BusyError(f"The service does not answer ({error}); look whether it runs, and ask again.") from error


def _pause(tried: int, answer: httpx.Response | None = None) -> float:
    """Seconds until the next try: what the service says, or twice as long each time."""
    said = "" if answer is None else answer.headers.get("retry-after", "")
    return min(float(said) if said.isdigit() else 0.1 * 2**tried, _MOST)


def _found(answer: httpx.Response) -> Json:
    """The answer. Raises the error that a problem document names."""
    said: Json = answer.json()
    if answer.is_success:
        return said
    kind = getattr(errors, str(said.get("error")), FactaError)
    raise (kind if isinstance(kind, type) and issubclass(kind, FactaError) else FactaError)(said["detail"])


def _said(**values: Any) -> Json:
    """What is not None."""
    return {name: value for name, value in values.items() if value is not None}


def _part(id_: Id) -> str:
    """An id as a part of a path."""
    return quote(str(id_), safe="")


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}
