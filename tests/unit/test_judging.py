"""What an evaluation says of its numbers: whom intervals resample, what a bin holds, which results are no company."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import facta
from facta.cli import tables
from facta.data.split.splits import temporal, temporal_test
from facta.errors import ProtocolError
from facta.eval.bootstrap import Interval
from facta.eval.comparison import Comparison, compare
from facta.eval.evaluation import evaluate
from facta.eval.experiment import Experiment
from facta.eval.feedback_metrics import BINS, calibration, losses, prediction_metrics, resampled
from facta.eval.predictions import Predictions, check_same_events
from facta.eval.protocol import ProtocolConfig
from facta.eval.result import Result, average
from facta.eval.unseen import check_unseen
from tests.rankers import MINUTE, T0, Seeded, dataset_of

DAY = 86_400_000


def predicted(times: int = 1, users: int = 40, seed: int = 0) -> Predictions:
    """Ten events of each user, all of them `times` times."""
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 3, users * 10)
    y = (rng.random(users * 10) < p).astype(np.int8)
    user = np.repeat(np.arange(users), 10 * times)
    return Predictions(
        protocol="feedback/x",
        stage="test",
        dataset="c0ffee",
        user=user,
        place=np.tile(np.arange(10 * times), users),
        time=20_000 * DAY + np.arange(len(user)) * 1000,
        p={"click": np.repeat(p.reshape(users, 10), times, axis=0).reshape(-1)},
        y={"click": np.repeat(y.reshape(users, 10), times, axis=0).reshape(-1)},
    )


def test_intervals_of_feedback_resample_users_not_events() -> None:
    """Sixteen copies of each event make nobody surer: there are as many people as before."""
    few, many = predicted(), predicted(times=16)
    for name in ("NE", "LogLoss", "AUC", "GAUC"):
        ours, theirs = few.intervals[f"{name}(click)"], many.intervals[f"{name}(click)"]
        assert ours.low == pytest.approx(theirs.low) and ours.high == pytest.approx(theirs.high)
        assert theirs.high - theirs.low > 0.005
    p, y, user = few.of("click")
    by_event = resampled(p, y, np.arange(len(p)))
    assert not np.array_equal(by_event["NE"], resampled(p, y, user)["NE"])


def test_bins_of_calibration_are_twenty() -> None:
    """In turn .1 too high and .1 too low from bin to bin: half as many bins would see nothing of it."""
    level = (np.arange(20) + 0.5) / 20
    p = np.repeat(level, 1000)
    observed = level + np.where(np.arange(20) % 2, 0.1, -0.1) * np.minimum(level, 1 - level)
    y = np.concatenate([np.arange(1000) < round(1000 * share) for share in observed])
    expected = np.mean(0.1 * np.minimum(level, 1 - level))
    assert prediction_metrics(p, y, np.zeros(len(p), dtype=np.int64))["ECE"] == pytest.approx(expected, abs=1e-3)
    assert BINS == 20 and len(calibration(p, y).size) == 20 and set(calibration(p, y).size) == {1000}


@pytest.mark.parametrize("p", [1e-6, 1e-5, 1e-3, 0.005])
def test_a_certain_prediction_is_paid_for_in_full(p: float) -> None:
    wrong = losses(np.array([p, 1 - p]), np.array([True, False]))
    right = losses(np.array([p, 1 - p]), np.array([False, True]))
    assert wrong == pytest.approx(-np.log(p), rel=1e-6) and right == pytest.approx(-np.log1p(-p), rel=1e-6)


BASE = ProtocolConfig(split="temporal", train_end="50%", validation_end="75%")


@pytest.mark.parametrize(
    "asked",
    [
        BASE.change(train_end="60%"),
        BASE.change(train_end="40%"),
        BASE.change(validation_end="90%"),
        BASE.change(validation_end="60%"),
        BASE.change(train_end="2020-01-01"),
        BASE.change(targets="buy", refit="yes"),
        ProtocolConfig(),
        ProtocolConfig(split="loo-paper"),
    ],
    ids=lambda protocol: protocol.id[:60],
)
@pytest.mark.parametrize("stage", ["validation", "test"])
def test_a_model_is_not_asked_under_another_split(asked: ProtocolConfig, stage: str) -> None:
    """Whatever moves a cut can put events that were trained on among those that are asked for."""
    with pytest.raises(ProtocolError, match="trained"):
        check_unseen(BASE, asked, stage)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"mask": "nothing"}, {"rank": "all"}, {"state": "frozen"}, {"targets": "buy"}])
def test_what_moves_no_cut_may_be_asked(change: dict[str, str]) -> None:
    check_unseen(BASE, BASE.change(**change), "test")


def test_targets_move_the_cuts_of_leave_one_out() -> None:
    """The last purchase may lie among the events that were trained on."""
    with pytest.raises(ProtocolError, match="may have seen"):
        check_unseen(ProtocolConfig(), ProtocolConfig(targets="buy"), "test")


def test_other_events_of_the_same_people_are_no_company() -> None:
    one = predicted()
    for other in (
        replace(one, place=one.place + 1),
        replace(one, place=one.place[::-1]),
        replace(one, user=np.roll(one.user, 1)),
        replace(one, part=np.arange(len(one.user)) % 2),
    ):
        with pytest.raises(ProtocolError, match="different events"):
            check_same_events(one, other)
        with pytest.raises(ProtocolError, match="different events"):
            compare(one, other, "NE(click)")
    check_same_events(one, replace(one, p={"click": one.p["click"][::-1]}))


HISTORIES = {
    "a": [(1, 0), (2, 10), (3, 20), (4, 30), (5, 31)],
    "b": [(5, 5), (1, 15), (2, 16), (3, 29)],
    "c": [(4, 1), (5, 40), (1, 45)],
}


def test_a_frozen_validation_is_asked_at_the_beginning_of_its_period(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", HISTORIES)
    begin, end = T0 + 12 * MINUTE, T0 + 28 * MINUTE
    asked = temporal(data, validation_from=begin, test_from=end).validation
    assert asked.time is not None and set(asked.time.tolist()) == {begin}
    users = data.users["user_id"].to_list()
    assert {users[user]: int(seen) for user, seen in zip(asked.user, asked.end, strict=True)} == {"a": 2, "b": 1}
    test = temporal_test(data, test_from=end)
    assert test.time is not None and set(test.time.tolist()) == {end}
    assert {users[user]: int(seen) for user, seen in zip(test.user, test.end, strict=True)} == {"a": 3, "b": 3, "c": 1}


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (ProtocolConfig(), {"a": 4, "b": 3, "c": 2}),
        (
            ProtocolConfig(split="temporal", train_end="1%", validation_end="2020-09-13T12:54:40"),
            {"a": 3.5, "b": 3, "c": 1.5},
        ),
    ],
    ids=["leave one out", "rolling"],
)
def test_a_history_is_as_long_as_what_is_visible(
    tmp_path: Path, protocol: ProtocolConfig, expected: dict[str, float]
) -> None:
    """Events that the request sees, without the one that it asks for; a mean over the requests of a user."""
    data = dataset_of(tmp_path / "d", HISTORIES)
    found = evaluate(Seeded(data.num_items, window=2), Experiment(data, protocol), ks=(1,))
    users = data.users["user_id"].to_list()
    assert {users[user]: length for user, length in zip(found.user, found.history, strict=True)} == expected


@pytest.mark.parametrize(
    ("metric", "lower"),
    [
        (metric, metric in ("NE", "LogLoss", "ECE"))
        for metric in ("NE", "LogLoss", "ECE", "AUC", "GAUC", "NDCG@10", "MRR")
    ],
)
@pytest.mark.parametrize("field", ["", "(click)"])
def test_better_is_lower_of_losses_and_higher_of_all_else(metric: str, lower: bool, field: str) -> None:
    down, up = Interval(-0.2, -0.1), Interval(0.1, 0.2)
    said = {"down": Comparison(metric + field, -0.15, down).verdict, "up": Comparison(metric + field, 0.15, up).verdict}
    assert said == ({"down": "better", "up": "worse"} if lower else {"down": "worse", "up": "better"})
    assert Comparison(metric + field, 0.0, Interval(-0.1, 0.1)).verdict == "undecided"


def ranked(values: np.ndarray, protocol: str = "loo-val/x") -> Result:
    users, lists = np.arange(len(values)), np.zeros((len(values), 1), dtype=np.int32)
    return Result(protocol, "test", "d", 9, len(values), 0.0, {}, users, users * 1.0, {"NDCG@10": values}, lists)


def test_an_average_says_that_its_intervals_are_over_users_and_shows_the_seeds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    people = rng.random(300)
    runs = [ranked(people + shift + 0.01 * rng.standard_normal(300)) for shift in (-0.1, 0.0, 0.1)]
    mean = average(runs)
    means = [run.means["NDCG@10"] for run in runs]
    assert mean.seed_deviation["NDCG@10"] == pytest.approx(np.std(means, ddof=1)) and not runs[0].seed_deviation
    summary = mean.summary()
    assert summary["intervals_over"] == "users" and summary["seed_means"]["NDCG@10"] == pytest.approx(means)
    assert "seed_means" not in runs[0].summary()
    low, high = mean.intervals["NDCG@10"]
    assert high - low < 4 * people.std() / np.sqrt(300) * 1.1  # of users alone: the seeds, .1 apart, are not in it
    mean.save(tmp_path / "mean.json")
    assert Result.load(tmp_path / "mean.json").seed_deviation == pytest.approx(mean.seed_deviation)
    assert average([average(runs[:2]), runs[2]]).seed_deviation == pytest.approx(mean.seed_deviation)
    other = average([ranked(people + shift) for shift in (0.0, 0.2, 0.1)])
    found = compare(mean, other, "NDCG@10")
    spread = np.sqrt((mean.seed_deviation["NDCG@10"] ** 2 + other.seed_deviation["NDCG@10"] ** 2) / 3)
    assert found.seeds == pytest.approx(spread) and f"over users, ±{spread:.4f} over seeds" in str(found)
    assert compare(runs[0], runs[1], "NDCG@10").seeds is None


def test_predictions_know_how_many_events_came_before(tmp_path: Path) -> None:
    """The place of a predicted event is the length of the history before it."""
    rows = [
        {"user_id": user, "item_id": item, "timestamp": T0 + minute * MINUTE, "like": (item + minute) % 2 == 0}
        for user, events in HISTORIES.items()
        for item, minute in events
    ]
    data = facta.prepare(pl.DataFrame(rows), tmp_path / "d", fields={"like": {}})
    protocol = [f"protocol.{key}" for key in ("train_end=2020-09-13T12:36:40", "validation_end=2020-09-13T12:54:40")]
    changes = ["training.epochs=1", "training.patience=null", "training.keep=last", *protocol]
    trained = facta.train(data, "own-log/rates", tmp_path / "a", changes, log=facta.training.log.Log("quiet"))
    found = facta.predict(trained, data)
    users = data.users["user_id"].to_list()
    asked = sorted((users[user], int(place)) for user, place in zip(found.user, found.place, strict=True))
    assert asked == [("a", 3), ("a", 4), ("b", 3), ("c", 1), ("c", 2)]


def test_a_table_shows_the_seeds_beside_the_interval_over_users(capsys: pytest.CaptureFixture[str]) -> None:
    people = np.linspace(0, 1, 50)
    names = ("HR@10", "Recall@10", "NDCG@10", "MRR@10")
    runs = [replace(ranked(people), values=dict.fromkeys(names, people + shift)) for shift in (0.0, 0.1, 0.2)]
    mean = average(runs)
    tables.results([("three", mean.summary()), ("one", runs[0].summary())])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert said.count("±0.1000") == 3 and "interval over users" in said
