"""Predicted feedback of held-out events: which events, what happened, and the slow loop that asks for one at a time."""

from __future__ import annotations

import re
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import facta
from facta import jagged
from facta.data.batches.rows import Rows
from facta.data.batches.spec import InputSpec
from facta.data.batches.training import prediction_batches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.codes import codes
from facta.data.dataset.dataset import Dataset
from facta.encoders.hstu import HSTUConfig
from facta.errors import ProtocolError
from facta.eval.experiment import Experiment
from facta.eval.feedback_metrics import prediction_metrics, resampled, user_auc
from facta.eval.held_out import events_of_test
from facta.eval.predict import predict
from facta.eval.predictions import Predictions, average_predictions, check_same_events, differences, pool
from facta.eval.protocol import ProtocolConfig
from facta.eval.result import Result
from facta.models.recommender import Recommender, RecommenderConfig
from facta.objectives.feedback import FeedbackConfig
from facta.types import SequenceBatch

PROTOCOL = ProtocolConfig(split="temporal", train_end="60%", validation_end="75%", state="rolling")
EARLY = PROTOCOL.change(train_end="1%", validation_end="2%")
SCHEMA = {
    "liked": {"kind": "binary"},
    "rating": {"kind": "ordinal", "positive": ">= 4"},
    "watched": {"kind": "numeric"},
    "surface": "context",
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rng = np.random.default_rng(4)
    count = 400
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(0, 11, count),
            "item_id": rng.integers(0, 25, count),
            "timestamp": 1_700_000_000_000 + rng.integers(0, 90, count) * 3_600_000,  # ties
            "liked": pl.Series(rng.integers(-1, 2, count)).replace(-1, None),
            "rating": rng.integers(1, 6, count),
            "watched": rng.random(count),
            "surface": rng.choice(["feed", "search"], count),
        }
    )
    return facta.prepare(frame, tmp_path_factory.mktemp("log") / "d", fields=SCHEMA)


@pytest.fixture(scope="module", params=["interleaved", "paired", "fused"])
def model(request: pytest.FixtureRequest, log: Dataset) -> Recommender:
    config = RecommenderConfig(
        window=200, width=8, layout=request.param, encoder=HSTUConfig(init_std=0.3), next_item=None,
        feedback=FeedbackConfig(),
    )  # fmt: skip
    return Recommender(config, Catalogue.of(log), seed=2).double()


@pytest.mark.parametrize("stage", ["validation", "test"])
def test_every_held_out_event_once_as_a_slow_loop_would_ask(log: Dataset, model: Recommender, stage: str) -> None:
    """In order: each told its time, context and item and all events before it, also those of its own moment."""
    assert log.timestamp is not None
    found = predict(model, Experiment(log, PROTOCOL), stage=stage)  # type: ignore[arg-type]
    split = PROTOCOL.cut(log)
    low, high = (split.train_end, split.validation_end) if stage == "validation" else (
        split.validation_end, np.diff(log.offsets)
    )  # fmt: skip
    wanted = [(u, p) for u in range(log.num_users) for p in range(low[u], high[u])]
    assert list(zip(found.user.tolist(), found.place.tolist(), strict=True)) == wanted
    event = log.offsets[found.user] + found.place
    np.testing.assert_array_equal(found.time, log.timestamp[event])
    described = {field.name: field for field in log.manifest.fields}
    for name, positives in (("liked", (2,)), ("rating", (4, 5))):
        code = codes(described[name], log.fields[name][event])
        np.testing.assert_array_equal(found.y[name], np.where(code == 0, -1, np.isin(code, positives)))
    assert set(found.p) == {"liked", "rating"}  # nothing says what success of a number is
    model.eval()
    for s, (user, place) in list(enumerate(wanted))[::7]:
        one = np.array([user]), np.array([0]), np.array([place + 1]), np.array([place]), np.array([place + 1])
        ((_, batch),) = prediction_batches(log, Rows(*one), window=model.window, spec=model.inputs)
        assert len(batch.index) == place + 1
        with torch.no_grad():
            scores = model.scores(batch)
        for name in found.p:
            assert found.p[name][s] == pytest.approx(float(scores[name][0]), rel=1e-9)


