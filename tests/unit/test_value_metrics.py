"""Predicted values: metrics equal to their definitions, intervals over users, and alarms where a model is no use."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

import facta
from facta.eval.alarms import alarms
from facta.eval.bootstrap import Interval, interval, resamples
from facta.eval.feedback_metrics import prediction_metrics, resampled
from facta.eval.metrics import lower_is_better
from facta.eval.predictions import Predictions, average_predictions, differences, pool
from facta.eval.value_metrics import VALUE_METRICS, _Weighted, resampled_values, value_metrics
from facta.training.journal import read
from facta.training.log import Log
from tests import worlds

N, USERS = 240, 24


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, observations with many ties, users of unlike sizes."""
    rng = np.random.default_rng(3)
    y = np.round(rng.exponential(6.0, N))
    p = np.round(0.5 * y + rng.normal(3, 2, N), 1)
    user = np.concatenate([np.arange(USERS), rng.integers(0, USERS // 3, N - USERS)])
    return p, y, user


def slow_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share their mean."""
    return np.array([(values < one).sum() + ((values == one).sum() + 1) / 2 for one in values])


def slow(p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The definitions, word by word."""
    constant = np.abs(y - np.median(y)).mean()
    rank = np.corrcoef(slow_ranks(p), slow_ranks(y))[0, 1]
    mae = np.abs(p - y).mean()
    found = (mae / constant, mae, rank, p.mean(), y.mean(), p.mean() - y.mean())
    return dict(zip(VALUE_METRICS, map(float, found), strict=True))


def test_metrics_are_their_definitions(drawn: tuple[np.ndarray, ...]) -> None:
    p, y, _ = drawn
    assert value_metrics(p, y) == pytest.approx(slow(p, y))
    assert value_metrics(p[:11], y[:11]) == pytest.approx(slow(p[:11], y[:11]))
    scipy = pytest.importorskip("scipy.stats", reason="the rank correlation is compared with scipy's")
    assert value_metrics(p, y)["Spearman"] == pytest.approx(scipy.spearmanr(p, y).statistic)


def test_a_draw_of_users_is_a_log_with_their_events_repeated(drawn: tuple[np.ndarray, ...]) -> None:
    p, y, user = drawn
    found = resampled_values(p, y, user, samples=5)
    for sample, times in enumerate(resamples(USERS, 5)):
        again = np.repeat(np.arange(N), times[user])
        expected = slow(p[again], y[again])
        assert {name: draws[sample] for name, draws in found.items()} == pytest.approx(expected)


def test_what_a_constant_says_is_worth_one_and_no_order(drawn: tuple[np.ndarray, ...]) -> None:
    _, y, _user = drawn
    found = value_metrics(np.full(N, np.median(y)), y)
    assert found["NMAE"] == pytest.approx(1.0) and np.isnan(found["Spearman"])
    assert value_metrics(y, y) == pytest.approx({**slow(y, y), "NMAE": 0.0, "Spearman": 1.0})
    assert np.isnan(value_metrics(y, np.full(N, 3.0))["NMAE"])
    assert all(np.isnan(value) for value in value_metrics(y[:0], y[:0]).values())
    assert all(np.isnan(draws).all() for draws in resampled_values(y, y, np.zeros(N, dtype=int)).values())
    assert lower_is_better("NMAE(dwell)") and lower_is_better("MAE") and not lower_is_better("Spearman(dwell)")


def test_calibration_is_a_ratio_with_an_interval_over_users() -> None:
    rng = np.random.default_rng(0)
    user, p = rng.integers(0, USERS, 900), rng.random(900)
    y = rng.random(900) < 0.5 * p
    assert prediction_metrics(p, y, user)["Calibration"] == pytest.approx(p.mean() / y.mean())
    draws = resampled(p, y, user, samples=4)["Calibration"]
    for value, times in zip(draws, resamples(USERS, 4), strict=True):
        assert value == pytest.approx((times[user] * p).sum() / (times[user] * y).sum())


@pytest.fixture
def found() -> Predictions:
    rng = np.random.default_rng(1)
    user, q = rng.integers(0, 40, 3000), rng.random(3000)
    y, dwell = (rng.random(3000) < q).astype(np.int8), rng.exponential(10, 3000) + 20 * q
    observed = np.where(np.arange(3000) % 4 == 0, np.nan, dwell)
    common = {"user": user, "place": np.arange(3000), "time": None}
    values = {"expected": {"dwell": 10 + 20 * q}, "observed": {"dwell": observed}}
    return Predictions("feedback/x", "test", "c0ffee", p={"click": q}, y={"click": y}, **common, **values)  # type: ignore[arg-type]


def test_values_are_measured_where_they_are_defined(found: Predictions, tmp_path: Path) -> None:
    defined = ~np.isnan(found.observed["dwell"])
    expected = slow(found.expected["dwell"][defined], found.observed["dwell"][defined])
    assert {name: found.means[f"{name}(dwell)"] for name in VALUE_METRICS} == pytest.approx(expected)
    low, high = found.intervals["NMAE(dwell)"]
    assert low < found.means["NMAE(dwell)"] < high < 1
    summary = found.summary()
    assert summary["values"] == ["dwell"] and list(summary["base_rates"]) == ["click"] and not summary["alarms"]
    found.save(tmp_path / "found.json")
    assert Predictions.load(tmp_path / "found.json").means == pytest.approx(found.means, nan_ok=True)
    day = np.arange(3000) < 1000
    parts = pool([found.only(day), found.only(~day)], "pooled")
    assert parts.means["Spearman(dwell)"] == pytest.approx(found.means["Spearman(dwell)"])
    doubt = replace(found, expected={"dwell": np.full(3000, 20.0)})
    assert average_predictions([found, doubt]).expected["dwell"][0] == (found.expected["dwell"][0] + 20) / 2
    moved = differences([found], [doubt], "dwell")
    assert list(moved) == ["NMAE", "MAE", "Spearman"] and moved["NMAE"][1].high < 0
    assert moved["MAE"][0] == pytest.approx(found.means["MAE(dwell)"] - doubt.means["MAE(dwell)"])


def test_intervals_of_values_resample_users(found: Predictions) -> None:
    p, y, user = found.values_of("dwell")
    by_user = interval(resampled_values(p, y, user)["MAE"])
    assert found.intervals["MAE(dwell)"] == by_user
    lonely = replace(found, user=np.arange(3000))  # every event is of another person
    assert lonely.intervals["MAE(dwell)"] != by_user


def test_a_good_model_raises_no_alarm(found: Predictions) -> None:
    assert alarms(found.means, found.intervals) == []


def test_what_is_surely_worse_than_a_constant_is_an_alarm(found: Predictions) -> None:
    turned = replace(found, p={"click": 1 - found.p["click"]}, expected={"dwell": 60 - found.expected["dwell"]})
    text = " ".join(alarms(turned.means, turned.intervals))
    assert "click: NE " in text and "above 1: the base rate would predict better" in text
    assert "dwell: NMAE " in text and "the median would predict better" in text
    assert alarms(turned.means, turned.intervals)[0].startswith("click: NE")


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_what_is_surely_off_on_average_is_an_alarm(found: Predictions, factor: float) -> None:
    off = replace(found, p={"click": factor * found.p["click"].clip(0, 0.8)})
    off = replace(off, expected={"dwell": found.expected["dwell"] * factor})
    said = alarms(off.means, off.intervals)
    assert any(text.startswith("click: the mean prediction is") for text in said)
    assert any(text.startswith("dwell: the mean prediction") for text in said)


def test_what_the_interval_leaves_open_is_no_alarm() -> None:
    means = {"NE(click)": 1.2, "Calibration(click)": 1.3}
    assert alarms(means, {"NE(click)": Interval(0.99, 1.4), "Calibration(click)": Interval(0.9, 1.7)}) == []
    unknown = Interval(float("nan"), float("nan"))
    assert alarms(means, {"NE(click)": unknown, "Calibration(click)": unknown}) == []
    assert len(alarms(means, {"NE(click)": Interval(1.01, 1.4), "Calibration(click)": Interval(1.1, 1.7)})) == 2


def test_draws_weigh_events_by_how_often_their_user_is_drawn(drawn: tuple[np.ndarray, ...]) -> None:
    p, y, _ = drawn
    weight = np.zeros(N)
    weight[:50] = 2.0
    again = np.concatenate([np.arange(50), np.arange(50)])
    assert _Weighted(p, y).metrics(weight) == pytest.approx(tuple(slow(p[again], y[again]).values()))


def test_a_log_of_numbers_alone_is_learned_by_the_recipes_for_any_log(tmp_path: Path) -> None:
    """Nothing says what success is, so the mean NE is of nothing: the mean NMAE decides, and the log says so."""
    log, stream = (
        facta.prepare(worlds.colours(users=40), tmp_path / "log", fields={"click": {"kind": "numeric"}}),
        StringIO(),
    )
    changes = {"model.width": 16, "training.epochs": 2, "training.patience": None}
    trained = facta.train(log, "own-log/gr-ranking", tmp_path / "a", changes, log=Log("plain", stream))
    assert "training.metric is NMAE: no feedback of the log declares which values are success." in stream.getvalue()
    kept = [line for line in read(facta.run_folder(tmp_path / "a"), "validation") if line["best"]]
    assert kept and all("NMAE" in line for line in kept) and trained.model.predicted == ["click"]
