"""From a dataset into a store and out as a log: nothing is lost on the way, and nothing comes twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import facta
from facta.errors import ConflictError, StoreError
from facta.store import exporting, importing
from facta.store.content import Clock
from facta.store.exporting import export_events
from facta.store.importing import import_dataset
from facta.store.memory import MemoryStore
from facta.store.opening import open_store
from facta.store.posted import Words, read_schema
from facta.store.protocol import EventStore, StoredEvent
from tests.event_stores import sqlite

T0 = 1_700_000_000
FIELDS: dict[str, Any] = {
    "surface": {"role": "context", "kind": "categorical"},
    "dwell": {"kind": "numeric", "boundaries": [1.0, 5.0]},
    "stars": {"kind": "ordinal"},
    "buy": {"kind": "binary", "time": "bought_at"},
}


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    """60 users with 12 events each, of equal times too; feedback that is missing, broken, late."""
    rng = np.random.default_rng(0)
    user, place = np.repeat(np.arange(60), 12), np.tile(np.arange(12), 60)
    count = len(user)
    time = T0 + 86_400 * (place // 2) + 60 * user
    return pl.DataFrame(
        {
            "visitor_id": [f"v{one}" for one in user],
            "sku": (user + place * 7) % 40,
            "timestamp": time,
            "surface": [("home", "search", "1", None)[one] for one in rng.integers(0, 4, count)],
            "dwell": pl.Series(rng.exponential(3, count), dtype=pl.Float64).set(
                pl.Series(rng.random(count) < 0.2), None
            ),
            "stars": rng.integers(1, 6, count),
            "buy": (rng.random(count) < 0.5).astype(np.int8),
            "bought_at": time + rng.integers(0, 200_000, count),
        }
    )


@pytest.fixture(scope="module")
def data(log: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    users = pl.DataFrame({"visitor_id": [f"v{one}" for one in range(60)], "city": ["Riga", "Oslo", None] * 20})
    series = pl.DataFrame(
        {"visitor_id": ["v0", "v0", "v3"], "time": [T0, T0 + 9, T0], "field": ["plan"] * 3, "value": ["a", "b", "a"]}
    )
    place = tmp_path_factory.mktemp("data") / "shop"
    more: dict[str, Any] = {"users": users, "user_fields": ["city"], "series": series, "series_fields": ["plan"]}
    return facta.prepare(log, place, fields=FIELDS, **more)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest) -> Iterator[EventStore]:
    if request.param == "memory":
        yield MemoryStore(Clock(max_future=None))
    else:
        with sqlite() as made:
            yield made


def test_a_dataset_comes_back_with_its_content_hash(
    data: facta.Dataset, log: pl.DataFrame, store: EventStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_ROWS", 100)
    found = import_dataset(data, store)
    assert found == (720, 0, 60)
    assert export_events(store, tmp_path / "log.parquet", Words(read_schema(data.path))) == 720
    again = facta.prepare(tmp_path / "log.parquet", tmp_path / "again", fields=data.declared_fields)
    bare = facta.prepare(log, tmp_path / "bare", fields=FIELDS)  # without the facts of users
    assert again.content_hash == bare.content_hash != data.content_hash


def test_what_is_imported_is_what_a_model_was_trained_on(data: facta.Dataset, store: EventStore) -> None:
    import_dataset(data, store)
    for user in ("v0", "v3", "v7"):
        history, person = facta.history_of(data, user), store.person(user)
        assert [one.item for one in person.events] == list(history.items)
        assert history.times is not None
        assert [one.time for one in person.events] == [int(time.astype(int)) for time in history.times]  # type: ignore[union-attr]
        for name, values in history.fields.items():
            assert [one.values.get(name) for one in person.events] == list(values)
        assert {"city": person.facts.get("city")} == dict(history.user)
        assert [(time, value) for time, _, value in person.series] == [
            (int(time.astype(int)), value)
            for time, _, value in history.series  # type: ignore[union-attr]
        ]


def test_an_import_goes_on_and_adds_nothing_twice(
    data: facta.Dataset, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_BATCH", 100)
    seen: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        seen.append((done, total))
        if done >= 300:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_dataset(data, store, interrupt)
    assert seen == [(100, 720), (200, 720), (300, 720)]
    assert import_dataset(data, store) == (420, 300, 60)
    people = list(store.people())
    assert import_dataset(data, store) == (0, 720, 60)
    assert list(store.people()) == people and sum(len(person.events) for _, person in people) == 720


def test_a_log_that_has_grown_adds_what_is_new(log: pl.DataFrame, store: EventStore, tmp_path: Path) -> None:
    """Ids count from the beginning of each history, so a person who came in between moves nobody else's."""
    first = facta.prepare(log.filter(pl.col("visitor_id") != "v1"), tmp_path / "first", fields=FIELDS)
    assert import_dataset(first, store).events == 708
    assert import_dataset(facta.prepare(log, tmp_path / "grown", fields=FIELDS), store) == (12, 708, 0)


