"""Ids in paths: percent-encoded, so that any text is one part of a path, with `/` too."""

from __future__ import annotations

from urllib.parse import unquote

from facta.serve.problems import RequestError


def decoded(part: str) -> str:
    """The id that a part of a path stands for. Raises RequestError."""
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise RequestError(400, f"Found '{part}' in the path; expected an id, percent-encoded as UTF-8.") from None
