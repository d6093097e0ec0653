"""Popularity of live events: what is worth how much, at once, and said in the answer."""

from __future__ import annotations

import time

import numpy as np
import pytest

from facta.errors import ConfigError, StoreError
from facta.infer.engine import Engine
from facta.store.content import Clock
from facta.store.memory import MemoryStore
from tests.unit.test_engine import ITEMS, T0, artifact

DAY = 86_400_000


def engine(half_life: float | None = 2.0) -> Engine:
    found = Engine(artifact(timed=True), store=MemoryStore(Clock(max_future=None)), popular_half_life=half_life)
    if found.runner.popular is not None:
        found.runner.popular.patience = 60.0  # a busy machine is no reason to count in a thread
    return found


def post(live: Engine, user: str, *events: tuple[int, float]) -> None:
    live.append(user, [{"item_id": item, "timestamp": T0 + int(day * DAY)} for item, day in events])


def test_old_events_fade_and_new_ones_count_at_once() -> None:
    """Item 40 was never trained on, 999 is unknown: neither is listed. 30 is met often, and long ago."""
    live = engine()
    post(live, "a", (30, 0), (30, 0), (30, 0), (30, 0), (70, 9), (40, 10), (999, 10))
    post(live, "b", (80, 10), (80, 8), (70, 9))
    found = live.recommend("nobody", 4)
    assert found.source == ["live popularity"] and found.ids[0][:3] == [80, 70, 30]
    assert found.scores[0] == pytest.approx([1.5, 2 * 2**-0.5, 4 * 2**-5, 0], rel=1e-6)
    post(live, "c", (70, 10))
    assert live.recommend("nobody", 2).ids == [[70, 80]]
    assert live.recommend(["nobody", "c"], 2).source == ["live popularity", "model"]
    assert live.recommend("nobody", 2, allow=[30, 80, 10], exclude=[80]).ids == [[30, 10]]
    live.forget("c")
    assert live.recommend("nobody", 2).ids == [[80, 70]]


def test_the_model_answers_as_without_it() -> None:
    with_it, without = engine(), engine(None)
    for live in (with_it, without):
        post(live, "a", (30, 0), (70, 1))
    ours, theirs = (live.recommend("a", 5, at=np.datetime64(T0 + 2 * DAY, "ms")) for live in (with_it, without))
    assert ours == theirs and ours.source == ["model"]


def test_without_an_event_of_a_listed_item_popularity_is_that_of_training() -> None:
    live = engine()
    post(live, "a", (40, 0), (999, 1))
    found, offline = live.recommend("nobody", ITEMS), artifact(timed=True).recommend([], ITEMS)
    assert found == offline and found.source == ["popularity"]


def test_counting_that_takes_long_is_done_beside_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    live = engine()
    popular = live.runner.popular
    assert popular is not None
    popular.patience = -1.0  # every count takes longer
    post(live, "a", (30, 0))
    assert live.recommend("nobody", 1).ids == [[30]]
    post(live, "b", (70, 0), (70, 0))
    until = time.monotonic() + 20
    while live.recommend("nobody", 1).ids != [[70]]:
        assert time.monotonic() < until
        time.sleep(0.01)

    def away(half_life: float) -> dict[int | str, float]:
        raise StoreError("The event store is away.")

    monkeypatch.setattr(live.store, "popularity", away)
    for _ in range(20):
        assert live.recommend("nobody", 1).ids == [[70]], "the last counts serve on"
        time.sleep(0.005)


@pytest.mark.parametrize("half_life", [0, -1.0, float("inf"), float("nan"), True])
def test_what_is_no_half_life_is_refused(half_life: float) -> None:
    with pytest.raises(ConfigError, match=r"popular_half_life = .*; expected days, a number above 0"):
        engine(half_life)
