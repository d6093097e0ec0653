"""Metrics of predicted feedback: by hand, by the definition that counts pairs, and by scikit-learn's formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facta.eval import feedback_metrics


def pairs(p: np.ndarray, y: np.ndarray) -> float:
    """AUC by counting every pair of a positive and a negative."""
    wins = (p[y][:, None] > p[~y]) + 0.5 * (p[y][:, None] == p[~y])
    return float(wins.mean()) if wins.size else float("nan")


predictions = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.5000001, 0.9]), st.booleans(), st.integers(0, 3)),
    min_size=1,
    max_size=40,
)


@given(predictions)
def test_auc_counts_pairs(rows: list[tuple[float, bool, int]]) -> None:
    p, y, user = (np.array(column) for column in zip(*rows, strict=True))
    assert feedback_metrics.auc(p, y) == pytest.approx(pairs(p, y), nan_ok=True)
    found = feedback_metrics.user_auc(p, y, user)
    expected = {u: pairs(p[user == u], y[user == u]) for u in np.unique(user)}
    expected = {u: value for u, value in expected.items() if not np.isnan(value)}
    assert found.user.tolist() == list(expected)
    assert found.auc.tolist() == pytest.approx(list(expected.values()))
    assert found.weight.tolist() == [(user == u).sum() for u in expected]


def test_numbers_by_hand() -> None:
    p, y = np.array([0.8, 0.4, 0.4, 0.2]), np.array([True, True, False, False])
    user = np.array([0, 1, 1, 0])
    found = feedback_metrics.prediction_metrics(p, y, user)
    loss = -(np.log(0.8) + np.log(0.4) + np.log(0.6) + np.log(0.8)) / 4
    assert found["LogLoss"] == pytest.approx(loss)
    assert found["NE"] == pytest.approx(loss / np.log(2))
    assert found["AUC"] == pytest.approx(3.5 / 4)
    assert found["GAUC"] == pytest.approx((2 * 1.0 + 2 * 0.5) / 4)
    assert found["ECE"] == pytest.approx((0.2 + 0.6 + 0.4 + 0.2) / 4)  # four bins of one


def test_the_base_rate_has_ne_1_and_no_calibration_error() -> None:
    y = np.arange(1000) % 5 == 0
    found = feedback_metrics.prediction_metrics(np.full(1000, 0.2), y, np.arange(1000) % 7)
    assert found["NE"] == pytest.approx(1.0)
    assert found["AUC"] == pytest.approx(0.5) and found["GAUC"] == pytest.approx(0.5)
    assert found["ECE"] < 0.02


def test_certainty_that_is_wrong_stays_finite() -> None:
    assert np.isfinite(feedback_metrics.losses(np.array([0.0, 1.0]), np.array([True, False]))).all()


def test_one_sided_labels_have_no_ne_and_no_auc() -> None:
    found = feedback_metrics.prediction_metrics(np.array([0.3, 0.4]), np.array([True, True]), np.array([0, 1]))
    assert np.isnan(found["NE"]) and np.isnan(found["AUC"]) and np.isnan(found["GAUC"])


def test_bins_hold_equal_counts() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(1003)
    y = rng.random(1003) < p
    bins = feedback_metrics.calibration(p, y, 10)
    assert bins.size.sum() == 1003 and bins.size.max() - bins.size.min() <= 1
    assert (np.diff(bins.predicted) > 0).all()
    assert bins.ece < 0.06


def test_resampling_is_paired_and_centred() -> None:
    rng = np.random.default_rng(1)
    user = rng.integers(0, 200, 5000)
    taste = rng.normal(size=200)
    logit = taste[user] + rng.normal(size=5000)
    y = rng.random(5000) < 1 / (1 + np.exp(-logit))
    good, poor = 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(-taste[user]))
    one, other = (feedback_metrics.resampled(p, y, user, samples=300) for p in (good, poor))
    exact = feedback_metrics.prediction_metrics(good, y, user)
    for name in ("NE", "LogLoss", "GAUC"):
        assert one[name].mean() == pytest.approx(exact[name], abs=3 * one[name].std() / 300**0.5 + 1e-3)
    assert (one["NE"] - other["NE"]).std() < one["NE"].std() + other["NE"].std()
    assert np.quantile(one["NE"] - other["NE"], 0.975) < 0  # the better model is better
    assert np.array_equal(feedback_metrics.resampled(good, y, user, samples=300)["NE"], one["NE"])


def test_resampling_of_ne_alone_gives_the_same_draws() -> None:
    rng = np.random.default_rng(2)
    user, p = rng.permutation(np.arange(900) % 40), rng.random(900)
    y = rng.random(900) < p
    whole = feedback_metrics.resampled(p, y, user, samples=50)["NE"]
    assert feedback_metrics.resampled_ne(p, y, user * 7 + 3, 50) == pytest.approx(whole)
