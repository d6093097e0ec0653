"""Parts of the service without a process: frames, a store that fails, titles, known items, settings."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import facta.serve.service as service_module
from facta.errors import ConfigError, ConflictError, StoreError
from facta.serve.config import ServeConfig
from facta.serve.known_items import KnownItems, digest
from facta.serve.models import Models
from facta.serve.service import Service
from facta.serve.titles import Titles
from facta.serve.wire import Frame, Frames
from facta.store.memory import MemoryStore


def test_frames_come_whole_however_they_are_cut() -> None:
    rng = random.Random(0)
    frames = [Frame(n, n % 7, rng.randbytes(rng.choice([0, 1, 5, 70_000]))) for n in range(60)]
    stream, found, reader = b"".join(one.packed() for one in frames), [], Frames()
    while stream:
        size = rng.choice([1, 3, 13, 14, 15, 1000, 100_000])
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert found == frames


def test_known_items_are_known_and_no_others() -> None:
    for ids in ([*range(0, 300, 3), 2**63], [f"item {n}" for n in range(100)]):
        packed = np.sort(np.frombuffer(b"".join(map(digest, ids)), dtype=np.uint64))
        known = KnownItems(base64.b64encode(packed.tobytes()).decode())
        assert all(one in known for one in ids)
        assert not any(one in known for one in (1, 2, -1, "1", "x", 2**63 + 1))
    assert 1 not in KnownItems("")


def test_titles_that_begin_so_come_first_then_the_popular_ones() -> None:
    titles = ["Star Wars", "A Star", "Star", None, "Wars of Star", "Ştar"]
    items = pl.DataFrame(
        {"row": range(6), "item_id": [10 * n for n in range(6)], "title": titles, "training_events": [1, 9, 5, 7, 8, 0]}
    )
    found = Titles(items)
    assert [one["id"] for one in found.find(" STAR ", 9)] == [20, 0, 10, 40]
    assert [one["id"] for one in found.find("wars star", 9)] == [40, 0]
    assert found.find("", 9) == [] and found.find(".*", 9) == [] and len(found.find("star", 2)) == 2
    assert [one["id"] for one in Titles(items.drop("title")).find("1", 9)] == [10]
    assert found.of(np.array([3, 0])) == [{"id": 30, "title": ""}, {"id": 0, "title": "Star Wars"}]


class Failing(MemoryStore):
    """A store whose disk may be full."""

    why: Exception | None = None

    def append(self, posts: Any) -> Any:
        if self.why is not None:
            raise self.why
        return super().append(posts)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    (tmp_path / "schema.json").write_text(json.dumps({"ids": {"user": "number", "item": "number"}, "fields": []}))
    (tmp_path / "checksums.json").write_text("{}")
    config = ServeConfig(models={"default": {"artifact": str(tmp_path)}})
    models = Models(config)
    models.links["default"].about = {}
    return Service(config, Failing(), models)


def test_a_store_that_cannot_write_makes_the_service_unready_until_it_can(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"user_id": 1, "item_id": 1, "timestamp": "2026-01-01"}

    async def walk() -> None:
        assert await service.why_not_ready() == []
        service.store.why = ConflictError("taken")  # type: ignore[attr-defined]
        with pytest.raises(ConflictError):
            await service.append(event)
        assert await service.why_not_ready() == [], "what is wrong with a post is no failure of the store"
        service.store.why = StoreError("The disk is full.")  # type: ignore[attr-defined]
        with pytest.raises(StoreError):
            await service.append(event)
        assert await service.why_not_ready() == ["The disk is full."]
        service.store.why = None  # type: ignore[attr-defined]
        monkeypatch.setattr(service_module, "_HOLD", 0.0)
        assert await service.why_not_ready() == [] and (await service.append(event))["accepted"] == 1

    asyncio.run(walk())


def test_where_nothing_says_what_ids_are_they_are_as_the_store_has_them(service: Service) -> None:
    async def walk(first: int | str) -> tuple[Any, Any]:
        service.words.ids["user"] = None
        service.store = MemoryStore()
        before = await service.user("17")
        await service.append({"user_id": first, "item_id": 1, "timestamp": "2026-01-01"})
        return before, await service.user("17")

    assert asyncio.run(walk(3)) == ("17", 17)
    assert asyncio.run(walk("three")) == ("17", "17")


def test_two_processes_need_a_store_that_both_see(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two processes"):
        ServeConfig(models={"default": {"artifact": str(tmp_path)}}, store="memory://")
    with pytest.raises(ConfigError, match="no model 'default'"):
        ServeConfig(models={"a": {"artifact": str(tmp_path)}})


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_of_the_page_is_accepted(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    unit = tmp_path / "facta.service"
    unit.write_text(page.split("```ini\n")[1].split("```")[0], encoding="utf-8")
    run = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert run.returncode == 0 and "facta.service" not in run.stderr, run.stderr
