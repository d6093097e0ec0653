"""`facta serve --check`, `facta keys` and what they refuse."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from facta.serve.keys import read_keys
from tests.integration.conftest import Facta
from tests.serving import free_port, saved, shop


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    saved(shop(folder / "log"), folder / "artifact")
    return folder / "artifact"


def test_a_check_says_what_would_be_served(facta: Facta, place: Path, tmp_path: Path) -> None:
    facta("keys", "new", "--role", "read", "--keys", tmp_path / "keys")
    given = ("--store", f"sqlite:///{tmp_path}/e.db", "--keys", tmp_path / "keys", "--port", free_port())
    found = facta("serve", place, *given, "--check", "--json")
    assert found.code == 0 and found.json["keys"] == "1 read" and str(place) in found.json["models"]
    assert "free" in found.json["port"] and "GB" in found.json["memory"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "which others may reach"),
        (["--keys", "none.jsonl"], "facta keys new"),
        (["--store", "sqlite:////none/e.db"], "none/e.db"),
        (["--store", "memory://"], "two processes"),
        (["--cache", "much"], "much"),
        (["--cache", "900000GiB"], "smaller --cache"),
        (["--split", "b=0.5"], "name one with --model"),
        (["--model", "b"], "NAME=VALUE"),
        (["--model", "b=none"], "no artifact"),
        (["--answers", "/none/answers"], "Cannot write"),
    ],
)
def test_a_check_refuses_in_a_sentence(
    facta: Facta, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = facta("serve", place, "--port", free_port(), "--check", *options)
    assert found.code == 1 and said in found.err


def test_a_port_that_is_taken_and_an_artifact_that_is_torn_are_said(facta: Facta, place: Path, tmp_path: Path) -> None:
    store = ("--store", f"sqlite:///{tmp_path}/e.db")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = facta("serve", place, *store, "--port", taken.getsockname()[1], "--check")
        assert found.code == 1 and "--port" in found.err
    torn = tmp_path / "torn"
    torn.mkdir()
    for file in place.iterdir():
        (torn / file.name).write_bytes(file.read_bytes() + b" ")
    assert "damaged" in (found := facta("serve", torn, *store)).err or "checksum" in found.err
    assert found.code == 1


def test_a_key_is_printed_once_and_kept_as_a_hash(facta: Facta, tmp_path: Path) -> None:
    found = [facta("keys", "new", "--role", role, "--keys", tmp_path / "k").out.strip() for role in ("read", "admin")]
    assert [one.role for one in read_keys(tmp_path / "k")] == ["read", "admin"] and len({*found}) == 2
    assert not any(one in (tmp_path / "k").read_text() for one in found)
    refused = facta("keys", "new", "--role", "root", "--keys", tmp_path / "k")
    assert refused.code == 1 and "read, write, admin" in refused.err
