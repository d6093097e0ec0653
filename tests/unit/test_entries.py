"""Facts that change stand between the events of a row, where they became known, and never earlier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import facta
from facta.data.batches.dataset_requests import request_batch
from facta.data.batches.spec import InputSpec
from facta.data.batches.stochastic_length import StochasticLengthConfig
from facta.data.batches.training import TrainingBatches
from facta.data.split.splits import leave_one_out_test, temporal

T = 1_700_000_000_000
EVENTS = pl.DataFrame(
    {
        "user_id": ["a"] * 4 + ["b"] * 2,
        "item_id": [1, 2, 3, 4, 1, 2],
        "timestamp": [T + 1000 * second for second in (10, 20, 20, 40, 10, 30)],
        "liked": [True, False, True, True, False, True],
    }
)
CHANGES = pl.DataFrame(
    {
        "user_id": ["a", "a", "a", "a", "a", "b", "b"],
        "timestamp": [T + 1000 * second for second in (1, 5, 7, 20, 39, 30, 50)],
        "field": ["plan", "plan", "city", "plan", "city", "plan", "plan"],
        "value": ["free", "paid", "Rome", "free", "Oslo", "paid", "free"],
    }
)
SPEC = InputSpec(fields=("liked",), series=True, targets_are_inputs=True)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    fields = {"plan": "categorical", "city": "categorical"}
    return facta.prepare(EVENTS, tmp_path_factory.mktemp("log") / "log", series=CHANGES, series_fields=fields)


def shown(log: facta.Dataset, batch: facta.types.SequenceBatch, row: int) -> list[tuple[str, str, int]]:
    """(field, value, input events before it) of a row's entries."""
    series = batch.series
    assert series is not None
    fields = log.manifest.series_fields
    places = range(int(series.offsets[row]), int(series.offsets[row + 1]))
    found = [(fields[int(series.field[at])], int(series.value[at]), int(series.after[at])) for at in places]
    return [(field.name, (field.categories or ())[value - 1], after) for field, value, after in found]


def test_entries_stand_behind_the_events_that_came_no_later(log: facta.Dataset) -> None:
    split = temporal(log, test_from=T + 10**6)
    batch = TrainingBatches(log, split, window=10, batch_size=10, spec=SPEC).batch(0, 0)
    items = batch.events.item[batch.offsets[:-1]].tolist()
    rows = {int(length): row for row, length in enumerate(np.diff(batch.offsets))}
    assert len(items) == 2
    assert shown(log, batch, rows[4]) == [
        ("plan", "paid", 0),  # what held when the row began; the plan before it is history
        ("city", "Rome", 0),
        ("plan", "free", 3),  # at the instant of two events: behind both
        ("city", "Oslo", 3),
    ]
    assert shown(log, batch, rows[2]) == []  # a change at the instant of the last target comes after it


def test_a_request_knows_what_changed_before_it(log: facta.Dataset) -> None:
    requests = leave_one_out_test(log)
    batch = request_batch(log, requests, slice(None), 2, InputSpec(series=True))
    first = requests.user.tolist().index(0)
    assert shown(log, batch, first) == [
        ("plan", "paid", 0),
        ("city", "Rome", 0),
        ("plan", "free", 2),
        ("city", "Oslo", 2),
    ]


def test_shortened_histories_count_the_events_that_stay(log: facta.Dataset) -> None:
    split, short = temporal(log, test_from=T + 10**6), StochasticLengthConfig(alpha=1.01, subsequence="recent")
    for seed in range(8):
        batches = TrainingBatches(log, split, window=4, batch_size=10, seed=seed, spec=SPEC, stochastic_length=short)
        batch = batches.batch(0, 0)
        assert batch.series is not None and batch.events.time is not None and batch.series.time is not None
        for row in range(2):
            low, high = batch.offsets[row], batch.offsets[row + 1]
            for at in range(int(batch.series.offsets[row]), int(batch.series.offsets[row + 1])):
                before = int((batch.events.time[low:high] <= batch.series.time[at]).sum())
                assert int(batch.series.after[at]) == before


def test_a_model_reads_them(log: facta.Dataset, tmp_path: Path) -> None:
    changes = ["training.epochs=1", "model.feedback.fields=null", "model.width=8", "training.metric=NE(liked)"]
    changes += [f"model.embedding.{change}" for change in ("features=false", "id_width=null", "hidden_ids=0")]
    changes += ['protocol={"split": "loo-val", "train_end": null, "validation_end": null}']
    changes += ["training.patience=null", "training.keep=last"]  # two events are too few to choose by
    artifact = facta.train(log, "simulator/gr-ranking", tmp_path / "out", changes)
    assert artifact.model.inputs.series  # type: ignore[union-attr]
    assert facta.predict(artifact, log).p["liked"].min() > 0
