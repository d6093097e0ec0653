"""Averages and comparisons of several seeds: the mean of what single models reach, users and seeds told apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import facta
from facta.eval.bootstrap import resamples
from facta.eval.feedback_metrics import prediction_metrics
from facta.eval.predictions import Predictions, average_predictions
from facta.eval.result import Result
from facta.eval.value_metrics import value_metrics

USERS, EVENTS = 30, 600


def ranked(values: np.ndarray) -> Result:
    users = np.arange(len(values))
    lists = np.zeros((len(values), 1), dtype=np.int32)
    return Result("p", "test", "d", 9, len(values), 0.0, {}, users, users * 1.0, {"NDCG@10": values}, lists)


def predictions(seeds: int = 3, noise: float = 1.0) -> list[Predictions]:
    """Runs of one model on the same events: what happens is likelier where `strength` is high; each errs its way."""
    rng = np.random.default_rng(0)
    user = np.sort(rng.integers(0, USERS, EVENTS))
    strength = rng.standard_normal(EVENTS)
    y = (rng.random(EVENTS) < 1 / (1 + np.exp(-2 * strength))).astype(np.int8)
    y[rng.random(EVENTS) < 0.1] = -1
    dwell = np.where(rng.random(EVENTS) < 0.1, np.nan, np.exp(strength))
    found = []
    for seed in range(seeds):
        error = noise * np.random.default_rng(100 + seed).standard_normal(EVENTS)
        p = 1 / (1 + np.exp(-(strength + error)))
        found.append(
            Predictions(
                protocol="p",
                stage="test",
                dataset="d",
                user=user,
                place=np.arange(EVENTS),
                time=None,
                p={"click": p},
                y={"click": y},
                expected={"dwell": np.exp(strength + error)},
                observed={"dwell": dwell},
            )
        )
    return found


def test_an_average_of_predictions_is_what_one_model_reaches() -> None:
    """An ensemble of the three is better than each of them, and no single model."""
    runs = predictions()
    mean = facta.average(runs)
    for name in runs[0].means:
        each = [run.means[name] for run in runs]
        assert mean.means[name] == pytest.approx(np.mean(each))
        assert mean.seed_deviation[name] == pytest.approx(np.std(each, ddof=1))
    ensemble = average_predictions(runs)
    assert ensemble.means["NE(click)"] < min(run.means["NE(click)"] for run in runs) < mean.means["NE(click)"]
    summary = mean.summary()
    assert summary["intervals_over"] == "users" and summary["runs"] == 3
    assert summary["seed_means"]["NE(click)"] == pytest.approx([run.means["NE(click)"] for run in runs])
    assert summary.keys() >= runs[0].summary().keys()
    assert "3 runs" in repr(mean) and f"± {mean.seed_deviation['NE(click)']:.4f} over seeds" in repr(mean)
    assert (mean.protocol, mean.stage, mean.dataset) == ("p", "test", "d")
    assert not facta.average(runs[:1]).seed_deviation and facta.average(runs[:1]).means == runs[0].means


def test_its_interval_resamples_users_for_all_runs_together() -> None:
    """The slow twin: each draw of users as a log of its own, every metric anew."""
    runs = predictions()
    mean, drawn = facta.average(runs), {"NE(click)": list[float](), "AUC(click)": [], "MAE(dwell)": []}
    of_user = [np.flatnonzero(runs[0].user == user) for user in range(USERS)]
    for times in resamples(USERS):
        events = np.concatenate([np.repeat(of_user[user], times[user]) for user in range(USERS)])
        told = events[runs[0].y["click"][events] >= 0]
        numbers = events[~np.isnan(runs[0].observed["dwell"][events])]
        found = [
            prediction_metrics(run.p["click"][told], run.y["click"][told] == 1, run.user[told])
            | value_metrics(run.expected["dwell"][numbers], run.observed["dwell"][numbers])
            for run in runs
        ]
        for name in drawn:
            drawn[name].append(float(np.mean([one[name.split("(")[0]] for one in found])))
        if len(drawn["NE(click)"]) == 60:
            break
    for name, values in drawn.items():
        low, high = mean.intervals[name]
        inside = [low <= value <= high for value in values]
        assert 0.85 <= np.mean(inside) <= 1 and low < mean.means[name] < high
        assert high - low == pytest.approx(3.92 * np.std(values), rel=0.25)


def test_seeds_do_not_widen_an_interval_over_users() -> None:
    steady, jumping = predictions(noise=0.0), predictions(noise=0.0)
    jumping = [
        replace(run, p={"click": run.p["click"] * factor}) for run, factor in zip(jumping, (0.6, 1.0, 0.7), strict=True)
    ]
    widths = []
    for runs in (steady, jumping):
        low, high = facta.average(runs).intervals["LogLoss(click)"]
        widths.append(high - low)
    assert facta.average(steady).seed_deviation["LogLoss(click)"] == 0
    assert facta.average(jumping).seed_deviation["LogLoss(click)"] > 0.05
    assert widths[1] < 1.5 * widths[0]


@pytest.mark.parametrize("metric", ["NE(click)", "GAUC(click)", "NMAE(dwell)"])
def test_lists_of_predictions_are_compared(metric: str) -> None:
    good, bad = predictions(noise=0.3), predictions(noise=1.5)
    found = facta.compare(good, bad, metric)
    ours, theirs = facta.average(good), facta.average(bad)
    assert found.difference == pytest.approx(ours.means[metric] - theirs.means[metric])
    assert found.interval.low < found.difference < found.interval.high and found.verdict == "better"
    spread = np.sqrt((ours.seed_deviation[metric] ** 2 + theirs.seed_deviation[metric] ** 2) / 3)
    assert found.seeds == pytest.approx(spread) and f"over users, ±{spread:.4f} over seeds" in str(found)
    assert facta.compare(ours, theirs, metric) == found == facta.compare(ours, bad, metric)
    alone = facta.compare(good[0], bad[:2], metric)
    assert alone.seeds == pytest.approx(facta.average(bad[:2]).seed_deviation[metric] / np.sqrt(2))
    assert facta.compare(good[0], bad[0], metric).seeds is None
    assert facta.compare([good[0]], [bad[0]], metric) == facta.compare(good[0], bad[0], metric)


def test_lists_of_results_are_compared() -> None:
    rng = np.random.default_rng(0)
    people = rng.random(300)
    runs = [ranked(people + shift + 0.01 * rng.standard_normal(300)) for shift in (-0.1, 0.0, 0.1)]
    other = [ranked(people + shift) for shift in (0.2, 0.4, 0.3)]
    found = facta.compare(runs, other, "NDCG@10")
    assert found == facta.compare(facta.average(runs), facta.average(other), "NDCG@10")
    assert found.difference == pytest.approx(-0.3, abs=0.01) and found.seeds == pytest.approx(
        0.1 * np.sqrt(2 / 3), rel=0.1
    )
    assert facta.average(runs).runs == 3 and isinstance(facta.average(runs), Result)
    assert "3 runs" not in repr(runs[0])
    shown = replace(runs[0], values={"MRR": people})
    assert "over seeds" in repr(facta.average([shown, shown])) and "over seeds" not in repr(shown)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], r"^Found results = \[\], of type list; expected a list of what facta\.evaluate or facta\.predict returns"),
        (ranked(np.ones(3)), "^Found results = Result.* expected a list of what"),
        ({0: 1}, "^Found results = .* of type dict; expected a list"),
        ([1, 2], "^Found results = .*; expected a list of what"),
        (
            [ranked(np.ones(3)), predictions(1)[0]],
            "^Found rankings and predictions of feedback; average runs of one",
        ),
        ([ranked(np.ones(3)), ranked(np.ones(4))], "different users"),
        ([predictions(1)[0], replace(predictions(1)[0], stage="validation")], "different stages"),
        ([predictions(1)[0], predictions(1)[0].only(np.arange(EVENTS) % 2 == 0)], "different events"),
    ],
)
def test_what_has_no_average_is_a_sentence(results: Any, message: str) -> None:
    with pytest.raises(facta.FactaError, match=message):
        facta.average(results)


def test_what_cannot_be_compared_is_a_sentence() -> None:
    runs, other = predictions(2), [ranked(np.ones(3))] * 2
    with pytest.raises(facta.ProtocolError, match="ranking and predictions"):
        facta.compare(runs, other, "NE(click)")
    with pytest.raises(facta.ProtocolError, match=r"No metric 'ECE\(click\)' .*NE\(click\).*NMAE\(dwell\)"):
        facta.compare(runs, runs, "ECE(click)")
    with pytest.raises(facta.ConfigError, match=r"^Found b = \[\], of type list; expected what facta\.evaluate"):
        facta.compare(runs, [], "NE(click)")
