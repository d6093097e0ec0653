"""Memory that an engine has freed goes back to the system, now and then."""

from __future__ import annotations

from pathlib import Path

import pytest

import facta
from facta.infer import engine as module
from facta.infer import freed
from facta.store.memory import MemoryStore
from tests.serving import T0, saved, shop


def test_memory_is_given_back_as_people_are_evicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(shop(tmp_path / "log"), tmp_path / "artifact")
    artifact, store, calls = facta.load(tmp_path / "artifact"), MemoryStore(), []
    large = facta.Engine(artifact, store=store)
    for user in range(40):
        large.append(user, [{"item_id": n % 8, "timestamp": T0 + n} for n in range(10)])
    large.recommend(list(range(40)), 1)
    engine = facta.Engine(artifact, store=store, cache=large.memories.nbytes // 10)  # for few of them
    monkeypatch.setattr(module, "GIVEN_BACK", 1.0)
    monkeypatch.setattr(module, "give_back", lambda: calls.append(engine.memories.evicted_bytes))
    for _ in range(2):
        for user in range(40):
            engine.recommend(user, 1)
    gaps = [later - before for before, later in zip([0, *calls], calls, strict=False)]
    assert len(calls) > 5 and all(gap > engine.memories.budget for gap in gaps)
    assert calls[-1] > 50 * large.memories.nbytes // 40, "nearly all were evicted"
    freed.give_back()
