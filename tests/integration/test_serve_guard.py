"""Who may ask a service, and how much: refused before anything is read or written. No engine is needed for that."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facta.serve.config import Limits
from facta.serve.keys import Keys, new_key, read_keys
from facta.store.opening import open_store
from tests.serving import DAY, T0, Server, config_of, saved, serving, shop

EVENT = {"visitor": "u/1 ü", "item_id": 3, "timestamp": T0 + 100 * DAY}
ROLES = ("read", "write", "admin")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("guard")
    saved(shop(place / "log", text=True), place / "artifact")
    return place


@pytest.fixture(scope="module")
def local(folder: Path) -> Iterator[Server]:
    """Without keys."""
    limits = Limits(body=10_000, events=5)
    with serving(config_of(folder, limits=limits), folder, ready=False) as running:
        yield running


@pytest.fixture(scope="module")
def tokens(folder: Path) -> dict[str, str]:
    return {role: new_key(folder / "keys.jsonl", role) for role in ROLES}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def locked(folder: Path, tokens: dict[str, str]) -> Iterator[Server]:
    config = config_of(
        folder, keys=str(folder / "keys.jsonl"), store=f"sqlite:///{folder}/locked.db", log_users=True,
        limits=Limits(rate=50.0), swap_from=str(folder),
    )  # fmt: skip
    with serving(config, folder, ready=False) as running:
        yield running


def known(server: Server) -> int:
    """How many people the store of a server knows."""
    store = open_store(server.config.store)
    try:
        return sum(1 for _ in store.people())
    finally:
        store.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": ""},  # a page can send bytes of no type
    ],
)
def test_a_page_of_somebody_else_can_neither_write_nor_read(local: Server, headers: dict[str, str]) -> None:
    sent = {"Content-Type": "application/json", **headers}
    before = known(local)
    assert local.http.post("/v1/events", content=json.dumps(EVENT), headers=sent).status_code in (403, 415)
    assert known(local) == before
    if "Content-Type" not in headers:
        for path in ("/v1/users/1", "/metrics", "/health/ready", "/docs"):
            assert local.http.get(path, headers=headers).status_code == 403
        assert local.http.delete("/v1/users/1", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_this_machine_may(local: Server, host: str) -> None:
    assert local.http.get("/health/live", headers={"Host": host}).status_code == 200
    own = {"Host": host, "Origin": "http://localhost:8000"}
    assert local.http.get("/health/live", headers=own).status_code == 200


def test_ids_that_are_texts_may_hold_anything(local: Server) -> None:
    """Also before any engine is there: events are kept."""
    assert local.post("/v1/events", EVENT | {"event_id": "e/1"}).json()["accepted"] == 1
    shown = local.http.get("/v1/users/u%2F1%20%C3%BC").json()
    assert shown["user_id"] == "u/1 ü" and shown["num_events"] == 1
    assert local.http.get("/v1/users/u/1").status_code == 404
    local.post("/v1/events", EVENT | {"visitor": 17})
    local.post("/v1/events", EVENT | {"visitor": "17", "timestamp": T0})
    assert local.http.get("/v1/users/17").json()["num_events"] == 2
    assert local.http.delete("/v1/users/u%2F1%20%C3%BC/events/e%2F1").json() == {"removed": True}


def test_a_batch_has_a_limit(local: Server) -> None:
    before = known(local)
    assert local.post("/v1/events", [EVENT | {"visitor": f"new {n}"} for n in range(6)]).status_code == 413
    assert known(local) == before


def raw(server: Server, sent: list[bytes]) -> tuple[bytes, int]:
    """What a server answers to bytes, and how many it took before it closed the connection."""
    with socket.create_connection(("127.0.0.1", server.config.port), timeout=10) as connection:
        taken = 0
        try:
            for part in sent:
                connection.sendall(part)
                taken += len(part)
        except OSError:
            pass
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except OSError:
            pass
        return answer, taken


HEAD = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_a_body_above_the_limit_is_refused_before_it_is_read(local: Server) -> None:
    answer, _ = raw(local, [HEAD + b"Content-Length: 10001\r\n\r\n"])  # not a byte of the body is sent
    assert answer.startswith(b"HTTP/1.1 413") and b"10,000 bytes" in answer and b"connection: close" in answer.lower()


def test_a_body_of_no_stated_length_is_not_read_to_its_end(local: Server) -> None:
    part = b"%x\r\n" % 65536 + b" " * 65536 + b"\r\n"
    _, taken = raw(local, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[part] * 1000])
    assert taken < 20 << 20, "the connection was closed long before 64 MB"


ALLOWED: dict[tuple[str, str], set[str]] = {
    ("POST", "/v1/events"): {"write", "admin"},
    ("PATCH", "/v1/users/1/events/a"): {"write", "admin"},
    ("DELETE", "/v1/users/1/events/a"): {"write", "admin"},
    ("PUT", "/v1/users/1"): {"write", "admin"},
    ("DELETE", "/v1/users/1"): {"write", "admin"},
    ("POST", "/v1/users/1/merge"): {"write", "admin"},
    ("GET", "/v1/users"): {"read", "admin"},
    ("GET", "/v1/users/1"): {"read", "admin"},
    ("POST", "/v1/recommend"): {"read", "admin"},
    ("POST", "/v1/rank"): {"read", "admin"},
    ("GET", "/v1/items/1/similar"): {"read", "admin"},
    ("GET", "/v1/items"): {"read", "admin"},
    ("PATCH", "/v1/items/1"): {"write", "admin"},
    ("GET", "/v1/models"): {"read", "admin"},
    ("GET", "/metrics"): {"read", "admin"},
    ("PUT", "/v1/models/default"): {"admin"},
}


@pytest.mark.parametrize(("method", "path"), ALLOWED)
def test_a_key_opens_what_its_role_says(locked: Server, tokens: dict[str, str], method: str, path: str) -> None:
    body: dict[str, Any] = {} if method == "GET" else {"json": {"none": 1}}
    for header in (None, "Bearer wrong", f"Basic {tokens['admin']}", f"Bearer {tokens['admin'][:-1]}", "Bearer ü"):
        headers = {} if header is None else {"Authorization": header.encode()}
        answer = locked.http.request(method, path, headers=headers, **body)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    for role in ROLES:
        headers = {"Authorization": f"Bearer {tokens[role]}".encode()}
        status = locked.http.request(method, path, headers=headers, **body).status_code
        assert (status == 403) == (role not in ALLOWED[method, path]) and status != 401


def test_every_path_is_held_to_a_role(locked: Server) -> None:
    """A path that is added without a line above fails here."""
    described = locked.http.get("/openapi.json").json()["paths"]
    plain = {"user_id": "1", "event_id": "a", "item_id": "1", "name": "default"}
    paths = {(method.upper(), path.format(**plain)) for path, methods in described.items() for method in methods}
    assert paths - {("GET", "/health/live"), ("GET", "/health/ready")} == {*ALLOWED}


def test_health_needs_no_key_and_says_why(locked: Server) -> None:
    assert locked.http.get("/health/live", headers={"Host": "anything.example"}).status_code == 200
    answer = locked.http.get("/health/ready")
    assert answer.status_code in (200, 503)


def test_log_lines_have_a_keyed_hash_of_the_user(locked: Server, tokens: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {tokens['read']}"}
    for place, user in enumerate(("somebody", "somebody", "another")):
        locked.http.get(f"/v1/users/{user}", headers=headers | {"X-Request-Id": f"named-{place}"})
    hashes: list[str] = []
    while len(hashes) < 3:  # a line is written after the answer
        lines = [one for one in locked.lines() if one.get("user") and one["method"] == "GET"]
        hashes = [one["user"] for one in lines if one["request_id"].startswith("named-")]
    assert hashes[0] == hashes[1] != hashes[2] and "somebody" not in locked.log.read_text()


def test_a_key_that_asks_too_often_is_told_when_to_come_again(locked: Server, tokens: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {tokens['write']}"}
    answers = [locked.http.delete("/v1/users/nobody", headers=headers) for _ in range(120)]
    refused = [one for one in answers if one.status_code == 429]
    assert refused and int(refused[0].headers["retry-after"]) >= 1
    assert sum(one.status_code == 200 for one in answers) >= 50
    assert locked.http.get("/v1/models", headers={"Authorization": f"Bearer {tokens['read']}"}).status_code == 200


def test_keys_are_kept_as_hashes_and_a_line_less_is_a_key_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.jsonl"
    one, other = new_key(path, "read"), new_key(path, "admin")
    assert len(one.removeprefix("facta_")) == 64 and one not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    monkeypatch.setattr("facta.serve.keys._LOOK", 0.0)
    keys = Keys(path)
    assert [keys.find(token).role for token in (one, other)] == ["read", "admin"]  # type: ignore[union-attr]
    path.write_text(path.read_text().splitlines(keepends=True)[1])
    assert keys.find(one) is None and keys.find(other) is not None
    path.unlink()
    assert keys.find(other) is None
    with pytest.raises(Exception, match="cannot be read"):
        read_keys(path)
