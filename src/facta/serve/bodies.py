"""Bodies of requests: read up to a length, parsed, and described for the OpenAPI page."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Request
from pydantic_core import from_json

from facta.config import Config
from facta.serve.guard import check_length
from facta.serve.problems import RequestError
from facta.store.posted import Words

Asked = TypeVar("Asked", bound=Config)


async def body(request: Request, most: int) -> Any:
    """The JSON of a body. Raises RequestError for one that is no JSON or too long; its rest is then not read."""
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        check_length(length, most)
        parts.append(part)
    try:
        return from_json(b"".join(parts), allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(400, f"Found a body that is no JSON ({error}); expected an object or a list.") from None


def parsed(kind: type[Asked], posted: Any, words: Words | None = None) -> Asked:
    """A body as what it should be. The log's own name for users is understood, too. Raises ConfigError."""
    own = words.columns.get("user_id") if words is not None else None
    if own is not None and isinstance(posted, dict) and own in posted and own not in kind.model_fields:
        posted["user_id"] = posted.pop(own)
    return kind.parse(posted)


def documented(kind: type[Config] | None, summary: str) -> dict[str, Any]:
    """What the OpenAPI page says of a path with a body."""
    schema = {"type": ["object", "array"]} if kind is None else kind.model_json_schema()
    content = {"application/json": {"schema": schema}}
    return {"summary": summary, "openapi_extra": {"requestBody": {"required": True, "content": content}}}
