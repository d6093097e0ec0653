"""What every ranker owes evaluation and recommendation, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facta.data.batches.dataset_requests import request_batch
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.data.split.splits import Split, leave_one_out, leave_one_out_test
from facta.data.split.statistics import Statistics
from facta.encoders.encoder import EncoderConfig
from facta.encoders.gru import GRUConfig
from facta.encoders.hstu import HSTUConfig
from facta.encoders.transformer import TransformerConfig
from facta.models.baselines import (
    DecayedPopularity,
    DecayedPopularityConfig,
    ItemKNN,
    ItemKNNConfig,
    Popularity,
    PopularityConfig,
)
from facta.models.bpr_mf import BPRMF, BPRMFConfig
from facta.models.ease import EASE, EASEConfig
from facta.models.prior import PriorConfig
from facta.models.recommender import Recommender, RecommenderConfig
from facta.models.rules import Rules, RulesConfig
from facta.types import FactoredScores, SequenceBatch
from tests import worlds

Fitted = Callable[[Dataset, Split], nn.Module]


def recommender(encoder: EncoderConfig) -> Fitted:
    config = RecommenderConfig(width=16, window=20, encoder=encoder)
    return lambda dataset, split: Recommender(config, Catalogue.of(dataset)).eval()


def with_rules(encoder: EncoderConfig) -> Fitted:
    config = RecommenderConfig(width=16, window=20, encoder=encoder, prior=PriorConfig(rules=RulesConfig(), weight=2.0))

    def fit(dataset: Dataset, split: Split) -> Recommender:
        model = Recommender(config, Catalogue.of(dataset)).eval()
        assert model.prior is not None
        model.prior.fit_statistics(Statistics(dataset, split))
        return model

    return fit


RANKERS: dict[str, Fitted] = {
    "popularity": lambda data, split: Popularity(PopularityConfig(), data.num_items).fit_statistics(
        Statistics(data, split)
    ),
    "decayed-popularity": lambda d, split: DecayedPopularity(DecayedPopularityConfig(), d.num_items).fit_statistics(
        Statistics(d, split)
    ),
    "ease": lambda data, split: EASE(EASEConfig(window=20), data.num_items).fit_statistics(Statistics(data, split)),
    "bpr-mf": lambda data, split: BPRMF(BPRMFConfig(window=20, epochs=3), data.num_items).fit_statistics(
        Statistics(data, split)
    ),
    "item-knn": lambda data, split: ItemKNN(ItemKNNConfig(window=20), data.num_items).fit_statistics(
        Statistics(data, split)
    ),
    "rules": lambda data, split: Rules(RulesConfig(window=20), data.num_items).fit_statistics(Statistics(data, split)),
    "hstu": recommender(HSTUConfig()),
    "transformer": recommender(TransformerConfig()),
    "gru": recommender(GRUConfig()),
    "hstu with rules": with_rules(HSTUConfig()),
}


@pytest.fixture(params=RANKERS)
def fitted(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[nn.Module, Dataset, Split]:
    dataset = prepare(worlds.checkerboard(users=30), tmp_path / "d")
    split = leave_one_out(dataset)
    return RANKERS[request.param](dataset, split), dataset, split


def scores(model: nn.Module, batch: SequenceBatch) -> Tensor:
    with torch.no_grad():
        found = model.catalogue_scores(batch)
    return found.dense() if isinstance(found, FactoredScores) else found


def test_one_finite_row_of_the_catalogue_per_target(fitted: tuple[nn.Module, Dataset, Split]) -> None:
    model, dataset, _ = fitted
    found = scores(model, request_batch(dataset, leave_one_out_test(dataset), slice(0, 7), model.window))
    assert found.shape == (7, dataset.num_items)
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_a_request_is_answered_the_same_in_any_company(fitted: tuple[nn.Module, Dataset, Split]) -> None:
    model, dataset, _ = fitted
    together = scores(model, request_batch(dataset, leave_one_out_test(dataset), np.arange(12), model.window))
    turned = scores(
        model, request_batch(dataset, leave_one_out_test(dataset), np.arange(12)[::-1].copy(), model.window)
    )
    torch.testing.assert_close(turned.flip(0), together, rtol=1e-5, atol=1e-6)
    for row in (0, 5, 11):
        alone = scores(model, request_batch(dataset, leave_one_out_test(dataset), np.array([row]), model.window))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-6)


def test_an_empty_history_is_answered(fitted: tuple[nn.Module, Dataset, Split]) -> None:
    model, dataset, _ = fitted
    requests = leave_one_out_test(dataset)
    requests.end[:] = 0
    found = scores(model, request_batch(dataset, requests, slice(0, 3), model.window))
    assert found.shape == (3, dataset.num_items)
    assert found.isfinite().all()
    torch.testing.assert_close(found[0], found[2])


def test_state_rebuilds_the_model(fitted: tuple[nn.Module, Dataset, Split]) -> None:
    model, dataset, _ = fitted
    batch = request_batch(dataset, leave_one_out_test(dataset), slice(None), model.window)
    again = model.config.build(Catalogue.of(dataset))
    again.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, strict=True)
    again.eval()
    torch.testing.assert_close(scores(again, batch), scores(model, batch), rtol=0, atol=0)


def test_it_says_what_it_reads(fitted: tuple[nn.Module, Dataset, Split]) -> None:
    model, _, _ = fitted
    assert isinstance(model.window, int)
    assert isinstance(model.config.uses_time, bool)
