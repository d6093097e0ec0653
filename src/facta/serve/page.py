"""`/docs`: the paths of the service as a page without scripts, which asks nobody else for anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
_STYLE = (
    "body{font:16px/1.5 system-ui;max-width:50em;margin:2em auto;padding:0 1em;color-scheme:light dark}"
    "code{font-size:.9em}li{margin:.3em 0}h2{font-size:1.1em;margin-top:2em}"
)


def page(described: Mapping[str, Any]) -> str:
    """`described`: what OpenAPI says of the service."""
    parts = [*_paths(described["paths"])]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>facta</title><style>{_STYLE}</style><h1>facta</h1><p>{escape(described['info']['description'])} "
        f"The same for programs: <a href=/openapi.json>/openapi.json</a>.</p>{''.join(parts)}</html>"
    )


def _paths(paths: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in paths.items():
        for method, said in methods.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(said['summary'])}</p>"
            lines = [*_parameters(said), *_fields(said)]
            yield f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>" if lines else ""


def _parameters(said: Mapping[str, Any]) -> Iterator[str]:
    for one in said.get("parameters", ()):
        default = one["schema"].get("default")
        beside = "" if default is None else f", {escape(str(default))} when not given"
        yield f"<code>{escape(one['name'])}</code> in the {escape(one['in'])}{beside}"


def _fields(said: Mapping[str, Any]) -> Iterator[str]:
    content = said.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    for name in schema.get("properties", ()):
        needed = ", required" if name in schema.get("required", ()) else ""
        yield f"<code>{escape(name)}</code> in the body{needed}"
