"""A stream learns a period, then is asked for the next: every training event is a target once, in the order of time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import facta
from facta.data.batches import Wants
from facta.data.splits import temporal
from facta.data.stream import HOUR, StreamBatches
from facta.train import journal

PLAIN = "model.embedding.features=false"  # the log declares no features of items
WANTS = Wants(fields=("liked",), own=True)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    rng = np.random.default_rng(3)
    events = 600
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(0, 12, events),
            "item_id": rng.integers(0, 20, events),
            "timestamp": 1_700_000_000_000 + rng.integers(0, 100 * HOUR, events),
            "liked": rng.random(events) < 0.4,
        }
    ).filter(~pl.col("timestamp").is_between(1_700_000_000_000 + 40 * HOUR, 1_700_000_000_000 + 64 * HOUR))
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
    cut = 1_700_000_000_000 + 80 * HOUR
    split = temporal(log, test_from=cut + 10 * HOUR, validation_from=cut)
    batches = StreamBatches(log, split, hours=8, window=10, batch_size=3, wants=WANTS)
    periods = [targets(log, batches, epoch) for epoch in range(batches.periods)]
    assert [] in periods  # a day on which nothing happened
    times = np.sort(log.timestamp[log.timestamp < cut])
    assert sorted(time for period in periods for time, _ in period) == times.tolist()
    for number, period in enumerate(periods):
        assert {(time - times[0]) // (8 * HOUR) for time, _ in period} <= {number}


def test_what_is_asked_is_the_next_period_and_last_what_was_held_out(log: facta.Dataset) -> None:
    assert log.timestamp is not None
    cut = 1_700_000_000_000 + 83 * HOUR
    split = temporal(log, test_from=cut + 10 * HOUR, validation_from=cut)
    batches = StreamBatches(log, split, hours=8, window=10, batch_size=3, wants=WANTS)
    for epoch in range(batches.periods):
        rows = batches.asked(epoch, 10)
        assert int((rows.last - rows.first).sum()) == len(targets(log, batches, epoch))
    held = batches.asked(batches.periods, 10)
    assert int((held.last - held.first).sum()) == int(
        ((log.timestamp >= cut) & (log.timestamp < cut + 10 * HOUR)).sum()
    )


def test_a_streaming_run_tells_how_good_it_was_on_each_next_period(log: facta.Dataset, tmp_path: Path) -> None:
    changes = [
        "model.feedback.fields=null",
        "model.width=8",
        "model.encoder.heads=1",
        "model.encoder.layers=1",
        PLAIN,
        "training.hours=8",
        "training.epochs=1",
        "training.keep=last",
        "training.patience=null",
        "training.metric=NE(liked)",
    ]
    facta.train(log, "simulator/gr-ranking", tmp_path / "out", changes)
    lines = journal.read(facta.run_folder(tmp_path / "out"), "validation")
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 7, 8, 9, 10, 11]  # behind 5 and 6 comes the silent day
    assert all(line["NE(liked)"] > 0 for line in lines)


def test_a_stream_of_several_passes_is_refused(log: facta.Dataset, tmp_path: Path) -> None:
    with pytest.raises(facta.ConfigError, match=r"once through the log.*training.epochs=1"):
        facta.train(
            log,
            "simulator/gr-ranking",
            tmp_path / "out",
            [*("training.hours=8", "training.metric=NE(liked)"), *("model.feedback.fields=null", PLAIN)],
        )
