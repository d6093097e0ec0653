"""Metrics: fractions worked by hand, and the numbers of ranx."""

from __future__ import annotations

import warnings
from math import log2

import numpy as np
import pytest

from facta.eval.metrics import coverage, mean_per_user, ranking_metrics
from facta.retrieval.exact import UNREACHABLE


def one(ranks: list[int], k: int) -> dict[str, float]:
    values = ranking_metrics(np.array(ranks), np.array([0, len(ranks)]), [k])
    return {name: float(column[0]) for name, column in values.items()}


def test_a_single_target_by_hand() -> None:
    assert one([3], 10) == {
        "HR@10": 1.0,
        "Recall@10": 1.0,
        "RecallCapped@10": 1.0,
        "NDCG@10": pytest.approx(1 / 2),  # 1 / log2(4)
        "MRR@10": pytest.approx(1 / 3),
        "MRR": pytest.approx(1 / 3),
    }
    missed = one([11], 10)
    assert missed.pop("MRR") == pytest.approx(1 / 11)
    assert set(missed.values()) == {0.0}


def test_the_last_place_of_the_list_is_inside() -> None:
    assert one([10], 10)["NDCG@10"] == pytest.approx(1 / log2(11))
    assert one([1], 1)["NDCG@1"] == 1.0


def test_several_targets_by_hand() -> None:
    values = one([2, 5, 40, 1], 5)  # three of four targets among the first five
    assert values["HR@5"] == 1.0
    assert values["Recall@5"] == 3 / 4
    assert values["RecallCapped@5"] == 3 / 4
    assert values["MRR@5"] == 1.0
    gain = 1 / log2(3) + 1 / log2(6) + 1
    assert values["NDCG@5"] == pytest.approx(gain / (1 + 1 / log2(3) + 1 / 2 + 1 / log2(5)))


def test_more_targets_than_places_separate_the_two_recalls() -> None:
    values = one([1, 2, 3, 9], 2)
    assert values["Recall@2"] == 2 / 4
    assert values["RecallCapped@2"] == 1.0
    assert values["NDCG@2"] == pytest.approx(1.0)  # the ideal list of two holds two targets


def test_a_masked_target_is_a_miss_at_every_k() -> None:
    values = one([UNREACHABLE], 1_000_000)
    assert set(values.values()) == {0.0}


def test_requests_do_not_touch_each_other() -> None:
    ranks, offsets = np.array([1, 30, 2, 2, 7]), np.array([0, 2, 3, 5])
    together = ranking_metrics(ranks, offsets, [1, 5])
    for request, (start, end) in enumerate([(0, 2), (2, 3), (3, 5)]):
        alone = ranking_metrics(ranks[start:end], np.array([0, end - start]), [1, 5])
        for name, column in together.items():
            assert column[request] == alone[name][0], name


def test_equals_ranx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling takes longer than all other tests together
    with warnings.catch_warnings():  # its imports warn
        warnings.simplefilter("ignore")
        from ranx import Qrels, Run, evaluate
    rng = np.random.default_rng(0)
    relevant = [rng.permutation(60)[: rng.integers(1, 9)] for _ in range(40)]
    orders = [rng.permutation(60) for _ in relevant]
    ranks = np.concatenate([np.argsort(order)[items] + 1 for items, order in zip(relevant, orders, strict=True)])
    offsets = np.cumsum([0, *map(len, relevant)])
    qrels = Qrels({f"q{q}": {f"i{i}": 1 for i in items} for q, items in enumerate(relevant)})
    run = Run({f"q{q}": {f"i{i}": 60.0 - place for place, i in enumerate(order)} for q, order in enumerate(orders)})
    ours = ranking_metrics(ranks, offsets, [1, 5, 20])
    pairs = {f"{a}@{k}": f"{b}@{k}" for k in (1, 5, 20) for a, b in _RANX.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = evaluate(qrels, run, [*pairs.values(), "mrr"])
    for name, other in (pairs | {"MRR": "mrr"}).items():
        assert ours[name].mean() == pytest.approx(theirs[other], abs=1e-12), name


_RANX = {"HR": "hit_rate", "Recall": "recall", "NDCG": "ndcg", "MRR": "mrr"}


def test_coverage_counts_items_that_anybody_gets() -> None:
    assert coverage(np.array([[3, 1], [3, -1]]), 8) == 2 / 8


def test_every_user_counts_once() -> None:
    np.testing.assert_allclose(mean_per_user(np.array([1.0, 0.0, 0.0, 1.0]), np.array([0, 0, 0, 1])), [1 / 3, 1.0])
