"""Intervals, comparisons, and results on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facta.errors import ProtocolError, ResourceError
from facta.eval.bootstrap import bootstrap_means, interval
from facta.eval.comparison import compare
from facta.eval.feedback_metrics import resampled
from facta.eval.result import Result, average


def result(values: np.ndarray, protocol: str = "loo-val/…") -> Result:
    users = len(values)
    return Result(
        protocol=protocol,
        stage="test",
        dataset="d" * 64,
        ranked=50,
        requests=users,
        unreachable=0.0,
        coverage={"Coverage@10": 0.5},
        user=np.arange(users),
        history=np.arange(users, dtype=np.float64) + 1,
        values={"NDCG@10": values},
        lists=np.arange(users * 10, dtype=np.int32).reshape(users, 10) % 50,
    )


@pytest.fixture
def noisy() -> Result:
    return result(np.random.default_rng(0).random(400))


def test_the_interval_has_the_width_of_the_mean_s_standard_error() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 2000)
    low, high = interval(bootstrap_means(values[:, None])[:, 0])
    error = values.std() / np.sqrt(2000)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng, covered = np.random.default_rng(2), 0
    for _ in range(200):
        low, high = interval(bootstrap_means(rng.exponential(1.0, (150, 1)), samples=300)[:, 0])
        covered += low <= 1.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_draws_repeat_and_follow_the_seed() -> None:
    values = np.random.default_rng(0).random((50, 2))
    np.testing.assert_array_equal(bootstrap_means(values), bootstrap_means(values))
    assert (bootstrap_means(values, seed=1) != bootstrap_means(values)).any()


def test_a_small_steady_gain_is_seen_where_single_intervals_overlap(noisy: Result) -> None:
    better = replace(noisy, values={"NDCG@10": noisy.values["NDCG@10"] + 0.002})
    assert better.intervals["NDCG@10"].low < noisy.intervals["NDCG@10"].high
    found = compare(better, noisy, "NDCG@10")
    assert found.verdict == "better"
    assert found.difference == pytest.approx(0.002)
    assert (found.better, found.worse) == (400, 0)
    assert compare(noisy, better, "NDCG@10").verdict == "worse"


def test_noise_is_undecided(noisy: Result) -> None:
    shuffled = replace(noisy, values={"NDCG@10": noisy.values["NDCG@10"][::-1]})
    assert compare(shuffled, noisy, "NDCG@10").verdict == "undecided"


def test_unlike_results_are_not_compared(noisy: Result) -> None:
    unlike = {
        "protocols": replace(noisy, protocol="loo-paper/…"),
        "stages": replace(noisy, stage="validation"),
        "datasets": replace(noisy, dataset="e" * 64),
        "users": replace(noisy, user=noisy.user + 1),
    }
    for what, other in unlike.items():
        with pytest.raises(ProtocolError, match=what):
            compare(noisy, other, "NDCG@10")
    with pytest.raises(ProtocolError, match=r"No metric 'MAP'.*NDCG@10"):
        compare(noisy, noisy, "MAP")


def test_runs_are_averaged_user_by_user(noisy: Result) -> None:
    flat = replace(noisy, values={"NDCG@10": np.full(400, 0.5)}, coverage={"Coverage@10": 0.7})
    mean = average([noisy, flat])
    np.testing.assert_allclose(mean.values["NDCG@10"], (noisy.values["NDCG@10"] + 0.5) / 2)
    assert mean.runs == 2
    assert mean.coverage == {"Coverage@10": pytest.approx(0.6)}


def test_every_run_counts_once_in_a_mean_of_means(noisy: Result) -> None:
    runs = [
        replace(noisy, values={"NDCG@10": np.full(400, value)}, coverage={"Coverage@10": value})
        for value in (0.0, 0.3, 0.9)
    ]
    stepwise, at_once = average([average(runs[:2]), runs[2]]), average(runs)
    assert stepwise.runs == at_once.runs == 3
    np.testing.assert_allclose(stepwise.values["NDCG@10"], 0.4)
    np.testing.assert_allclose(at_once.values["NDCG@10"], 0.4)
    assert stepwise.coverage == {"Coverage@10": pytest.approx(0.4)}


def test_saved_and_loaded_results_are_equal(noisy: Result, tmp_path: Path) -> None:
    noisy.save(tmp_path / "hstu.json")
    loaded = Result.load(tmp_path / "hstu.json")
    assert loaded.summary() == noisy.summary()
    np.testing.assert_array_equal(loaded.values["NDCG@10"], noisy.values["NDCG@10"])
    np.testing.assert_array_equal(loaded.lists, noisy.lists)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hstu.json", "hstu.npz"]
    assert json.loads((tmp_path / "hstu.json").read_text())["metrics"]["NDCG@10"]["mean"] == noisy.means["NDCG@10"]


def test_a_torn_or_foreign_file_is_named(noisy: Result, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    noisy.save(path)
    arrays = (tmp_path / "r.npz").read_bytes()
    (tmp_path / "r.npz").write_bytes(arrays[:-1] + b"x")
    with pytest.raises(ProtocolError, match=r"r\.json.*checksum"):
        Result.load(path)
    path.write_text(json.dumps({"format": 99}))
    with pytest.raises(ProtocolError, match="format 99"):
        Result.load(path)
    (tmp_path / "r.npz").unlink()
    with pytest.raises(ProtocolError, match="no saved result"):
        Result.load(path)


def test_a_place_that_cannot_be_written_leaves_nothing(noisy: Result, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="missing"):
        noisy.save(tmp_path / "missing" / "r.json")
    assert list(tmp_path.iterdir()) == []


def test_a_single_user_tells_of_no_other() -> None:
    assert np.isnan(interval(bootstrap_means(np.ones((1, 2)))[:, 0])).all()
    drawn = resampled(np.array([0.2, 0.7]), np.array([False, True]), np.zeros(2, dtype=np.int64))
    assert all(np.isnan(values).all() for values in drawn.values())