def test_the_log_of_somebody_else_is_refused(data: facta.Dataset, store: EventStore) -> None:
    store.append([("v0", StoredEvent("import-0", 99, 1))])
    with pytest.raises(ConflictError, match="User 'v0' has an event 'import-0' of other content"):
        import_dataset(data, store)


def test_types_of_columns_are_told_by_all_values(tmp_path: Path) -> None:
    store = MemoryStore()
    values: list[dict[str, Any]] = [
        {"n": 1, "x": 1, "flag": True, "text": "a", "mixed": 5, "late": 1},
        {"n": -(2**62), "x": 0.5, "text": "b", "mixed": "5", "tags": ["a", 1], "late": None},
        {"n": None, "flag": False, "mixed": True},
    ]
    for number, one in enumerate(values):
        known = {"late": 2000 + number} if one.get("late") else {}
        store.append([(2**64 - 1, StoredEvent(f"e{number}", number, 1000 + number, one, known))])
    export_events(store, tmp_path / "log.parquet")
    frame = pl.read_parquet(tmp_path / "log.parquet")
    moment = pl.Datetime("ms", "UTC")
    assert dict(frame.schema) == {
        "user_id": pl.UInt64, "item_id": pl.Int64, "timestamp": moment, "event_id": pl.String, "flag": pl.Boolean,
        "late": pl.Int64, "late_known_at": moment, "mixed": pl.String, "n": pl.Int64, "tags": pl.String,
        "text": pl.String, "x": pl.Float64,
    }  # fmt: skip
    assert frame["user_id"].to_list() == [2**64 - 1] * 3 and frame["mixed"].to_list() == ["5", "5", "true"]
    assert frame["x"].to_list() == [1.0, 0.5, None] and frame["n"].to_list() == [1, -(2**62), None]
    assert frame["timestamp"].dt.epoch("ms").to_list() == [1000, 1001, 1002]
    assert frame["tags"].to_list() == [None, '["a", 1]', None]


def test_what_cannot_be_exported_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    out = tmp_path / "log.parquet"
    with pytest.raises(StoreError, match="The event store has no events"):
        export_events(store, out)
    store.append([(17, StoredEvent("a", 1, 1)), (18, StoredEvent("a", 1, 1, {"n": 2**64}))])
    with pytest.raises(StoreError, match="Column 'n' of the store has whole numbers beyond 64 bits"):
        export_events(store, out)
    store.append([("17", StoredEvent("a", 1, 1))])
    with pytest.raises(StoreError, match="The store has user_ids that are numbers and user_ids that are texts"):
        export_events(store, out)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line(data: facta.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from facta.cli import app

    url, out = f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "log.parquet"

    def run(*words: object) -> str:
        answer = CliRunner().invoke(app, [str(word) for word in words])
        assert answer.exit_code == 0, answer.output
        return answer.output

    assert '"events": 720' in run("import", data.path, "--store", url, "--json")
    assert "0 events imported, 720 were there already; facts of 60 users." in run("import", data.path, "--store", url)
    assert "720 events written to" in run("export", "--store", url, "--like", data.path, "--out", out)
    assert "bought_at" in pl.read_parquet_schema(out)
    store = open_store(url)
    assert sum(len(person.events) for _, person in store.people()) == 720
    store.close()
