"""Smoothed rates by hand: no training event is told its own day, a person is told finished days, counts are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from facta import api, arrays
from facta.data.batches.rows import Rows
from facta.data.batches.training import prediction_batches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.data.split.feedback_counts import DAY_MS
from facta.data.split.statistics import Statistics
from facta.encoders.hstu import HSTUConfig
from facta.errors import ConfigError
from facta.eval.protocol import ProtocolConfig
from facta.layers.embedding import EmbeddingConfig
from facta.layers.rates import SmoothedRates
from facta.layers.recent import recent
from facta.layouts.layout import PAIRED
from facta.models.dlrm import DLRMConfig
from facta.models.rates import RateRegression, RatesConfig
from facta.models.recommender import Recommender, RecommenderConfig
from facta.objectives.feedback import FeedbackConfig
from facta.objectives.next_item import NextItemConfig
from facta.recipes.recipe import RecipeConfig
from facta.training.trainer import TrainingConfig
from facta.types import SequenceBatch

PRIOR = 4.0
GENERATIVE = RecommenderConfig(
    width=8,
    layout="paired",
    embedding=EmbeddingConfig(dropout=0.0, scale_by_width=False, rates=PRIOR),
    next_item=None,
    feedback=FeedbackConfig(),
)
START = 18_000 * DAY_MS
# user, item, day, surface, click: three days to train on, one to test
LOG = [
    ("u", "a", 0, "home", 1),
    ("u", "b", 0, "feed", 0),
    ("u", "a", 1, "home", 1),
    ("u", "b", 2, "home", 0),
    ("u", "a", 3, "feed", 1),
    ("u", "b", 3, "feed", 1),
    ("v", "a", 0, "feed", 0),
    ("v", "b", 1, "feed", 1),
    ("v", "a", 1, "home", 0),
    ("v", "c", 3, "home", 1),
]
PROTOCOL = ProtocolConfig(split="temporal", train_end="70%", validation_end="70%")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    frame = pl.DataFrame(LOG, schema=["user_id", "item_id", "day", "surface", "click"], orient="row")
    frame = frame.with_columns(timestamp=START + pl.col("day") * DAY_MS + pl.int_range(pl.len()) * 1000).drop("day")
    fields = {"surface": {"role": "context", "kind": "categorical"}, "click": {"kind": "binary"}}
    return prepare(frame, tmp_path_factory.mktemp("data") / "log", fields=fields)


def made(log: Dataset) -> tuple[RateRegression, SequenceBatch]:
    model = RateRegression(RatesConfig(prior=PRIOR), Catalogue.of(log))
    model.fit_statistics(Statistics(log, PROTOCOL.cut(log)))
    length = np.diff(log.offsets)
    rows = Rows(np.arange(2), np.zeros_like(length), length, np.zeros_like(length), length)
    ((order, batch),) = prediction_batches(log, rows, window=model.window, spec=model.inputs)
    assert order.tolist() == [0, 1]
    return model, batch


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def smoothed(successes: int, events: int, rate: float) -> float:
    return (successes + PRIOR * rate) / (events + PRIOR)


TRAINED = [one for one in LOG if one[2] < 3]
BASE = (sum(one[4] for one in TRAINED) + 1) / (len(TRAINED) + 2)


def counted(events: list[tuple[str, str, int, str, int]], rate: float) -> list[float]:
    """Log odds above the expected ones, and the size."""
    p = smoothed(sum(one[4] for one in events), len(events), rate)
    return [logit(p) - logit(rate), float(np.log1p(len(events))) / 5]


@pytest.mark.parametrize("training", [True, False])
def test_every_number_by_hand(log: Dataset, training: bool) -> None:
    model, batch = made(log)
    numbers = model.train(training).rates(batch, recent(batch, 50))
    for place, (user, item, day, surface, _) in enumerate(LOG):
        told = [one for one in TRAINED if not training or one[2] != day]
        mine = [one for one in LOG[:place] if one[0] == user and one[2] < day]
        own = smoothed(sum(one[4] for one in mine), len(mine), BASE)
        expected = [
            *counted([one for one in told if one[1] == item], BASE),
            *counted([one for one in told if one[3] == surface], BASE),
            *counted(mine, BASE),
            *counted([one for one in mine if one[1] == item], own),
            *counted([one for one in mine if one[3] == surface], own),
        ]
        assert numbers[place].tolist() == pytest.approx(expected, abs=1e-5), LOG[place]


def test_no_training_event_is_told_its_own_answer(log: Dataset) -> None:
    """Another answer on the same day changes the rates of the item for the others, and not its own."""
    model, batch = made(log)
    before = _of_items(model.train(), batch)
    changed = log.fields["click"].copy()
    changed[2] = 0
    other = _with_clicks(log, changed)
    after = _of_items(made(other)[0].train(), batch)
    same = torch.isclose(before, after).all(dim=1)
    assert same.tolist()[2] and not same.tolist()[0]


def _of_items(model: RateRegression, batch: SequenceBatch) -> Tensor:
    """[S, 2] what is said of items, the base rate held fixed."""
    model.rates.overall.copy_(torch.tensor([[4.0, 7.0]]))
    return model.rates(batch, recent(batch, 50))[:, :2]


def _with_clicks(log: Dataset, clicks: np.ndarray) -> Dataset:
    other = Dataset(log.path, log.manifest)
    other.fields = {**log.fields, "click": clicks}
    return other


def test_the_window_bounds_what_a_person_is_known_by(log: Dataset) -> None:
    model, batch = made(log)
    whole, short = (model.rates(batch, recent(batch, window)) for window in (50, 1))
    assert torch.equal(whole[:, :4], short[:, :4]) and not torch.equal(whole, short)
    forgotten = replace(batch, targets=replace(batch.targets, num_visible=batch.targets.num_visible.clamp_max(0)))
    nothing = model.rates(forgotten, recent(forgotten, 50))[:, 4:]
    assert torch.allclose(nothing, torch.zeros_like(nothing), atol=1e-6)


def test_without_history_a_person_has_no_rates(log: Dataset) -> None:
    model = RateRegression(RatesConfig(history=False), Catalogue.of(log))
    assert model.linear.in_features == 4
    with pytest.raises(ConfigError, match=r"model\.fields is clicks; .* click"):
        RateRegression(RatesConfig(fields=("clicks",)), Catalogue.of(log))


def test_a_sequence_shows_the_rates_of_its_items_wherever_it_shows_an_item(log: Dataset) -> None:
    """The two tokens of an event differ from those without rates by the same vector, that of its item's numbers."""
    model = Recommender(GENERATIVE, Catalogue.of(log))
    assert model.embedder.rates is not None and model.embedder.rate is not None
    model.fit_statistics(Statistics(log, PROTOCOL.cut(log)))
    _, batch = made(log)
    tokens = PAIRED.tokens(batch, ("feedback",))
    for training in (True, False):
        found = model.train(training).embedder.tokens(batch, tokens)
        expected = model.embedder.rate(model.embedder.rates.of(batch.events))[tokens.source]
        with torch.no_grad():
            weight = model.embedder.rate.weight.clone()
            model.embedder.rate.weight.zero_()
            without = model.embedder.tokens(batch, tokens)
            model.embedder.rate.weight.copy_(weight)
        torch.testing.assert_close(found - without, expected)
        own = model.embedder.rates.of(batch.events).tolist()
        for place, (_, item, day, surface, _) in enumerate(LOG):
            told = [one for one in TRAINED if not training or one[2] < day]
            alike = [one for one in told if one[1] == item], [one for one in told if one[3] == surface]
            expected = [*counted(alike[0], BASE), *counted(alike[1], BASE)]
            assert own[place] == pytest.approx(expected, abs=1e-5), LOG[place]


