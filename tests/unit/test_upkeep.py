"""What a service does by itself: retention, and engines that let go of whom the store has forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import facta
from facta.errors import StoreError
from facta.infer import people
from facta.serve import upkeep
from facta.serve.config import ServeConfig
from facta.serve.wire import Verb
from facta.store.memory import MemoryStore
from facta.store.protocol import StoredEvent
from tests.serving import saved, shop

DAY = 86_400_000
NOW = time.time_ns() // 1_000_000


@dataclass
class Served:
    """As much of a service as upkeep needs."""

    config: ServeConfig
    store: MemoryStore = field(default_factory=MemoryStore)
    told: list[Verb] = field(default_factory=list)

    async def stored(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    async def tell_engines(self, verb: Verb, body: Mapping[str, Any]) -> None:
        self.told.append(verb)


def service(**changes: Any) -> Served:
    made = Served(ServeConfig.parse({"models": {"default": {"artifact": "none"}}, **changes}))
    for user in range(3):  # the last events are 0, 10 and 20 days old
        events = [StoredEvent(f"e{n}", n, NOW - 1000 - DAY * (10 * user + 3 - n)) for n in range(4)]
        made.store.append([(user, event) for event in events])
    return made


def left(served: Served) -> dict[Any, int]:
    return {user: len(person.events) for user, person in served.store.people()}


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, {0: 4, 1: 4, 2: 4}),
        ({"keep_events": 3}, {0: 3, 1: 3, 2: 3}),
        ({"keep_days": 11.5}, {0: 4, 1: 2}),
        ({"keep_events": 1, "keep_days": 365}, {0: 1, 1: 1, 2: 1}),
    ],
)
def test_old_events_go_and_engines_are_told(changes: dict[str, Any], kept: dict[int, int]) -> None:
    served = service(**changes)
    asyncio.run(upkeep.once(served))  # type: ignore[arg-type]
    assert left(served) == kept and served.told == [Verb.SWEEP]


def test_a_store_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    served, waited = service(keep_events=2), []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            raise asyncio.CancelledError

    async def stored(call: Callable[..., Any]) -> Any:
        if len(waited) == 1:
            raise StoreError("The disk is full.")
        return call()

    monkeypatch.setattr(upkeep.asyncio, "sleep", sleep)
    monkeypatch.setattr(served, "stored", stored)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(upkeep.keep_up(served))  # type: ignore[arg-type]
    assert "The disk is full" in caplog.text and left(served) == {0: 2, 1: 2, 2: 2} and served.told == [Verb.SWEEP]
    assert waited == [upkeep._FIRST_SECONDS, upkeep._EVERY_SECONDS, upkeep._EVERY_SECONDS]


def test_an_engine_lets_go_of_whom_another_process_forgot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "SWEPT_USERS", 2)
    saved(shop(tmp_path / "log"), tmp_path / "artifact")
    store = MemoryStore()
    engine = facta.Engine(facta.load(tmp_path / "artifact"), store=store)
    users = list(range(5))
    for user in users:
        engine.append(user, [{"item_id": n, "timestamp": NOW - DAY + n} for n in range(4)])
    for _ in range(2):
        engine.recommend([*users, 77])  # somebody of whom nothing is known, too
    assert {user for _, user in engine.memories} == set(users)
    for user in (1, 4):
        store.forget(user)
    store.append([(2, StoredEvent("more", 3, NOW))])
    engine.residents.drop(3)
    engine.sweep()
    assert {user for user in engine.residents if user in users} == {0, 2}
    assert {user for _, user in engine.memories} == {0, 2}, "whom it does not know any more it cannot check"
    again = engine.recommend(users)
    assert [source == "model" for source in again.source] == [True, False, True, True, False]
