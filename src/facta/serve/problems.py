"""Errors as problem documents (RFC 9457): the detail is facta's sentence.

{"type": "about:blank", "title": "Conflict", "status": 409, "detail": "…", "error": "ConflictError", …}
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from facta.errors import (
    ArtifactError,
    BusyError,
    ConfigError,
    ConflictError,
    DataError,
    FactaError,
    ResourceError,
    StoreError,
    UnknownEventError,
)

_STATUS: dict[type[FactaError], int] = {
    DataError: 422,
    ConfigError: 422,
    ArtifactError: 422,
    ConflictError: 409,
    UnknownEventError: 404,
    BusyError: 503,
    StoreError: 503,
    ResourceError: 503,
}
RETRY_AFTER = 1  # seconds


class RequestError(FactaError):
    """A request that is refused before anything is asked, with the status that says why."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}


def status_of(error: FactaError) -> int:
    """The status of HTTP that an error has; that of its class, or of the next class above."""
    if isinstance(error, RequestError):
        return error.status
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)


def problem(
    status: int, sentence: str, request_id: str, *, error: str = "", headers: dict[str, str] | None = None
) -> Response:
    """A problem document. 503 says when to come again."""
    said: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    said |= {"detail": sentence, "request_id": request_id} | ({"error": error} if error else {})
    again = {"Retry-After": str(RETRY_AFTER)} if status == 503 else {}
    return Response(to_json(said), status, {**again, **(headers or {})}, media_type="application/problem+json")


def described_problem() -> dict[str, Any]:
    """A problem document for the OpenAPI page."""
    texts = {name: {"type": "string"} for name in ("type", "title", "detail", "request_id", "error")}
    schema = {"type": "object", "properties": {**texts, "status": {"type": "integer"}}, "required": ["title", "detail"]}
    return {"description": "A problem document", "content": {"application/problem+json": {"schema": schema}}}


def problem_of(error: FactaError, request_id: str) -> Response:
    """The document of an error."""
    headers = error.headers if isinstance(error, RequestError) else None
    return problem(status_of(error), str(error), request_id, error=type(error).__name__, headers=headers)
