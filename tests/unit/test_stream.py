"""A stream learns a period, then is asked for the next: every training event is a target once, in the order of time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import facta
from facta.data.batches.spec import InputSpec
from facta.data.batches.stream import HOUR_MS, StreamBatches
from facta.data.split.splits import temporal, training_events
from facta.eval.predict import predict_rows
from facta.eval.predictions import Predictions
from facta.layers.items import ItemTower
from facta.models.recommender import Recommender
from facta.recipes import fit
from facta.training import journal

# the log declares no features of items
PLAIN = [f"model.embedding.{change}" for change in ("features=false", "id_width=null", "hidden_ids=0")]
SPEC = InputSpec(fields=("liked",), targets_are_inputs=True)
STREAM = [
    "model.feedback.fields=null",
    "model.width=8",
    "model.encoder.heads=1",
    "model.encoder.layers=1",
    "training.hours=8",
    "training.epochs=1",
    "training.keep=last",
    "training.patience=null",
    "training.metric=NE(liked)",
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    rng = np.random.default_rng(3)
    events = 600
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(0, 12, events),
            "item_id": rng.integers(0, 20, events),
            "timestamp": 1_700_000_000_000 + rng.integers(0, 100 * HOUR_MS, events),
            "liked": rng.random(events) < 0.4,
        }
    ).filter(~pl.col("timestamp").is_between(1_700_000_000_000 + 40 * HOUR_MS, 1_700_000_000_000 + 64 * HOUR_MS))
    return facta.prepare(frame, tmp_path_factory.mktemp("stream") / "log")


def targets(log: facta.Dataset, batches: StreamBatches, epoch: int) -> list[tuple[int, int]]:
    """(time, item) of the targets of a period."""
    found = []
    for step in range(batches.steps(epoch)):
        events = batches.batch(epoch, step).targets.events
        assert events.time is not None
        found += list(zip(events.time.tolist(), events.item.tolist(), strict=True))
    return found


def test_every_training_event_is_a_target_once_and_in_its_own_period(log: facta.Dataset) -> None:
    assert log.timestamp is not None
    cut = 1_700_000_000_000 + 80 * HOUR_MS
    split = temporal(log, test_from=cut + 10 * HOUR_MS, validation_from=cut)
    batches = StreamBatches(log, split, hours=8, window=10, batch_size=3, spec=SPEC)
    periods = [targets(log, batches, epoch) for epoch in range(batches.periods)]
    assert [] in periods  # a day on which nothing happened
    times = np.sort(log.timestamp[log.timestamp < cut])
    assert sorted(time for period in periods for time, _ in period) == times.tolist()
    for number, period in enumerate(periods):
        assert {(time - times[0]) // (8 * HOUR_MS) for time, _ in period} <= {number}


def test_what_is_asked_is_the_next_period_and_last_what_was_held_out(log: facta.Dataset) -> None:
    assert log.timestamp is not None
    cut = 1_700_000_000_000 + 83 * HOUR_MS
    split = temporal(log, test_from=cut + 10 * HOUR_MS, validation_from=cut)
    batches = StreamBatches(log, split, hours=8, window=10, batch_size=3, spec=SPEC)
    for epoch in range(batches.periods):
        rows = batches.asked(epoch, 10)
        assert int((rows.last - rows.first).sum()) == len(targets(log, batches, epoch))
    held = batches.asked(batches.periods, 10)
    assert int((held.last - held.first).sum()) == int(
        ((log.timestamp >= cut) & (log.timestamp < cut + 10 * HOUR_MS)).sum()
    )


def test_a_streaming_run_tells_how_good_it_was_on_each_next_period(log: facta.Dataset, tmp_path: Path) -> None:
    facta.train(log, "simulator/gr-ranking", tmp_path / "out", [*STREAM, *PLAIN])
    lines = journal.read(facta.run_folder(tmp_path / "out"), "validation")
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 7, 8, 9, 10, 11]  # behind 5 and 6 comes the silent day
    assert all(line["NE(liked)"] > 0 for line in lines)
    epochs = journal.read(facta.run_folder(tmp_path / "out"), "epoch")
    assert [line["epoch"] for line in epochs if "loss" not in line] == [6, 7], "a silent period has no loss"


def test_an_item_is_new_until_a_period_with_it_was_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three items come in every 40 hours; a question about the next period knows those of the periods behind it."""
    rng, events = np.random.default_rng(4), 400
    hour = rng.integers(0, 100, events)
    item = rng.integers(0, 3, events) + 3 * (hour // 40)
    facts = {"user_id": rng.integers(0, 9, events), "item_id": item, "liked": rng.random(events) < 0.4}
    log = pl.DataFrame({**facts, "timestamp": 1_700_000_000_000 + hour * HOUR_MS})
    items = pl.DataFrame({"item_id": range(9), "kind": ["a", "b", "c"] * 3})
    data = facta.prepare(log, tmp_path / "d", items=items, item_fields={"kind": "categorical"})
    known: dict[int, list[int]] = {}

    def noted(model: Recommender, *asked: Any) -> Predictions:
        assert isinstance(model.embedder.item, ItemTower)
        known[int(asked[2].partition("=")[2])] = torch.nonzero(model.embedder.item.trained).squeeze(1).tolist()
        return predict_rows(model, *asked)

    monkeypatch.setattr(fit, "predict_rows", noted)
    facta.train(data, "simulator/gr-ranking", tmp_path / "out", STREAM)
    places = training_events(data, facta.find_recipe("simulator/gr-ranking").protocol.cut(data))
    assert data.timestamp is not None
    period = (data.timestamp[places] - data.timestamp.min()) // (8 * HOUR_MS)
    assert known == {done: np.unique(data.item[places][period < done]).tolist() for done in known}
    assert [len(known[done]) for done in (1, 5, 6, 10)] == [3, 3, 6, 6]


def test_a_stream_of_several_passes_is_refused(log: facta.Dataset, tmp_path: Path) -> None:
    with pytest.raises(facta.ConfigError, match=r"one pass through the log.*training.epochs=1"):
        facta.train(
            log,
            "simulator/gr-ranking",
            tmp_path / "out",
            [*("training.hours=8", "training.metric=NE(liked)"), *("model.feedback.fields=null", *PLAIN)],
        )
