"""Whose turn it is: in order, a step's worth at a time, the unfinished behind those who came meanwhile."""

from __future__ import annotations

import pytest

from facta.errors import BusyError, ConfigError
from facta.infer.cache import bytes_of
from facta.infer.engine import Engine
from facta.infer.scheduler import FEWEST, MOST, STEP_SECONDS, Scheduler
from facta.infer.work import Work
from tests.unit.test_engine import artifact

COSTS = {"small": 10, "large": 1000}


def cost(work: Work) -> int:
    return COSTS.get(str(work.user), 30)


def test_a_step_has_at_least_one_and_no_more_than_fit() -> None:
    queue = Scheduler()
    works = [Work("large"), Work("a"), Work("b"), Work("c"), Work("small")]
    for work in works:
        queue.add(work)
    assert queue.tokens == FEWEST == 64
    assert queue.next(cost) == works[:1], "what exceeds a step is served all the same, alone"
    assert queue.next(cost) == works[1:3], "30 + 30; another 30 would be too many"
    queue.again(works[0])
    assert queue.next(cost) == [works[3], works[4]], "in order, and not what is small first"
    assert queue.next(cost) == works[:1] and queue.next(cost) == []


def test_steps_grow_and_shrink_with_the_pace() -> None:
    queue = Scheduler()
    queue.took(1000, 0.1)
    assert queue.tokens == int(10_000 * STEP_SECONDS)
    for _ in range(60):
        queue.took(10_000, 0.001)
    assert queue.tokens == MOST
    for _ in range(200):
        queue.took(1, 1.0)
    assert queue.tokens == FEWEST


def test_late_ones_and_those_who_left_are_not_served() -> None:
    now = [0.0]
    queue = Scheduler(clock=lambda: now[0])
    late, left, good = Work("a", deadline=1.0), Work("b"), Work("c", deadline=3.0)
    for work in (late, left, good):
        queue.add(work)
    now[0], left.cancelled = 2.0, True
    assert queue.next(cost) == [good]
    assert late.done and isinstance(late.error, BusyError) and queue.expired == 1
    assert left.done and left.error is None and not good.done


def test_a_full_queue_refuses() -> None:
    queue = Scheduler(limit=2)
    queue.add(Work("a"))
    queue.add(Work("b"))
    with pytest.raises(BusyError, match="2 requests that wait"):
        queue.add(Work("c"))
    queue.again(Work("d"))
    assert len(queue) == 3, "who was served once keeps the place"


def test_an_engine_serves_more_people_than_may_wait() -> None:
    engine = Engine(artifact(), waiting=3, cache="1MiB")
    answer = engine.recommend(list(range(10)), 2)
    assert len(answer.ids) == 10 and set(answer.source) == {"popularity"} and not len(engine.scheduler)


@pytest.mark.parametrize(
    ("size", "bytes_"), [(5, 5), ("7", 7), ("2KiB", 2048), ("1.5 MiB", 1_572_864), ("1GiB", 1 << 30)]
)
def test_sizes(size: int | str, bytes_: int) -> None:
    assert bytes_of(size) == bytes_


@pytest.mark.parametrize("size", [-1, True, "1GB", "much", 1.5, None])
def test_what_is_no_size_is_refused(size: object) -> None:
    with pytest.raises(ConfigError, match="Found the size"):
        bytes_of(size)  # type: ignore[arg-type]


def test_a_request_is_never_earlier_than_what_it_reads() -> None:
    """Whatever the clocks say."""
    engine = Engine(artifact(timed=True), now=lambda: 1_000)
    engine.append("ann", {"item_id": 10, "timestamp": 1_700_000_000_000})
    for at in (None, "1999-01-01"):
        work = engine.submit(engine.recommendation("ann", 2, at=at))
        engine.step()
        assert work.moment == 1_700_000_000_000 and work.found is not None and work.found.source == "model"
