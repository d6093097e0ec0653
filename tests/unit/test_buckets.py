"""Boundaries that are quantiles are those of the training part; an artifact reads every dataset with its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import facta
from facta.data.batches.spec import InputSpec
from facta.data.batches.stored import StoredHistories
from facta.data.batches.training import TrainingBatches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.codes import codes, quantiles
from facta.data.dataset.dataset import Dataset
from facta.data.split.buckets import as_read_by, of_training
from facta.data.split.splits import Split, leave_one_out, temporal, training_events
from facta.infer.history import History, encoded
from facta.infer.history_of import history_of
from facta.training.log import Log

T0, HOUR, USERS, ITEMS, EVENTS = 1_600_000_000_000, 3_600_000, 40, 30, 12
CUT = T0 + 8 * HOUR
SPEC = InputSpec(fields=("seconds", "price"), users=("age",), series=True, targets_are_inputs=True)


def log(place: Path, late: float, *, declared: tuple[float, ...] | None = None) -> Dataset:
    """Numbers of events, items, users and changing facts; those from the cut on are multiplied by `late`. Item 29 and
    user 39 have no event before the cut."""
    rng = np.random.default_rng(0)
    rows = [
        (
            user,
            int(rng.integers(0, ITEMS - 1)),
            T0 + HOUR * hour + user,
            float(rng.gamma(2, 30)),
            int(rng.integers(1, 500)),
        )
        for user in range(USERS)
        for hour in range(EVENTS)
        if user < USERS - 1 or hour >= 8
    ] + [(3, ITEMS - 1, CUT + 7 * HOUR, 40.0, 9)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "seconds", "price"], orient="row")
    after = pl.col("timestamp") >= CUT
    frame = frame.with_columns(
        seconds=pl.when(after).then(pl.col("seconds") * late).otherwise("seconds"),
        price=pl.when(after).then((pl.col("price") * late).cast(pl.Int64)).otherwise("price"),
    )
    items = pl.DataFrame({"item_id": range(ITEMS), "length": rng.gamma(3, 50, ITEMS)})
    users = pl.DataFrame({"user_id": range(USERS), "age": rng.integers(16, 90, USERS)})
    changes = [(u, T0 + hour * HOUR, "level", float(rng.gamma(2, 5)) * (late if hour >= 8 else 1))
               for u in range(USERS) for hour in (1, 3, 5, 9)]  # fmt: skip
    fields: dict[str, object] = {"seconds": {"positive": ">= 60", "boundaries": declared}, "price": "context"}
    return facta.prepare(
        frame,
        place,
        items=items.with_columns(
            length=pl.when(pl.col("item_id") == ITEMS - 1).then(100 * late - 90).otherwise("length")
        ),
        users=users.with_columns(age=pl.when(pl.col("user_id") == USERS - 1).then(50 * late - 40).otherwise("age")),
        series=pl.DataFrame(changes, schema=["user_id", "timestamp", "field", "value"], orient="row"),
        fields=fields,
        item_fields=["length"],
        user_fields=["age"],
        series_fields=["level"],
    )


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    place = tmp_path_factory.mktemp("logs")
    return log(place / "a", 1.0), log(place / "b", 7.0)


def trained(data: Dataset) -> tuple[Dataset, Split]:
    split = temporal(data, test_from=CUT)
    return of_training(data, split), split


def test_values_of_the_test_period_change_no_boundary_and_no_training_batch(logs: tuple[Dataset, Dataset]) -> None:
    views, batches = [], []
    for data in logs:
        view, split = trained(data)
        views.append([one.model_dump() for one in (*view.manifest.fields, *view.manifest.others)])
        made = TrainingBatches(view, split, window=20, batch_size=100, spec=SPEC).batch(0, 0)
        assert made.series is not None
        features = Catalogue.of(view).features["length"].values[: ITEMS - 1]
        batches.append([made.events.fields, made.user, made.series.value, made.targets.events.fields, features])
    assert views[0] == views[1]
    torch.testing.assert_close(batches[0], batches[1], rtol=0, atol=0)
    whole = [[one.boundaries for one in (*data.manifest.fields, *data.manifest.others)] for data in logs]
    assert all(one != other for one, other in zip(*whole, strict=True))  # the logs do differ in all of them


def test_boundaries_are_the_quantiles_of_what_is_trained_on(logs: tuple[Dataset, Dataset]) -> None:
    data = logs[1]
    view, split = trained(data)
    events = training_events(data, split)
    by_name = {one.name: one.boundaries for one in (*view.manifest.fields, *view.manifest.others)}
    assert by_name["seconds"] == tuple(sorted({*quantiles(data.fields["seconds"][events]), 60.0}))
    assert by_name["price"] == quantiles(data.fields["price"][events])
    items = np.unique(data.item[events])
    assert len(items) == ITEMS - 1 and by_name["length"] == quantiles(data.items["length"].gather(items).to_numpy())
    assert by_name["age"] == quantiles(data.users["age"].head(USERS - 1).to_numpy())
    stored = data.stored_series
    assert stored is not None
    seen = np.concatenate([stored.value[at : at + 3] for at in stored.offsets[: USERS - 1]])  # of hours 1, 3 and 5
    assert by_name["level"] == quantiles(seen)
    extreme = codes(view.manifest.fields[0], np.array([-1e9, 1e9], dtype=np.float32))
    assert extreme.tolist() == [1, view.manifest.fields[0].codes - 1]  # beyond the range: the end buckets


def test_declared_boundaries_stay(tmp_path: Path) -> None:
    data = log(tmp_path / "log", 1.0, declared=(10.0, 60.0))
    view, _ = trained(data)
    assert view.manifest.fields[0] == data.manifest.fields[0]
    assert view.manifest.fields[0].boundaries == (10.0, 60.0)


def test_a_dataset_as_a_model_reads_it_says_the_same_of_its_content(logs: tuple[Dataset, Dataset]) -> None:
    view, _ = trained(logs[0])
    assert view.content_hash == logs[0].content_hash
    assert Dataset.open(logs[0].path).manifest == logs[0].manifest  # what is on the disk is as it was
    assert as_read_by(logs[0], view.manifest).manifest == view.manifest


@pytest.mark.parametrize("refit", ["no", "yes"])
def test_an_artifact_evaluates_predicts_and_ranks_with_the_boundaries_that_it_learned(
    logs: tuple[Dataset, Dataset], tmp_path: Path, refit: str
) -> None:
    """After a second training, those of the longer log."""
    data = logs[0]
    settings = {
        "protocol.split": "temporal",
        "protocol.train_end": "2020-09-13T20:26:40",
        "protocol.validation_end": "2020-09-13T21:26:40",
        "protocol.refit": refit,
        "model.feedback": {"fields": ["seconds"]},
        "model.width": 8,
        "training.epochs": 1,
        "training.metric": "NE(seconds)",
    }
    artifact = facta.train(data, "simulator/gr-ranking", tmp_path / "a", settings, log=Log("quiet"))
    views = [of_training(data, temporal(data, test_from=CUT + hour * HOUR)).manifest for hour in (0, 1)]
    first, second = (view.model_dump(mode="json")["fields"] for view in views)
    assert first != second
    assert facta.Artifact.load(tmp_path / "a").schema["fields"] == (first if refit == "no" else second)
    predicted = facta.predict(tmp_path / "a", data)
    assert {"stage": "test", **predicted.summary()} in [{**one, **predicted.summary()} for one in artifact.metrics]
    known = [one for one in artifact.metrics if one["stage"] == "test" and "NE(seconds)" in one["metrics"]]
    assert known[0]["metrics"]["NE(seconds)"] == predicted.summary()["metrics"]["NE(seconds)"]
    again = facta.predict(artifact, facta.Dataset.open(data.path))
    assert again.means == predicted.means
    user, at = 5, CUT + 100 * HOUR
    history = history_of(data, user)
    ranked = artifact.rank(history, [3], at=at).scores["seconds"]
    moved = History(history.items, history.times, {**history.fields, "seconds": [1e6] * len(history.items)})
    assert artifact.rank(moved, [3], at=at).scores["seconds"] != ranked  # a value beyond the range is read


def test_history_of_gives_the_numbers_of_series_as_they_were(logs: tuple[Dataset, Dataset]) -> None:
    data = logs[0]
    stored, history = data.stored_series, history_of(data, 4)
    assert stored is not None
    assert [value for _, _, value in history.series] == stored.value[stored.offsets[4] : stored.offsets[5]].tolist()


def test_leave_one_out_cuts_every_user_at_the_own_last_training_event(logs: tuple[Dataset, Dataset]) -> None:
    data = logs[0]
    split = leave_one_out(data)
    view = of_training(data, split)
    kept = data.fields["price"][training_events(data, split)]
    assert {one.name: one.boundaries for one in view.manifest.fields}["price"] == quantiles(kept)


def test_histories_read_in_bulk_are_those_read_one_by_one(logs: tuple[Dataset, Dataset]) -> None:
    data, spec = logs[1], replace(SPEC, targets_are_inputs=False)
    known_fields = trained(data)[0].manifest
    bulk = StoredHistories(data, data.item_rows, known_fields, spec).encoded(np.arange(6), until=CUT + HOUR * 9)
    for user, found in enumerate(bulk):
        one = encoded(history_of(data, user, until=CUT + HOUR * 9), data.item_rows, known_fields, spec)
        assert found.series is not None and one.series is not None
        assert found.series.value.tolist() == one.series.value.tolist() and len(one.series.value)
        assert found.series.time.tolist() == one.series.time.tolist()
        assert {name: codes.tolist() for name, codes in found.fields.items()} == {
            name: codes.tolist() for name, codes in one.fields.items()
        }
        assert found.user == one.user
