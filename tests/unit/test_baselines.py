"""Baselines: numbers worked by hand, and nothing learned from what is held out."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from facta.data.batches.dataset_requests import request_batch
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import Split, leave_one_out, leave_one_out_test
from facta.data.split.statistics import Statistics
from facta.errors import ConfigError, DataError
from facta.eval.fitting import Fitting
from facta.eval.protocol import ProtocolConfig
from facta.eval.tuning import choose
from facta.models import baselines, counted
from facta.models.baselines import (
    DecayedPopularity,
    DecayedPopularityConfig,
    ItemKNN,
    ItemKNNConfig,
    Popularity,
    PopularityConfig,
)
from tests.rankers import dataset_of, random_log

DAY = 24 * 60
HISTORIES = {  # the last two events of each user are held out
    "a": [(1, 0), (2, 1 * DAY), (3, 2 * DAY), (7, 8 * DAY), (8, 9 * DAY)],
    "b": [(1, 0), (2, 2 * DAY), (7, 8 * DAY), (8, 9 * DAY)],
    "c": [(2, 0), (3, 2 * DAY), (8, 8 * DAY), (7, 9 * DAY)],
    "d": [(1, 0), (1, 1 * DAY), (8, 8 * DAY), (7, 9 * DAY)],
}


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return dataset_of(tmp_path / "d", HISTORIES)


@pytest.fixture
def split(data: Dataset) -> Split:
    return leave_one_out(data)


def by_id(dataset: Dataset, scores: torch.Tensor) -> dict[int, float]:
    return dict(zip(dataset.items["item_id"].to_list(), scores.tolist(), strict=True))


def knn(data: Dataset, split: Split, **settings: float | None) -> ItemKNN:
    return ItemKNN(ItemKNNConfig.parse(settings), data.num_items).fit_statistics(Statistics(data, split))


def test_popularity_counts_training_events(data: Dataset, split: Split) -> None:
    model = Popularity(PopularityConfig(), data.num_items).fit_statistics(Statistics(data, split))
    assert by_id(data, model.popularity) == {1: 4, 2: 3, 3: 2, 7: 0, 8: 0}


def test_an_event_is_worth_half_after_a_half_life(data: Dataset, split: Split) -> None:
    model = DecayedPopularity(DecayedPopularityConfig(half_life_days=1.0), data.num_items).fit_statistics(
        Statistics(data, split)
    )
    worth = {item: 2**score for item, score in by_id(data, model.popularity).items()}
    # the newest training events are two days in
    assert worth[1] == pytest.approx(3 / 4 + 1 / 2)
    assert worth[2] == pytest.approx(1 / 2 + 1 + 1 / 4)
    assert worth[3] == pytest.approx(2)
    assert worth[7] < 1e-30  # and finite: it is ranked, at the end
    assert model.popularity.isfinite().all()


def test_decay_needs_times(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", HISTORIES, timed=False)
    with pytest.raises(DataError, match="timestamps"):
        DecayedPopularity(DecayedPopularityConfig(), data.num_items).fit_statistics(
            Statistics(data, leave_one_out(data))
        )


def test_similarity_by_hand(data: Dataset, split: Split) -> None:
    model = knn(data, split, shrinkage=2.0, neighbours=3)
    ids = data.items["item_id"].to_list()
    one = ids.index(1)
    found = {ids[n]: s for n, s in zip(model.neighbours[one].tolist(), model.similarity[one].tolist(), strict=True)}
    # users of 1: a, b, d (d twice, counted once); of 2: a, b, c; of 3: a, c
    assert found[2] == pytest.approx(2 / (sqrt(3 * 3) + 2))
    assert found[3] == pytest.approx(1 / (sqrt(3 * 2) + 2))
    assert found.get(1, 0.0) == 0.0  # no neighbour of itself


def test_recent_events_count_more(data: Dataset, split: Split) -> None:
    batch = request_batch(data, split.validation, np.array([0]), 50)  # user a has seen 1, 2, 3
    forever = knn(data, split, shrinkage=0.0, half_life=None)
    fading = knn(data, split, shrinkage=0.0, half_life=1.0)
    s12, s13, s23 = 2 / 3, 1 / sqrt(6), 2 / sqrt(6)
    assert by_id(data, forever.catalogue_scores(batch)[0])[1] == pytest.approx(s12 + s13)
    scores = by_id(data, fading.catalogue_scores(batch)[0])
    assert scores[1] == pytest.approx(s12 / 2 + s13)
    assert scores[2] == pytest.approx(s12 / 4 + s23)
    assert scores[8] == 0.0


def test_only_the_nearest_neighbours_are_kept(data: Dataset, split: Split) -> None:
    model = knn(data, split, shrinkage=0.0, neighbours=1)
    ids = data.items["item_id"].to_list()
    assert [ids[n] for n in model.neighbours[[ids.index(1), ids.index(3)], 0].tolist()] == [2, 2]


def test_pairs_counted_in_pieces_are_the_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset_of(tmp_path / "d", random_log())
    split = leave_one_out(data)
    seen = torch.zeros(data.num_users, data.num_items)
    for user, (start, end) in enumerate(zip(data.offsets[:-1], split.train_end, strict=True)):
        seen[user, torch.from_numpy(data.item[start : start + end].astype(np.int64))] = 1
    pairs = seen.T @ seen
    counts = pairs.diagonal()
    dense = pairs / ((counts[:, None] * counts).sqrt() + 20).clamp_min(1e-9)
    dense.fill_diagonal_(0)
    for at_once in (1, 100, 10**6):
        monkeypatch.setattr(baselines, "PAIRS_AT_ONCE", at_once)
        model = knn(data, split, shrinkage=20.0)
        rebuilt = torch.zeros_like(dense).scatter_(1, model.neighbours.long(), model.similarity)
        torch.testing.assert_close(rebuilt, dense)


def test_candidates_are_what_fitting_each_alone_gives(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", random_log())
    split = leave_one_out(data)
    batch = request_batch(data, leave_one_out_test(data), slice(None), 50)
    candidates = ItemKNN.variants(Statistics(data, split))
    assert len({candidate.config for candidate in candidates}) == len(candidates)
    for candidate in candidates[::5]:
        alone = ItemKNN(candidate.config, data.num_items).fit_statistics(Statistics(data, split))
        torch.testing.assert_close(candidate.catalogue_scores(batch), alone.catalogue_scores(batch), rtol=0, atol=0)


def test_choosing_takes_the_best_on_validation(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", random_log())
    split = leave_one_out(data)
    candidates = DecayedPopularity.variants(Statistics(data, split))
    choice = choose(candidates, Fitting(data, ProtocolConfig(), split))
    assert choice.values[candidates.index(choice.best)] == max(choice.values)
    assert len(choice.values) == len(DecayedPopularity.HALF_LIVES)


@pytest.mark.parametrize("settings", [{"half_life": 0}, {"shrinkage": -1}, {"neighbours": 0}, {"decay": 1}])
def test_wrong_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ItemKNNConfig.parse(settings)


@pytest.mark.parametrize("weight", [lambda place: torch.exp2(-place / 7.3), lambda place: (place + 1.0) ** -0.7])
def test_the_weight_of_a_place_depends_on_nothing_beside_it(weight: Callable[[Tensor], Tensor]) -> None:
    """torch computes the numbers that are left over from whole vectors in another way."""
    every = counted._of_places(torch.arange(200), weight)
    for count in range(1, 70):
        assert torch.equal(counted._of_places(torch.arange(count), weight), every[:count])
    assert len(counted._of_places(torch.arange(0), weight)) == 0
