"""Rules as a prior of a trained model: the sum that defines it, and what is chosen on validation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import facta
from facta.data.batches.dataset_requests import request_batch
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.data.split.splits import Split, leave_one_out, leave_one_out_test
from facta.data.split.statistics import Statistics
from facta.errors import ConfigError
from facta.models.prior import Prior, PriorConfig
from facta.models.recommender import Recommender, RecommenderConfig
from facta.models.rules import RulesConfig
from facta.objectives.feedback import FeedbackConfig
from facta.recipes import prior as priors
from facta.types import FactoredScores
from tests import worlds

RULES = RulesConfig(window=3, distance=4, power=1.0, backward=0.5, damping=0.4, source_damping=0.2, history_power=0.75)
QUICK = ["training.epochs=2", "training.validate_every=1", "training.patience=null"]
UNTRAINED = "training.learning_rate=1e-9"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepare(worlds.checkerboard(users=40), tmp_path_factory.mktemp("prior") / "d")


def slow_rules(dataset: Dataset, split: Split) -> dict[tuple[int, int], float]:
    """rule(i -> j), pair by pair."""
    count: dict[int, int] = defaultdict(int)
    pairs: dict[tuple[int, int], float] = defaultdict(float)
    for user, end in enumerate(split.train_end):
        items = dataset.item[dataset.offsets[user] : dataset.offsets[user] + end].tolist()
        for p, i in enumerate(items):
            count[i] += 1
            for q, j in enumerate(items):
                if p != q and abs(p - q) <= RULES.distance:
                    pairs[i, j] += (1.0 if q > p else RULES.backward) / abs(p - q) ** RULES.power
    damp = {item: count[item] + RULES.prior_events for item in range(dataset.num_items)}
    return {
        (i, j): value / damp[i] ** RULES.source_damping / damp[j] ** RULES.damping for (i, j), value in pairs.items()
    }


def slow_scores(own: np.ndarray, history: list[int], rules: dict[tuple[int, int], float], weight: float) -> list[float]:
    """[V] from [V] of the model: the definition."""
    items = len(own)
    newest = list(enumerate(reversed(history), start=1))[: RULES.window]
    score = [sum(p**-RULES.history_power * rules.get((i, j), 0.0) for p, i in newest) for j in range(items)]
    total = sum(score)
    likelier = [items * s / total if total else 0.0 for s in score]
    return [z + weight * math.log(1 + r) for z, r in zip(own.tolist(), likelier, strict=True)]


def model_of(dataset: Dataset, split: Split, weight: float | None = 0.7, **settings: object) -> Recommender:
    config = RecommenderConfig(width=8, window=16, prior=PriorConfig(rules=RULES, weight=weight)).change(**settings)
    model = Recommender(config, Catalogue.of(dataset)).eval()
    assert model.prior is not None
    model.prior.fit_statistics(Statistics(dataset, split))
    return model


def test_scores_are_the_sum_that_defines_them(data: Dataset) -> None:
    split = leave_one_out(data)
    model, rules = model_of(data, split), slow_rules(data, split)
    requests = leave_one_out_test(data)
    requests.end[:3] = [0, 1, 2]  # nothing, one event, fewer than the rules read
    batch = request_batch(data, requests, slice(None), model.window)
    with torch.no_grad():
        found = model.catalogue_scores(batch)
        model.prior = None
        alone = model.catalogue_scores(batch)
    assert isinstance(found, torch.Tensor) and isinstance(alone, FactoredScores)
    for row, (user, end) in enumerate(zip(requests.user, requests.end, strict=True)):
        history = data.item[data.offsets[user] : data.offsets[user] + end].tolist()
        expected = slow_scores(alone.dense()[row].numpy(), history, rules, 0.7)
        np.testing.assert_allclose(found[row].numpy(), expected, rtol=1e-5, atol=1e-5)


def test_items_that_no_rule_names_keep_the_models_own_score(data: Dataset) -> None:
    split = leave_one_out(data)
    split.train_end[:] = 1  # no pairs
    model = model_of(data, split)
    batch = request_batch(data, leave_one_out_test(data), slice(0, 4), model.window)
    with torch.no_grad():
        found = model.catalogue_scores(batch)
        model.prior = None
        alone = model.catalogue_scores(batch)
    assert isinstance(found, torch.Tensor) and isinstance(alone, FactoredScores)
    torch.testing.assert_close(found, alone.dense(), rtol=0, atol=0)


def test_a_prior_without_next_item_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.prior .* set it to null"):
        RecommenderConfig(layout="interleaved", next_item=None, feedback=FeedbackConfig(), prior=PriorConfig())


def turned(frame: pl.DataFrame, event: int) -> Iterator[tuple[int, int, int]]:
    """The rows, with one event of each user (1: the newest) replaced by the new item that rules expect least."""
    for (user,), rows in frame.group_by("user_id", maintain_order=True):
        for place, (item, time) in enumerate(zip(rows["item_id"], rows["timestamp"], strict=True)):
            yield user, (item + 3) % 12 if place == len(rows) - event else item, time


def trained(frame: pl.DataFrame, folder: Path, *settings: str, recipe: str = "debug/hstu-rules") -> facta.Artifact:
    dataset = prepare(frame, folder / "data")
    return facta.train(dataset, recipe, folder / "artifact", [*QUICK, *settings])


def chosen(artifact: facta.Artifact) -> PriorConfig:
    return PriorConfig.parse(artifact.config["model"]["prior"])


def test_settings_and_weight_are_chosen_on_validation_and_not_on_test(tmp_path: Path) -> None:
    """A model that has learned nothing, in a world of cycles that rules know. Where validation events contradict the
    rules, the weight is 0; the same in test events changes nothing."""
    log = worlds.cycle(users=60)
    rows = {event: pl.DataFrame(list(turned(log, event)), schema=log.columns, orient="row") for event in (1, 2)}
    right = chosen(trained(log, tmp_path / "right", UNTRAINED))
    assert right.rules is not None and right.weight is not None and right.weight > 0
    assert chosen(trained(rows[1], tmp_path / "test", UNTRAINED)) == right
    assert chosen(trained(rows[2], tmp_path / "validation", UNTRAINED)).weight == 0


def test_what_is_given_is_not_chosen(data: Dataset, tmp_path: Path) -> None:
    given = PriorConfig(rules=RULES, weight=0.3)
    settings = [*QUICK, f"model.prior={given.model_dump_json()}"]
    assert chosen(facta.train(data, "debug/hstu-rules", tmp_path / "a", settings)) == given
    nothing_to_choose_on = ["protocol.split=loo-paper", "model.prior.weight=2.0"]
    found = chosen(facta.train(data, "debug/hstu-rules", tmp_path / "b", [*QUICK, *nothing_to_choose_on]))
    assert found == PriorConfig(rules=RulesConfig(), weight=2.0)


def test_the_model_is_trained_as_without_it(data: Dataset, tmp_path: Path) -> None:
    last = [*QUICK, "training.keep=last"]
    alone = facta.train(data, "debug/hstu", tmp_path / "alone", last)
    both = facta.train(data, "debug/hstu-rules", tmp_path / "both", last)
    assert isinstance(both.model, Recommender) and isinstance(both.model.prior, Prior)
    state = both.model.state_dict()
    rules = {name for name in state if name.startswith("prior.")}
    assert rules == set(state) - set(alone.model.state_dict()) != set()
    for name, tensor in alone.model.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)


def test_the_best_epoch_is_that_of_both_together(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    of_both = Recommender.catalogue_scores

    def watching(self: Recommender, batch: object) -> object:
        seen.append(self.prior is not None)
        return of_both(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Recommender, "catalogue_scores", watching)
    facta.train(data, "debug/hstu-rules", tmp_path / "a", QUICK)
    assert seen and all(seen)


def test_an_artifact_brings_its_rules(data: Dataset, tmp_path: Path) -> None:
    artifact = facta.train(data, "debug/hstu-rules", tmp_path / "a", QUICK)
    again = facta.load(tmp_path / "a")
    assert isinstance(again.model, Recommender) and again.model.prior is not None
    assert again.model.prior.config == chosen(artifact)
    stored = load_file(tmp_path / "a" / "model.safetensors")
    assert stored["prior.rules.weight"].max() > 0
    asked = facta.history_of(data, 3)
    assert again.recommend(asked, at="2030-01-01") == artifact.recommend(asked, at="2030-01-01")
    test = next(found for found in artifact.metrics if found["stage"] == "test")
    assert facta.evaluate(again, data).summary()["metrics"] == test["metrics"]


def test_a_refit_counts_again_and_keeps_what_validation_has_chosen(data: Dataset, tmp_path: Path) -> None:
    once = facta.train(data, "debug/hstu-rules", tmp_path / "once", QUICK)
    again = facta.train(data, "debug/hstu-rules", tmp_path / "again", [*QUICK, "protocol.refit=yes"])
    assert chosen(again) == chosen(once)
    assert isinstance(again.model, Recommender) and again.model.prior is not None
    expected = Prior(chosen(once), data.num_items).fit_statistics(Statistics(data, leave_one_out(data).refit))
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(again.model.prior.state_dict()[name], tensor, rtol=0, atol=0)


def test_people_get_the_lists_that_are_measured(data: Dataset, tmp_path: Path) -> None:
    """With rules that outweigh the model: lists of the model alone would be others."""
    given = PriorConfig(rules=RULES, weight=16.0)
    settings = [*QUICK, UNTRAINED, f"model.prior={given.model_dump_json()}"]
    artifact = facta.train(data, "debug/sasrec-rules", tmp_path / "a", settings)
    measured, asked_for = facta.evaluate(artifact, data), leave_one_out_test(data)
    ids = data.items["item_id"].to_list()
    expected = [[ids[row] for row in line if row >= 0][:3] for line in measured.lists]
    histories = [
        [ids[row] for row in data.item[data.offsets[user] : data.offsets[user] + end]]
        for user, end in zip(asked_for.user, asked_for.end, strict=True)
    ]
    asked = artifact.recommend(histories, 3)
    assert asked.ids == expected
    assert facta.load(tmp_path / "a").recommend(histories, 3).ids == expected


def test_a_run_that_stopped_before_its_weight_was_chosen_ends_in_the_same_bits(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = facta.train(data, "debug/sasrec-rules", tmp_path / "straight", QUICK)

    def stopped(*_: object, **__: object) -> None:
        raise RuntimeError("stopped")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="stopped"):
        patched.setattr(priors, "settle", stopped)
        facta.train(data, "debug/sasrec-rules", tmp_path / "again", QUICK)
    again = facta.train(data, "debug/sasrec-rules", tmp_path / "again", QUICK)
    assert again.fingerprint == straight.fingerprint
