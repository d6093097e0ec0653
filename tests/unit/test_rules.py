"""Pairwise rules: equal to a slow definition, in any pieces, and numbers worked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from facta.arrays import Floats
from facta.data.batches.dataset_requests import request_batch
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import Split, leave_one_out, leave_one_out_test
from facta.data.split.statistics import Statistics
from facta.errors import ConfigError
from facta.eval.fitting import Fitting
from facta.eval.protocol import ProtocolConfig
from facta.eval.tuning import choose
from facta.models import rules
from facta.models.counted import tuned_in_turn
from facta.models.rules import Rules, RulesConfig
from tests.rankers import dataset_of, random_log

BY_HAND = {  # the last two events of each user are held out
    "a": [(1, 0), (2, 1), (3, 2), (7, 8), (8, 9)],
    "b": [(2, 0), (1, 1), (8, 8), (7, 9)],
}
PLAIN = {"damping": 0.0, "source_damping": 0.0, "prior_events": 0.0}


def slow_rules(dataset: Dataset, split: Split, config: RulesConfig) -> Floats:
    """[V, V] rule(i -> j) as its formula says, event by event."""
    found = np.zeros((dataset.num_items, dataset.num_items))
    popularity = np.zeros(dataset.num_items)
    for start, length in zip(dataset.offsets[:-1], split.train_end, strict=True):
        history = dataset.item[start : start + length]
        for p, i in enumerate(history):
            popularity[i] += 1
            for q, j in enumerate(history):
                if p != q and abs(q - p) <= config.distance:
                    found[i, j] += abs(q - p) ** -config.power * (1 if q > p else config.backward)
    damped = popularity + config.prior_events
    return found / np.outer(damped**config.source_damping, damped**config.damping)


def slow_scores(dataset: Dataset, user: int, end: int, rule: Floats, config: RulesConfig) -> Floats:
    """[V] as the formula says, of the user's first `end` events."""
    start = dataset.offsets[user]
    newest_first = dataset.item[start : start + end][::-1][: config.window]
    scores: Floats = np.zeros(dataset.num_items)
    for place, item in enumerate(newest_first):
        scores += (place + 1) ** -config.history_power * rule[item]
    return scores


def rebuilt(model: Rules) -> Floats:
    """[V, V] of what a model keeps."""
    found = np.zeros((len(model.weight), len(model.weight)))
    rows = np.repeat(np.arange(len(found)), model.weight.shape[1])
    np.add.at(found, (rows, model.neighbours.numpy().ravel()), model.weight.numpy().ravel())
    return found


def with_repeats(path: Path, *, timed: bool = True) -> Dataset:
    log = random_log(users=40, items=12)
    for user, events in log.items():
        last = events[-1][1]
        log[user] = [*events, (events[0][0], last + 10), (events[0][0], last + 11), (events[1][0], last + 12)]
    return dataset_of(path, log, timed=timed)


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"distance": 2, "power": 2.0, "backward": 0.0}, {**PLAIN, "backward": 1.0, "window": 3}]
)
def test_rules_and_scores_are_what_the_formula_says(tmp_path: Path, changes: dict[str, float], timed: bool) -> None:
    data = with_repeats(tmp_path / "d", timed=timed)
    split, config = leave_one_out(data), RulesConfig.parse(changes)
    model = Rules(config, data.num_items).fit_statistics(Statistics(data, split))
    rule = slow_rules(data, split, config)
    np.testing.assert_allclose(rebuilt(model), rule, rtol=1e-6)
    assert config.distance == 2 or rule.diagonal().any()  # repeats are rules too
    scores = model.catalogue_scores(request_batch(data, leave_one_out_test(data), slice(None), 50)).numpy()
    for row, (user, end) in enumerate(zip(leave_one_out_test(data).user, leave_one_out_test(data).end, strict=True)):
        np.testing.assert_allclose(scores[row], slow_scores(data, user, end, rule, config), rtol=1e-5)


