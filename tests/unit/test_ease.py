"""EASE by its definition: each item is explained by the others, least squares with a penalty, nothing by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import facta
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import leave_one_out, training_events
from facta.data.split.statistics import Statistics
from facta.errors import ResourceError
from facta.models import ease
from facta.models.ease import EASE, EASEConfig
from facta.training.log import Log
from tests import worlds


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return facta.prepare(worlds.checkerboard(users=60), tmp_path / "log")


def met(data: Dataset) -> np.ndarray:
    """[U, V] who met what in training."""
    events = training_events(data, leave_one_out(data))
    found = np.zeros((data.num_users, data.num_items))
    found[np.searchsorted(data.offsets, events, side="right") - 1, data.item[events]] = 1
    return found


@pytest.mark.parametrize("penalty", [0.5, 40.0])
def test_each_item_is_a_ridge_regression_on_the_others(data: Dataset, penalty: float) -> None:
    model = EASE(EASEConfig(regularisation=penalty), data.num_items).fit_statistics(
        Statistics(data, leave_one_out(data))
    )
    x = met(data)
    for item in range(data.num_items):
        others = np.delete(np.arange(data.num_items), item)
        a = x[:, others].T @ x[:, others] + penalty * np.eye(len(others))
        expected = np.linalg.solve(a, x[:, others].T @ x[:, item])
        assert model.weight[others, item].numpy() == pytest.approx(expected, abs=1e-5)
        assert model.weight[item, item] == 0


def test_a_score_is_the_sum_over_the_items_that_a_history_shows(data: Dataset) -> None:
    model = EASE(EASEConfig(), data.num_items).fit_statistics(Statistics(data, leave_one_out(data)))
    batch = worlds.batch_of([[3, 5, 3, 1], [2, 4]])
    scores = model.catalogue_scores(batch)
    weight = model.weight
    expected = [weight[3], weight[3] + weight[5], weight[3] + weight[5], weight[2]]  # an item counts once
    torch.testing.assert_close(scores, torch.stack(expected))


def test_penalties_are_chosen_on_validation_and_carried_into_a_refit(data: Dataset, tmp_path: Path) -> None:
    changes = ["protocol.refit=yes", "protocol.mask=nothing"]
    artifact = facta.train(data, "debug/ease", tmp_path / "a", changes, log=Log("quiet"))
    chosen = artifact.model.config.regularisation  # type: ignore[attr-defined]
    assert chosen in ease.REGULARISATIONS
    again = EASE(EASEConfig(regularisation=chosen), data.num_items).fit_statistics(
        Statistics(data, leave_one_out(data).refit)
    )
    torch.testing.assert_close(facta.load(tmp_path / "a").model.weight, again.weight)


def test_the_chosen_penalty_does_not_depend_on_the_order_of_trying(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name, values in (("up", (0.1, 30.0, 1e5)), ("down", (1e5, 30.0, 0.1))):
        monkeypatch.setattr(ease, "REGULARISATIONS", values)
        artifact = facta.train(data, "debug/ease", tmp_path / name, ["protocol.mask=nothing"], log=Log("quiet"))
        found.append(artifact.model.config.regularisation)  # type: ignore[attr-defined]
    assert found[0] == found[1]


def test_a_catalogue_whose_pairs_do_not_fit_is_refused(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "memory_free", lambda: 12 * 12 * 27)
    with pytest.raises(ResourceError, match=r"a matrix of all pairs of the 12 items: about 4\.0 KB of memory, and"):
        EASE(EASEConfig(), data.num_items)
    with torch.device("meta"):
        EASE(EASEConfig(), data.num_items)  # loading makes no second one
