"""The files of the page, without a browser: what they are, how they are sent, and whose they are."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from facta.serve.app import create_app
from facta.serve.config import ServeConfig
from facta.serve.keys import new_key
from facta.serve.web import FOLDER, web_files

VENDOR = FOLDER / "vendor"


def get(folder: Path, *paths: str, keys: bool = False, **headers: str) -> list[httpx.Response]:
    """What a service answers that has a log's words and nothing else."""
    (folder / "schema.json").write_text(json.dumps({"ids": {"user": "number", "item": "number"}, "fields": []}))
    (folder / "checksums.json").write_text("{}")
    if keys:
        new_key(folder / "keys.jsonl", "read")
    config = ServeConfig(
        models={"default": {"artifact": str(folder)}}, keys=str(folder / "keys.jsonl") if keys else None
    )
    app = create_app(config)

    async def asked() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as http:
            return [await http.get(path, headers=headers) for path in paths]

    return asyncio.run(asked())


def test_what_others_wrote_is_as_they_published_it() -> None:
    told: list[dict[str, Any]] = json.loads((VENDOR / "vendor.json").read_text())
    files = [file for one in told for file in one["files"]]
    assert {file["file"] for file in files} | {"vendor.json"} == {path.name for path in VENDOR.iterdir()}
    for one in told:
        assert re.fullmatch(r"\d+\.\d+\.\d+", one["version"]) and one["licence"] in ("MIT", "Apache-2.0")
        licence = (VENDOR / f"{one['package']}.LICENSE").read_text()
        assert ("Permission is hereby granted" if one["licence"] == "MIT" else "Apache License") in licence
    for file in files:
        assert hashlib.sha256((VENDOR / file["file"]).read_bytes()).hexdigest() == file["sha256"], file["file"]


def test_all_of_the_page_is_small_and_names_nobody_else() -> None:
    files = web_files(keys=False)
    assert (
        sum(len(file.content) for file in files.values()) < 140_000
    )  # of 150 kB: the rest is what the service answers
    own = {name: file.content.decode() for name, file in files.items() if not name.startswith("vendor/")}
    for name, text in own.items():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
    for taken in re.findall(r'(?:src|href)="(static/[^"]+)"', own["index.html"]):
        assert taken.removeprefix("static/") in files
    for name, text in own.items():
        for imported in re.findall(r'from "\./([^"]+)"', text):
            assert imported in files, f"{name} imports {imported}"


def test_a_browser_may_run_the_files_of_the_service_and_nothing_else(tmp_path: Path) -> None:
    page, script = get(tmp_path, "/", "/static/main.js")
    assert page.status_code == script.status_code == 200
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    for answer in (page, script):
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["connect-src"] == "'self'" and policy["frame-ancestors"] == "'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|javascript:", page.text)


def test_a_file_is_the_same_by_gzip(tmp_path: Path) -> None:
    (packed,) = get(tmp_path, "/static/vendor/uPlot.js", **{"Accept-Encoding": "br, gzip"})
    (plain,) = get(tmp_path, "/static/vendor/uPlot.js", **{"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert packed.content == plain.content == (VENDOR / "uPlot.js").read_bytes()
    assert int(packed.headers["content-length"]) < len(plain.content) / 2


def test_an_unchanged_file_is_not_sent_again(tmp_path: Path) -> None:
    first = get(tmp_path, "/static/main.js")[0]
    again, other = get(tmp_path, "/static/main.js", "/static/try.js", **{"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304 and not again.content and other.status_code == 200


@pytest.mark.parametrize(
    "path", ["none.js", "../web.py", "%2e%2e/web.py", "vendor/", "", "vendor/vendor.json", "//main.js"]
)
def test_no_other_file_is_sent(tmp_path: Path, path: str) -> None:
    assert get(tmp_path, f"/static/{path}")[0].status_code == 404


def test_the_page_needs_no_key_and_says_that_the_rest_does(tmp_path: Path) -> None:
    page, script, people = get(tmp_path, "/", "/static/main.js", "/v1/users", keys=True)
    assert page.status_code == script.status_code == 200 and people.status_code == 401
    assert 'data-keys="needed"' in page.text and 'data-keys="none"' in get(tmp_path, "/")[0].text
