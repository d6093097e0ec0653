"""The simulated service: its log follows its own rules, and its floor is the exact best prediction."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from facta import arrays
from facta.arrays import Floats
from facta.data.synthetic import floor as floors
from facta.data.synthetic import simulator
from facta.data.synthetic.simulator import Memory, SimulatorConfig, World
from facta.eval.feedback_metrics import prediction_metrics

SMALL = SimulatorConfig(users=600, items=500, events_per_user=30)
TINY = SimulatorConfig(users=8, items=12, events_per_user=5, tastes=3, categories=3, length_spread=0.3, switch=0.2)


def logs(config: SimulatorConfig, seed: int = 1) -> tuple[World, list[tuple[int, simulator.Events]]]:
    world = World(config)
    return world, list(simulator.chunks(world, seed))


def log_of(config: SimulatorConfig, seed: int = 1) -> pl.DataFrame:
    world, parts = logs(config, seed)
    return pl.concat([simulator.frame(world, first, part) for first, part in parts])


def test_a_log_is_a_function_of_its_seeds() -> None:
    assert log_of(SMALL).equals(log_of(SMALL))
    assert not log_of(SMALL).equals(log_of(SMALL, seed=2))
    assert not log_of(SMALL).equals(log_of(SMALL.change(seed=1)))


def test_chunks_do_not_depend_on_how_many_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "CHUNK_USERS", 200)
    few, many = log_of(SMALL.change(users=400)), log_of(SMALL)
    assert few.equals(many.filter(pl.col("user_id") < 400))


def test_histories_ascend_items_wait_for_their_birthday_and_seconds_are_shared() -> None:
    world, log = World(SMALL), log_of(SMALL)
    assert log["user_id"].n_unique() == 600 and log.height == pytest.approx(600 * 30, rel=0.2)
    grouped = log.group_by("user_id", maintain_order=True)
    assert all(group["timestamp"].is_sorted() for _, group in grouped)
    assert (log["timestamp"].to_numpy() >= world.config.start + world.birth[log["item_id"].to_numpy()]).all()
    same = log.select(pl.struct("user_id", "timestamp").is_duplicated().mean()).item()
    assert 0.1 < same < 0.4
    assert log.filter(pl.col("surface") == "organic").height / log.height == pytest.approx(0.4, abs=0.02)


def test_feedback_is_of_its_kind() -> None:
    log = log_of(SMALL)
    assert log.filter(~pl.col("click") & (pl.col("long_view") | pl.col("rating").is_not_null())).is_empty()
    assert set(log["rating"].drop_nulls()) == {1, 2, 3, 4, 5}
    assert log.filter("click")["rating"].is_not_null().mean() == pytest.approx(0.2, abs=0.03)


def test_ratings_sum_to_one() -> None:
    world, liking = World(SMALL), np.linspace(-3, 3, 7)[:, None]
    total = sum(floors.rating_probability(world, liking, rating) for rating in range(1, 6))
    assert np.allclose(total, 1)


def all_paths(world: World, events: simulator.Events, user: int) -> tuple[list[tuple[float, float, float]], Floats]:
    """(click, long view, item) probabilities of each event by summing over every path of tastes: the definition; and
    [Z] of the taste behind the last event."""
    first, last = events.steps.offsets[user : user + 2]
    at, memory = np.arange(first, last), Memory(1)
    tables = []
    for place, one in enumerate(at):
        here = np.array([one])
        likely = floors.item_probability(world, events.steps, here, events.item[here])[0]
        click, later = (x[0] for x in floors.feedback_probability(world, events.steps, here, events.item[here], memory))
        seen = click * np.where(events.long_view[one], later, 1 - later) if events.click[one] else 1 - click
        if events.rating[one]:
            seen = seen * floors.rating_probability(world, world.liking[:, events.item[one]], int(events.rating[one]))
        likely = likely * floors.shown_probability(world, events.steps, here, events.item[here], memory)
        tables.append((likely, click, click * later, seen))
        memory.note(place, world.category[events.item[here]], events.click[here])

    def chance(path: tuple[int, ...]) -> float:
        """Of the tastes of a path, all that was seen before its last event included."""
        total = world.taste[path[0]]
        for place in range(1, len(path)):
            anew = world.switch(events.steps.visit[at[place : place + 1]])[0]
            stay = (1 - anew) * (path[place] == path[place - 1]) + anew * world.taste[path[place]]
            total *= stay * tables[place - 1][0][path[place - 1]] * tables[place - 1][3][path[place - 1]]
        return float(total)

    found = []
    for place in range(len(at)):
        paths = {path: chance(path) for path in itertools.product(range(world.config.tastes), repeat=place + 1)}
        before = sum(paths.values())
        with_item = sum(weight * tables[place][0][path[-1]] for path, weight in paths.items())
        click, later = (
            sum(weight * tables[place][0][path[-1]] * tables[place][kind][path[-1]] for path, weight in paths.items())
            for kind in (1, 2)
        )
        found.append((click / with_item, later / with_item, with_item / before))
    belief = np.zeros(world.config.tastes)
    for path, weight in paths.items():
        belief[path[-1]] += weight * tables[-1][0][path[-1]] * tables[-1][3][path[-1]]
    return found, belief / belief.sum()


def test_the_floor_is_the_sum_over_all_paths_of_tastes() -> None:
    world, ((_, events),) = logs(TINY)
    found = floors.floor(world, events)
    for user in range(8):
        span = slice(*events.steps.offsets[user : user + 2])
        by_event, belief = all_paths(world, events, user)
        expected = np.array(by_event)
        assert np.allclose(found.belief[user], belief)
        assert np.allclose(found.click[span], expected[:, 0]) and np.allclose(found.long_view[span], expected[:, 1])
        assert np.allclose(found.item[span], expected[:, 2])


def test_the_probabilities_of_all_next_items_sum_to_one() -> None:
    world, ((_, events),) = logs(TINY)
    steps, memory, seen = events.steps, simulator.Memory(len(events.steps.offsets) - 1), set()
    for place, at in simulator.walk(steps):
        total = np.zeros((len(at), world.config.tastes))
        for item in range(world.config.items):
            same = np.full(len(at), item)
            shown = floors.shown_probability(world, steps, at, same, memory)[:, None]
            taken = floors.item_probability(world, steps, at, same)
            total += (item < steps.alive[at])[:, None] * np.where((steps.surface[at] == 0)[:, None], taken, shown)
        assert np.allclose(total, 1)
        seen |= set(steps.surface[at][memory.clicked[: len(at)] >= 0])
        memory.note(place, world.category[events.item[at]], events.click[at])
    assert seen == {0, 1, 2}, "every surface was asked behind a click"


def test_who_knows_the_taste_expects_the_item_that_is_chosen() -> None:
    world, parts = logs(SimulatorConfig(users=500))
    found = [(floors.floor(world, events), events.steps.surface == 0) for _, events in parts]
    floor, oracle, organic = (
        np.concatenate(columns)
        for columns in zip(*((one.item, one.item_oracle, chosen) for one, chosen in found), strict=True)
    )
    assert np.log(oracle[organic]).mean() > np.log(floor[organic]).mean() + 0.05
    assert np.allclose(oracle[~organic], floor[~organic]), "the other surfaces know nothing of taste"


def test_the_floor_is_calibrated_and_history_brings_one_nearer() -> None:
    """The constants of version 2: NE of the floor between .80 and .90, without history at least 40 % of the way up."""
    world, parts = logs(SimulatorConfig(users=2000))
    found = [floors.floor(world, events) for _, events in parts]
    user = np.concatenate([first + arrays.rows(events.steps.offsets) for first, events in parts])
    for name in ("click", "long_view"):
        y = np.concatenate([getattr(events, name) for _, events in parts])
        best, alone, oracle = (
            prediction_metrics(np.concatenate([getattr(one, name + kind) for one in found]), y, user)
            for kind in ("", "_alone", "_oracle")
        )
        assert best["ECE"] < 0.01
        assert 0.80 < best["NE"] < 0.90
        assert oracle["NE"] < best["NE"] < alone["NE"] < 1
        assert alone["NE"] - best["NE"] > 0.4 * (1 - best["NE"])