@pytest.mark.parametrize(("window", "protocol"), [(200, PROTOCOL), (9, PROTOCOL), (9, EARLY)])
def test_a_frozen_state_knows_nothing_after_the_cut(
    log: Dataset, model: Recommender, window: int, protocol: ProtocolConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event as if it were the first after the cut: told so, a rolling state says the same."""
    assert log.timestamp is not None
    monkeypatch.setattr(model, "window", window)
    found, rolling = (
        predict(model, Experiment(log, protocol.change(state="frozen"))),
        predict(model, Experiment(log, protocol)),
    )
    assert found.protocol == rolling.protocol.replace("rolling", "frozen") != rolling.protocol
    for name in ("user", "place", "time"):
        np.testing.assert_array_equal(getattr(found, name), getattr(rolling, name))
    assert not np.allclose(found.p["liked"], rolling.p["liked"], rtol=1e-6)
    first = protocol.cut(log).validation_end
    assert (first == 0).any() == (protocol is EARLY)  # people of whom nothing is known
    model.eval()
    for s, (user, place) in list(enumerate(zip(found.user, found.place, strict=True)))[::7]:
        cut, event = log.offsets[user] + first[user], log.offsets[user] + place
        moved = copy(log)
        moved.fields = {name: _put(column, cut, event) for name, column in log.fields.items()}
        moved.item, moved.timestamp = (_put(column, cut, event) for column in (log.item, log.timestamp))
        end = first[[user]] + 1
        row = Rows(np.array([user]), np.maximum(end - window, 0), end, end - 1, end)
        ((_, batch),) = prediction_batches(moved, row, window=window, spec=model.inputs)
        with torch.no_grad():
            scores = model.scores(batch)
        for name in found.p:
            assert found.p[name][s] == pytest.approx(float(scores[name][0]), rel=1e-9)


def test_batches_of_people_without_events_are_bounded(log: Dataset, model: Recommender) -> None:
    nobody = np.zeros(1000, dtype=np.int64)
    rows = Rows(nobody, nobody, nobody, nobody, nobody + 1)
    sizes = [len(part) for part, _ in prediction_batches(log, rows, window=6, spec=model.inputs, events=50)]
    assert sum(sizes) == 1000 and max(sizes) <= 51


def _put(column: np.ndarray, at: int, value: int) -> np.ndarray:
    """A copy in which one event's value stands at another's place."""
    column = column.copy()
    column[at] = column[value]
    return column


def test_a_frozen_window_holds_the_target_too(log: Dataset) -> None:
    rows = events_of_test(log, PROTOCOL.cut(log), "frozen").rows(log, 6)
    known = PROTOCOL.cut(log).validation_end[rows.user]
    assert np.array_equal(rows.end, known) and np.array_equal(rows.lengths, np.minimum(known, 5))
    assert np.array_equal(rows.last, rows.first + 1)


def test_long_histories_are_read_in_part_and_batches_do_not_matter(log: Dataset, model: Recommender) -> None:
    rows = events_of_test(log, PROTOCOL.cut(log)).rows(log, 6)
    assert (rows.lengths <= 6).all() and len(rows) > log.num_users
    few, many = (
        {
            (int(rows.user[row]), int(rows.first[row])): scores
            for part, batch in prediction_batches(log, rows, window=6, spec=model.inputs, events=events)
            for row, scores in zip(part, _by_row(model, batch), strict=True)
        }
        for events in (10, 10_000)
    )
    assert few.keys() == many.keys() and len(few) == len(rows)
    for name in few:
        torch.testing.assert_close(few[name], many[name], rtol=0, atol=1e-12)


def _by_row(model: Recommender, batch: SequenceBatch) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return model.eval().scores(batch)["liked"].split(jagged.lengths(batch.targets.offsets).tolist())


class Seer:
    """Says what happened, blurred: [S] of the codes that it should not be shown, had it to learn them."""

    window = 8
    inputs = InputSpec(("liked", "rating"), targets_are_inputs=True)

    def __init__(self, blur: float) -> None:
        self.blur = blur

    def scores(self, batch: SequenceBatch) -> dict[str, torch.Tensor]:
        events = batch.targets.events
        noise = (events.item % 7 - 3).double() * self.blur
        right = {"liked": events.fields["liked"] == 2, "rating": events.fields["rating"] >= 4}
        return {name: torch.sigmoid(torch.where(y, 2.0, -2.0) + noise) for name, y in right.items()}


def test_numbers_are_those_of_the_events_that_define_a_field(log: Dataset) -> None:
    found = predict(Seer(0.5), Experiment(log, PROTOCOL))
    p, y, user = found.of("liked")
    assert len(p) == int((found.y["liked"] >= 0).sum()) < len(found.user)
    assert found.means["NE(liked)"] == prediction_metrics(p, y, user)["NE"]
    assert found.means["NE(rating)"] < 0.6
    low, high = found.intervals["NE(liked)"]
    assert low < found.means["NE(liked)"] < high
    assert "ECE(liked)" not in found.intervals
    half = found.only(found.place % 2 == 0)
    assert len(half.user) == int((found.place % 2 == 0).sum()) and half.means["NE(liked)"] > 0
    summary = found.summary()
    assert summary["users"] == len(np.unique(found.user)) and summary["requests"] == len(found.user)
    assert summary["base_rates"]["liked"] == pytest.approx(float(y.mean()))


def test_runs_are_compared_in_pairs_and_averaged(log: Dataset) -> None:
    sharp, dull = predict(Seer(0.1), Experiment(log, PROTOCOL)), predict(Seer(1.0), Experiment(log, PROTOCOL))
    moved, (low, high) = differences([sharp], [dull], "rating")["NE"]
    assert moved == pytest.approx(sharp.means["NE(rating)"] - dull.means["NE(rating)"])
    assert low <= moved <= high < 0
    mean = average_predictions([sharp, dull])
    np.testing.assert_allclose(mean.p["liked"], (sharp.p["liked"] + dull.p["liked"]) / 2)
    assert mean.runs == 2


def test_predictions_of_other_events_or_under_other_terms_are_no_company(log: Dataset) -> None:
    one = predict(Seer(1.0), Experiment(log, PROTOCOL))
    others = {
        "different events": one.only(one.place % 2 == 0),
        "different protocols, 'feedback/.*' and 'mine'": replace(one, protocol="mine"),
        "different stages, 'test' and 'validation'": replace(one, stage="validation"),
        "different datasets": replace(one, dataset="c0ffee"),
    }
    for sentence, other in others.items():
        for check in (check_same_events, lambda a, b: average_predictions([a, b])):
            with pytest.raises(ProtocolError, match=sentence):
                check(one, other)


def test_what_cannot_be_predicted_is_refused(log: Dataset) -> None:
    with pytest.raises(ProtocolError, match="has ties in order"):
        predict(Seer(1.0), Experiment(log, PROTOCOL.change(ties="blind")))
    short = ProtocolConfig(split="loo-paper")
    with pytest.raises(ProtocolError, match="holds no validation event out"):
        predict(Seer(1.0), Experiment(log, short), stage="validation")


def test_a_field_that_no_event_defines_has_no_numbers(log: Dataset) -> None:
    found = predict(Seer(1.0), Experiment(log, PROTOCOL))
    unsaid = Predictions(**{**vars_of(found), "y": found.y | {"liked": np.full_like(found.y["liked"], -1)}})
    assert np.isnan(unsaid.means["NE(liked)"]) and np.isnan(unsaid.means["AUC(liked)"])
    assert unsaid.means["NE(rating)"] == found.means["NE(rating)"]
    assert unsaid.summary()["base_rates"] == {**found.base_rates, "liked": None}
    values = unsaid.summary()["metrics"]
    assert values["NE(liked)"] == {"mean": None, "low": None, "high": None}


def vars_of(found: Predictions) -> dict[str, object]:
    return {name: getattr(found, name) for name in ("protocol", "stage", "dataset", "user", "place", "time", "p", "y")}


@pytest.mark.parametrize("timed", [True, False])
def test_what_is_saved_can_be_read(log: Dataset, tmp_path: Path, timed: bool) -> None:
    found = average_predictions([predict(Seer(blur), Experiment(log, PROTOCOL)) for blur in (0.5, 1.0)])
    found = found if timed else replace(found, time=None)
    found.save(tmp_path / "a.json")
    loaded = Predictions.load(tmp_path / "a.json")
    assert loaded.summary() == found.summary() and loaded.runs == 2
    assert list(loaded.p) == list(loaded.y) == list(found.p)
    for name, values in vars_of(found).items():
        np.testing.assert_equal(getattr(loaded, name), values)
    assert facta.compare(loaded, found, "NE(liked)").interval == (0, 0)


def test_what_is_torn_or_something_else_is_not_read(log: Dataset, tmp_path: Path) -> None:
    path, arrays = tmp_path / "a.json", tmp_path / "a.npz"
    predict(Seer(1.0), Experiment(log, PROTOCOL)).save(path)
    with pytest.raises(ProtocolError, match=r"a\.json' is no saved result"):
        Result.load(path)
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"x")
    with pytest.raises(ProtocolError, match=r"a\.json.*checksum"):
        Predictions.load(path)
    for text, sentence in (('{"format": 99}', "format 99"), ("[]", "no file of saved predictions")):
        path.write_text(text)
        with pytest.raises(ProtocolError, match=sentence):
            Predictions.load(path)
    arrays.unlink()
    with pytest.raises(ProtocolError, match=r"with its \.npz beside"):
        Predictions.load(path)


def test_predictions_are_compared_as_results_are(log: Dataset) -> None:
    sharp, dull = predict(Seer(0.1), Experiment(log, PROTOCOL)), predict(Seer(1.0), Experiment(log, PROTOCOL))
    found = facta.compare(sharp, dull, "NE(rating)")
    assert (found.difference, found.interval) == differences([sharp], [dull], "rating")["NE"]
    assert found.verdict == "better" and found.better is None
    assert str(found).startswith("NE(rating) -0.") and str(found).endswith("]: better")
    assert facta.compare(dull, sharp, "AUC(liked)").difference == dull.means["AUC(liked)"] - sharp.means["AUC(liked)"]
    for metric in ("NE", "NE(clicked)", "ECE(liked)", "NDCG@10"):
        with pytest.raises(ProtocolError, match=re.escape(f"No metric '{metric}'") + r".*GAUC\(rating\)"):
            facta.compare(sharp, dull, metric)
    with pytest.raises(ProtocolError, match="different stages"):
        facta.compare(sharp, predict(Seer(1.0), Experiment(log, PROTOCOL), stage="validation"), "NE(liked)")
    none, lists = np.zeros(1), np.zeros((1, 1), dtype=np.int32)
    ranking = Result("loo-val", "test", sharp.dataset, 1, 1, 0.0, {}, none.astype(np.int64), none, {}, lists)
    with pytest.raises(ProtocolError, match="ranking and predictions"):
        facta.compare(sharp, ranking, "NE(liked)")  # type: ignore[type-var]


def test_pooled_gauc_orders_what_one_model_says(log: Dataset, tmp_path: Path) -> None:
    """Two halves of which one calls everything likelier: each orders as before, and together they order nothing."""
    whole = predict(Seer(1.0), Experiment(log, PROTOCOL))
    low, high = (whole.only(whole.place % 2 == half) for half in (0, 1))
    high = replace(high, p={name: 1 - 0.01 * (1 - p) for name, p in high.p.items()})
    both = pool([low, high], "both")
    parts = [prediction_metrics(*one.of("liked")) for one in (low, high)]
    ranked = [one.of("liked") for one in (low, high)]
    weights = [sum(user_auc(*one).weight) for one in ranked]
    expected = np.average([one["GAUC"] for one in parts], weights=weights)
    assert both.means["GAUC(liked)"] == pytest.approx(expected, rel=1e-12)
    assert prediction_metrics(*both.of("liked"))["GAUC"] != pytest.approx(expected, abs=0.01)
    bounds = both.intervals["GAUC(liked)"]
    assert bounds.low < expected < bounds.high
    both.save(tmp_path / "both.json")
    assert Predictions.load(tmp_path / "both.json").means == both.means
    with pytest.raises(ProtocolError, match="pooled already"):
        pool([both], "again")
    with pytest.raises(ProtocolError, match="different events"):
        check_same_events(both, replace(both, part=None))
    assert both.only(both.part == 1).means["GAUC(liked)"] == pytest.approx(parts[1]["GAUC"], rel=1e-12)  # type: ignore[arg-type]


def test_resampled_auc_is_that_of_the_drawn_users() -> None:
    """Against repeating every drawn user's predictions and counting pairs anew."""
    from facta.eval.bootstrap import SEED, resamples

    rng = np.random.default_rng(0)
    user = rng.integers(0, 12, 150)
    p, y = rng.integers(0, 9, 150) / 9, rng.random(150) < 0.4  # many ties
    found = resampled(p, y, user, samples=20)
    for sample, times in enumerate(resamples(12, 20, SEED)):
        again = np.repeat(np.arange(150), times.astype(int)[user])
        slow = prediction_metrics(p[again], y[again], user[again])
        assert found["AUC"][sample] == pytest.approx(slow["AUC"], rel=1e-12)
        assert found["NE"][sample] == pytest.approx(slow["NE"], rel=1e-9)
        assert found["LogLoss"][sample] == pytest.approx(slow["LogLoss"], rel=1e-9)


def test_the_split_tells_where_validation_ends(log: Dataset) -> None:
    assert log.timestamp is not None
    split, length = PROTOCOL.cut(log), np.diff(log.offsets)
    assert (split.train_end <= split.validation_end).all() and (split.validation_end <= length).all()
    for user in range(log.num_users):
        times = log.timestamp[log.offsets[user] : log.offsets[user + 1]]
        assert (times[: split.validation_end[user]] < times[split.validation_end[user] :].min(initial=2**62)).all()
    one = ProtocolConfig(split="loo-val").cut(log)
    np.testing.assert_array_equal(one.validation_end, length - (length >= 2))
