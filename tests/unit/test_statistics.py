"""What models take from training events: what a slow loop finds in them, and nothing of what is held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import facta
from facta.data.batches.stream import StreamBatches
from facta.data.dataset.dataset import Dataset
from facta.data.split import statistics as module
from facta.data.split.splits import Split, leave_one_out, temporal
from facta.data.split.statistics import Statistics
from facta.eval.experiment import Experiment
from facta.training.log import Log

HOUR = 3_600_000
T0 = 1_700_000_000_000
QUIET = Log("quiet")
SHORT = ["training.epochs=1", "training.patience=null", "training.keep=last"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Thirty people; some of them come behind the cut, and have no training event."""
    rng, events = np.random.default_rng(7), 300
    frame = pl.DataFrame(
        {
            "user_id": np.sort(rng.integers(0, 30, events)),
            "item_id": rng.integers(0, 20, events),
            "timestamp": T0 + rng.integers(0, 90, events) * HOUR + np.sort(rng.integers(0, 30, events)) * HOUR // 2,
            "buy": rng.random(events) < 0.3,
        }
    )
    frame = frame.filter((pl.col("user_id") > 3) | (pl.col("timestamp") > T0 + 85 * HOUR))
    return facta.prepare(frame, tmp_path_factory.mktemp("statistics") / "log", fields={"buy": {}})


def looked_up(log: Dataset, split: Split, positive: str | None) -> list[list[tuple[int, int]]]:
    """Of each user, (item, time) of the training events."""
    assert log.timestamp is not None
    found = []
    for user, start in enumerate(log.offsets[:-1]):
        places = range(start, start + split.train_end[user])
        kept = [place for place in places if positive is None or log.fields[positive][place] == 1]
        found.append([(int(log.item[place]), int(log.timestamp[place])) for place in kept])
    return found


@pytest.mark.parametrize("positive", [None, "buy"])
@pytest.mark.parametrize("kind", ["leave one out", "temporal", "refit", "stream"])
def test_statistics_are_of_the_training_events_and_no_others(log: Dataset, kind: str, positive: str | None) -> None:
    cut = temporal(log, validation_from=T0 + 60 * HOUR, test_from=T0 + 80 * HOUR)
    stream = StreamBatches(log, cut, hours=20, window=5, batch_size=4)
    splits = {"leave one out": leave_one_out(log), "temporal": cut, "refit": cut.refit, "stream": stream.learned(1)}
    split = splits[kind]
    expected = looked_up(log, split, positive)
    assert 0 < sum(map(len, expected)) < log.num_events
    assert kind == "leave one out" or [] in expected
    found = Statistics(log, split)
    events = found.events(positive)
    assert events.time is not None
    for user, wanted in enumerate(expected):
        part = slice(events.offsets[user], events.offsets[user + 1])
        assert list(zip(events.item[part].tolist(), events.time[part].tolist(), strict=True)) == wanted
    assert (found.users, found.items) == (log.num_users, log.num_items)
    every = [item for one in expected for item, _ in one]
    assert found.counts_of(positive).tolist() == np.bincount(every, minlength=log.num_items).tolist()
    pairs = sorted({(user, item) for user, one in enumerate(expected) for item, _ in one})
    assert list(zip(*(part.tolist() for part in events.met(log.num_items)), strict=True)) == pairs


def test_events_of_a_log_without_times_have_none(log: Dataset, tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": [1, 1, 1, 2, 2], "item_id": [5, 6, 5, 6, 5]})
    timeless = facta.prepare(frame, tmp_path / "d")
    events = Statistics(timeless, leave_one_out(timeless)).events()
    assert events.time is None and events.offsets.tolist() == [0, 1, 2]


@pytest.mark.parametrize("refit", ["no", "yes"])
def test_a_training_cuts_and_counts_once(
    log: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refit: str
) -> None:
    """Trainer, popularity, validation and the artifact share the counts; a second training has its own."""
    asked: list[str] = []

    def spied(name: str, function: Any) -> Any:
        def spy(*given: Any) -> Any:
            asked.append(name)
            return function(*given)

        return spy

    monkeypatch.setattr(module, "training_events", spied("count", module.training_events))
    monkeypatch.setattr(facta.ProtocolConfig, "cut", spied("cut", facta.ProtocolConfig.cut))
    changes = ["protocol.split=loo-val", f"protocol.refit={refit}"]
    facta.train(log, "debug/hstu", tmp_path / "a", [*SHORT, *changes], log=QUIET)
    # with refit=yes, the first training is measured under another protocol
    assert sorted(asked) == (["count", "cut"] if refit == "no" else ["count", "count", "cut", "cut"])


def test_a_stage_that_does_not_exist_is_refused_for_feedback_too(log: Dataset, tmp_path: Path) -> None:
    artifact = facta.train(log, "own-log/gr-ranking", tmp_path / "a", SHORT, log=QUIET)
    with pytest.raises(facta.ConfigError, match="Found the stage 'val'; expected one of: validation, test"):
        facta.predict(artifact, log, stage="val")  # type: ignore[arg-type]
    with pytest.raises(facta.ConfigError, match="Found the stage"):
        Experiment(log, facta.ProtocolConfig()).held_out("val")  # type: ignore[arg-type]
