"""The synthetic streaming task: its records follow the recipe, and its oracle is the best that can be done."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from facta.data.synthetic import dirichlet
from facta.data.synthetic.dirichlet import (
    CHUNK_RECORDS,
    DirichletConfig,
    DirichletWorld,
    Records,
    counting,
    next_item_probabilities,
    oracle,
    probability,
)
from facta.errors import ConfigError

SMALL = DirichletConfig(items=400, categories=8, records=4 * CHUNK_RECORDS, length=24, most=3)


def same(one: Records, other: Records) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)


def test_a_record_is_a_function_of_the_seed_and_its_number() -> None:
    world = DirichletWorld(SMALL)
    part = world.records(CHUNK_RECORDS - 5, CHUNK_RECORDS + 7)
    assert part.number.tolist() == list(range(CHUNK_RECORDS - 5, CHUNK_RECORDS + 7))
    assert same(part, DirichletWorld(SMALL).records(0, 3 * CHUNK_RECORDS)[CHUNK_RECORDS - 5 : CHUNK_RECORDS + 7])
    assert not np.array_equal(
        part.item, DirichletWorld(SMALL.change(seed=1)).records(CHUNK_RECORDS - 5, CHUNK_RECORDS + 7).item
    )
    assert not np.array_equal(
        world.records(0, CHUNK_RECORDS).item, world.records(CHUNK_RECORDS, 2 * CHUNK_RECORDS).item
    )


def test_items_are_released_and_of_the_category_that_was_drawn() -> None:
    world = DirichletWorld(SMALL)
    records = world.records(0, SMALL.records)
    assert (records.item < records.released[:, None]).all()
    assert (world.category[records.item] == np.take_along_axis(records.chosen, records.slot, axis=1)).all()
    assert (np.take_along_axis(records.prior, records.slot, axis=1) > 0).all()
    assert all(len(set(row)) == SMALL.most for row in records.chosen.tolist())
    assert {(row > 0).sum() for row in records.prior} == {1, 2, 3}
    late = records.item[-CHUNK_RECORDS:]  # every item comes, but perhaps one that was just released
    assert len(np.unique(late)) > 0.98 * records.released[-1]


def test_the_catalogue_grows_evenly() -> None:
    world = DirichletWorld(DirichletConfig())
    assert world.released(np.array([0, 1, 83, 84, 500_000, 999_999])).tolist() == [
        *(8000, 8001, 8001, 8002),
        *(14_000, 20_000),
    ]
    records = world.records(500_000, 500_001)
    expected = [[(world.category[:14_000] == kind).sum() for kind in records.chosen[0]]]
    assert world.sizes(records).tolist() == expected


def by_hand() -> tuple[DirichletWorld, Records]:
    """Three categories with priors 1/2, 1/2, 0 and α = 2; the events take 0, 0, 1, 0."""
    world = DirichletWorld(SMALL)
    drawn = world.records(0, 1)
    slot = np.array([[0, 0, 1, 0]])
    prior, alpha = np.array([[0.5, 0.5, 0.0]]), np.array([2.0])
    return world, replace(drawn, prior=prior, concentration=alpha, slot=slot, item=np.zeros_like(slot))


def test_counts_are_of_earlier_events() -> None:
    assert by_hand()[1].counts()[0].tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 1, 0]]


def test_the_restaurant_of_a_record_written_by_hand() -> None:
    world, records = by_hand()
    each, left = next_item_probabilities(world, records)
    assert np.allclose((each * left)[0], [[1 / 2, 1 / 2, 0], [2 / 3, 1 / 3, 0], [3 / 4, 1 / 4, 0], [3 / 5, 2 / 5, 0]])


def test_draws_follow_these_probabilities() -> None:
    """Of many records with one prior and one α, a place is taken as often as the mean probability says."""
    rng, count = np.random.default_rng(3), 40_000
    prior, alpha = np.tile([0.6, 0.3, 0.1], (count, 1)), np.full(count, 1.5)
    slot = dirichlet._restaurant(prior, alpha, 6, rng)
    for past in itertools.product(range(2), repeat=2):  # what the two earlier events of one place were
        at = (slot[:, :2] == past).all(axis=1)
        counts = np.bincount(past, minlength=3)
        expected = (1.5 * prior[0] + counts) / (1.5 + 2)
        found = np.bincount(slot[at, 2], minlength=3) / at.sum()
        assert np.abs(found - expected).max() < 5 * np.sqrt(0.25 / at.sum())
    assert np.allclose(np.bincount(slot[:, 5], minlength=3) / count, prior[0], atol=0.02)


@pytest.mark.parametrize("repeats", [True, False])
def test_the_oracle_is_the_best_list(repeats: bool) -> None:
    """Against a sort of all items by their probability, which sums to one."""
    world = DirichletWorld(SMALL.change(repeats=repeats))
    records = world.records(2 * CHUNK_RECORDS, 2 * CHUNK_RECORDS + 20)
    everything = np.broadcast_to(np.arange(SMALL.items), (*records.item.shape, SMALL.items))
    likely = probability(world, records, everything).copy()
    if not repeats:
        for row, place in np.ndindex(records.item.shape):
            likely[row, place, records.item[row, :place]] = 0.0
    assert np.allclose(likely.sum(axis=2), 1)
    best = np.cumsum(-np.sort(-likely, axis=2), axis=2)
    for k, found in oracle(world, records, (1, 10, 50)).items():
        assert np.allclose(found, best[:, :, k - 1])


def test_the_oracle_is_calibrated() -> None:
    world = DirichletWorld(SMALL)
    records = world.records(0, 2 * CHUNK_RECORDS)
    everything = np.argsort(-next_item_probabilities(world, records)[0], axis=2)[:, :, :1]  # the best category an item
    most = np.take_along_axis(records.chosen[:, None], everything, axis=2)[:, :, 0]
    own = world.category[records.item] == most
    each, left = next_item_probabilities(world, records)
    expected = np.take_along_axis(each * left, everything, axis=2)
    assert own.mean() == pytest.approx(expected.mean(), abs=0.01)


def test_without_repeats_no_item_returns() -> None:
    world = DirichletWorld(SMALL.change(repeats=False, length=12))
    records = world.records(0, 200)
    assert world.sizes(records).min() >= 12
    assert all(len(set(row)) == 12 for row in records.item.tolist())


def test_a_category_that_is_used_up_starts_anew() -> None:
    world = DirichletWorld(DirichletConfig(items=20, categories=2, most=1, released=1, length=40, repeats=False))
    records = world.records(0, 50)
    for row, size in zip(records.item, world.sizes(records)[:, 0], strict=True):
        assert sorted(row[:size]) == sorted(row[size : 2 * size]) == np.unique(row).tolist()[:size]


@pytest.mark.parametrize(
    ("changes", "hr10", "hr50"),
    [({"fewest": 5}, 0.024, 0.120), ({}, 0.035, 0.175), ({"repeats": False}, 0.077, 0.379)],
)
def test_the_oracle_at_the_last_event_is_what_others_simulated(
    changes: dict[str, object], hr10: float, hr50: float
) -> None:
    """Far below the published .0893 / .3170 (Zhai et al. 2024, table 2) unless no item returns."""
    world = DirichletWorld(DirichletConfig().change(**changes))
    parts = [world.records(first, first + 300) for first in range(900_000, 1_000_000, 10_000)]
    found = [oracle(world, part, (10, 50)) for part in parts]
    for k, expected in ((10, hr10), (50, hr50)):
        last = np.concatenate([one[k][:, -1] for one in found])
        both_sampled = last.std() / len(last) ** 0.5 * 2**0.5
        assert last.mean() == pytest.approx(expected, abs=0.0005 + 3 * both_sampled)


def test_counting_is_behind_by_what_it_does_not_know() -> None:
    world = DirichletWorld(DirichletConfig())
    records = world.records(950_000, 951_000)
    best, counted = (find(world, records, (10,))[10] for find in (oracle, counting))
    assert (counted <= best + 1e-12).all()
    assert (counted[:, 0] == 0).all()  # it has nothing to count
    share = counted.mean(axis=0) / best.mean(axis=0)
    assert share[1] < 0.9 < share[8] < 0.99 < share[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fewest": 6}, "must ascend"),
        ({"concentration": (0.0, 1.0)}, "positive"),
        ({"concentration": (2.0, 1.0)}, "ascending"),
    ],
)
def test_configs_that_mean_nothing_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DirichletConfig().change(**changes)


def test_a_category_without_items_is_refused() -> None:
    with pytest.raises(ConfigError, match="no item at the start"):
        DirichletWorld(DirichletConfig(items=100))