@pytest.mark.parametrize("layout", ["paired", "interleaved", "fused"])
def test_no_answer_is_read_off_the_rates_of_earlier_tokens(log: Dataset, layout: str) -> None:
    """Another answer changes the counts, and what a training step says of that event does not move; later ones may."""
    config = GENERATIVE.change(layout=layout, encoder=HSTUConfig(init_std=0.5, dropout=0.0))
    model = Recommender(config, Catalogue.of(log), seed=1).double()
    moved = 0
    for event, (_, _, day, _, click) in enumerate(LOG):
        if day >= 3:
            continue
        clicks = log.fields["click"].copy()
        clicks[event] = 1 - click
        before, after = (_said(model, one) for one in (log, _with_clicks(log, clicks)))
        assert torch.equal(before[event], after[event]), LOG[event]
        moved += not torch.equal(before, after)
    assert moved


def _said(model: Recommender, log: Dataset) -> Tensor:
    """[S] what a training step says of every event, the base rate held fixed."""
    model.train().fit_statistics(Statistics(log, PROTOCOL.cut(log)))
    assert model.embedder.rates is not None
    model.embedder.rates.overall.copy_(torch.tensor([[4.0, 7.0]]))
    with torch.no_grad():
        return model.scores(made(log)[1])["click"]


def test_counts_of_many_days_are_told_apart_in_stretches(log: Dataset) -> None:
    """40 days are 14 stretches of 3: an event is told what no event of its own stretch did, or nothing later."""
    place = np.repeat(np.arange(2), [6, 4])
    spread = _with_clicks(log, log.fields["click"])
    days = np.array([0, 2, 3, 39, 45, 46, 1, 3, 20, 47])
    spread.timestamp = START + days * DAY_MS
    fields = made(log)[0].fields
    for ordered in (False, True):
        rates = SmoothedRates(Catalogue.of(log), fields, PRIOR, history=False, ordered=ordered)
        split = PROTOCOL.cut(log)
        rates.fit_statistics(Statistics(spread, split))
        assert rates.periods.days == 3
        trained = np.flatnonzero(arrays.places(log.offsets) < split.train_end[place])
        events = replace(made(log)[1].events, time=torch.from_numpy(spread.timestamp))
        found = rates.train().of(events)[:, 1]
        for event in trained:
            mine = days[event] // 3
            told = [one for one in trained if log.item[one] == log.item[event] and
                    (days[one] // 3 < mine if ordered else days[one] // 3 != mine)]  # fmt: skip
            assert found[event].item() == pytest.approx(np.log1p(len(told)) / 5, abs=1e-6)


def test_rates_of_a_sequence_are_of_feedback_with_success(log: Dataset) -> None:
    nothing = GENERATIVE.change(feedback=None, next_item=NextItemConfig())
    with pytest.raises(ConfigError, match=r"embedding\.rates needs a predicted feedback field with 'positive' values"):
        Recommender(nothing, Catalogue.of(log))


@pytest.mark.parametrize("config", [RatesConfig(), DLRMConfig(), GENERATIVE])
def test_a_stream_refuses_counts_of_all_its_time(
    log: Dataset, tmp_path: Path, config: RatesConfig | DLRMConfig | RecommenderConfig
) -> None:
    training = TrainingConfig(epochs=1, hours=24, keep="last", metric="NE(click)")
    protocol = ProtocolConfig(split="temporal", train_end="70%", validation_end="85%")
    recipe = RecipeConfig(name="test/x", model=config, training=training, protocol=protocol)
    with pytest.raises(ConfigError, match="would leak the future into a stream"):
        api.train(log, recipe, tmp_path / "a")