def test_numbers_worked_by_hand(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", BY_HAND)
    ids = data.items["item_id"].to_list()
    settings = {**PLAIN, "power": 1.0, "backward": 0.5}
    found = rebuilt(
        Rules(RulesConfig.parse(settings), data.num_items).fit_statistics(Statistics(data, leave_one_out(data)))
    )
    one, two, three = ids.index(1), ids.index(2), ids.index(3)
    assert found[one, two] == 1 + 0.5  # a: next; b: just before
    assert found[two, one] == 0.5 + 1
    assert found[one, three] == 1 / 2
    assert found[three, one] == 0.5 / 2
    assert not found[:, [ids.index(7), ids.index(8)]].any()  # held out
    damped = {**settings, "damping": 1.0, "source_damping": 0.5, "prior_events": 2.0}
    found = rebuilt(
        Rules(RulesConfig.parse(damped), data.num_items).fit_statistics(Statistics(data, leave_one_out(data)))
    )
    assert found[one, three] == pytest.approx(1 / 2 / (2 + 2) ** 0.5 / (1 + 2))  # 1 has two events, 3 has one


@pytest.mark.parametrize("at_once", [1, 7, 100, 10**6])
def test_pairs_counted_in_pieces_are_the_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    data = with_repeats(tmp_path / "d")
    split = leave_one_out(data)
    monkeypatch.setattr(rules, "PAIRS_AT_ONCE", at_once)
    events, countings = Statistics(data, split).events(), [RulesConfig().counting, RulesConfig(backward=0.0).counting]
    blocks = list(rules.pair_sums(events, data.num_items, countings))
    keys = np.concatenate([source * data.num_items + target for source, target, _ in blocks])
    assert (np.diff(keys) > 0).all()  # ascending, each pair once
    assert (len(blocks) > 1) == (at_once < 10**6)
    model = Rules(RulesConfig(), data.num_items).fit_statistics(Statistics(data, split))
    np.testing.assert_allclose(rebuilt(model), slow_rules(data, split, RulesConfig()), rtol=1e-6)


def test_the_strongest_rules_are_kept_of_equals_those_of_lower_rows(tmp_path: Path) -> None:
    data = with_repeats(tmp_path / "d")
    split, config = leave_one_out(data), RulesConfig(neighbours=3, **PLAIN, power=0.0, backward=1.0)
    model = Rules(config, data.num_items).fit_statistics(Statistics(data, split))
    for source, rule in enumerate(slow_rules(data, split, config).astype(np.float32)):
        best = np.argsort(-rule, kind="stable")[:3]
        assert model.neighbours[source].tolist() == best[rule[best] > 0].tolist() + [0] * int((rule[best] == 0).sum())
        assert model.weight[source].tolist() == rule[best].tolist()


def test_settings_fitted_together_are_those_fitted_alone(tmp_path: Path) -> None:
    data = with_repeats(tmp_path / "d")
    split = leave_one_out(data)
    batch = request_batch(data, leave_one_out_test(data), slice(None), 50)
    changes = [{}, {"distance": 3}, {"damping": 0.5}, {"history_power": 2.0}, {"window": 2}, {"neighbours": 2}]
    configs = [RulesConfig.parse(change) for change in changes]
    for config, model in zip(configs, Rules.fit_all(configs, Statistics(data, split)), strict=True):
        alone = Rules(config, data.num_items).fit_statistics(Statistics(data, split))
        assert model.config == config
        torch.testing.assert_close(model.catalogue_scores(batch), alone.catalogue_scores(batch), rtol=0, atol=0)


def test_settings_are_chosen_in_turn_on_validation(tmp_path: Path) -> None:
    data = with_repeats(tmp_path / "d")
    split, protocol = leave_one_out(data), ProtocolConfig(mask="nothing")
    search = {"damping": (0.0, 0.5, 1.0), "backward": (0.0, 0.5, 1.0)}

    def judge(models: Sequence[Rules]) -> Rules:
        return choose(models, Fitting(data, protocol, split)).best

    chosen = tuned_in_turn(
        lambda configs: Rules.fit_all(configs, Statistics(data, split)), RulesConfig(), search, judge
    )
    first = judge(Rules.fit_all([RulesConfig(damping=value) for value in search["damping"]], Statistics(data, split)))
    damping = first.config.damping
    second = judge(
        Rules.fit_all(
            [RulesConfig(damping=damping, backward=value) for value in search["backward"]], Statistics(data, split)
        )
    )
    assert chosen.config == second.config != RulesConfig()


@pytest.mark.parametrize("settings", [{"distance": 0}, {"power": -1}, {"backward": -0.5}, {"decay": 1}])
def test_wrong_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        RulesConfig.parse(settings)
