"""`Dataset.events`: what a person wrote into the log, lazily, and the same dataset when it is prepared again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import facta

N = 400
NAMES = {"user_id": "uid", "item_id": "movie", "timestamp": "ts"}
FIELDS: dict[str, Any] = {
    "tab": {"role": "context"},
    "click": "feedback",
    "like": {"undefined": "click = 0"},
    "watched": {"boundaries": (10.0, 50.0), "positive": ">= 33.5"},
    "rating": {"kind": "ordinal", "positive": ">= 4"},
    "cart": {"time": "carted_at"},
    "buy": {"time": "bought_at", "undefined": "cart = 0"},
    "gift": {"time": "bought_at"},
    "shelf": {"kind": "categorical", "role": "context"},
    "mobile": "context",
    "answered": "feedback",
    "day": "context",
    "dwell": {"positive": ">= 0"},
}


def log(seed: int = 0) -> pl.DataFrame:
    """Every kind of field, values that are undefined, ties in time, and feedback that comes late, early and never."""
    rng = np.random.default_rng(seed)
    time = pl.Series("ts", 1_700_000_000_000 + rng.integers(0, 60, N) * 1000)
    cart, buy = rng.random(N) < 0.5, rng.random(N) < 0.4
    given = [time // 1000 + pl.Series(rng.integers(-5, 40, N)) for _ in range(2)]
    return pl.DataFrame(
        {
            "uid": [f"u{user:03d}" for user in rng.integers(0, 20, N)],
            "movie": rng.integers(0, 30, N),
            "ts": time,
            "tab": [None if draw < 0.1 else ("home", "search", "Übersicht")[int(draw * 3)] for draw in rng.random(N)],
            "click": (rng.random(N) < 0.5).astype(np.int64),
            "like": rng.integers(0, 2, N),
            "watched": np.where(rng.random(N) < 0.1, np.nan, rng.random(N) * 100),
            "rating": rng.integers(1, 6, N),
            "cart": cart.astype(np.int64),
            "buy": buy.astype(np.int64),
            "gift": pl.Series((buy & (rng.random(N) < 0.5)).astype(np.int64)),
            "shelf": rng.integers(0, 5, N),
            "mobile": rng.random(N) < 0.5,
            "answered": np.array(["Y", "N"])[rng.integers(0, 2, N)],
            "day": time.cast(pl.Datetime("ms")).dt.date(),
            "dwell": [None if draw == 3 else int(draw) * 1000 - 4000 for draw in rng.integers(0, 9, N)],
        }
    ).with_columns(
        carted_at=pl.when(pl.Series(cart)).then(given[0]).otherwise(0),
        bought_at=pl.when(pl.Series(buy)).then(given[1]).otherwise(None),
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    return facta.prepare(log(), tmp_path_factory.mktemp("events") / "log", columns=NAMES, fields=FIELDS)


def test_values_are_those_of_the_histories(dataset: facta.Dataset) -> None:
    """`histories_of` reads one value after the other: the slow twin."""
    frame, ids = dataset.events.collect(), dataset.users["user_id"]
    assert frame["user_id"].to_list() == [
        u for u, n in zip(ids, np.diff(dataset.offsets), strict=True) for _ in range(n)
    ]
    histories = facta.histories_of(dataset, ids)
    assert frame["item_id"].to_list() == [item for one in histories for item in one.items]
    times = [time for one in histories for time in one.times or ()]
    assert frame["timestamp"].dt.epoch("ms").to_list() == np.array(times).astype(np.int64).tolist()
    for name in FIELDS:
        assert frame[name].to_list() == [value for one in histories for value in one.fields[name]], name


def test_rows_are_the_lines_of_the_log(dataset: facta.Dataset) -> None:
    """Text stays text, numbers stay numbers, what nobody said is null; times of late feedback are there."""
    lines = log().sort("uid", "ts", maintain_order=True)
    frame = dataset.events.collect()
    for name in ("tab", "click", "rating", "dwell", "cart"):
        assert frame[name].to_list() == lines[name].to_list(), name
    assert frame["like"].to_list() == [
        None if click == 0 else like for click, like in lines.select("click", "like").iter_rows()
    ]
    assert frame["watched"].cast(pl.Float32).to_list() == lines["watched"].cast(pl.Float32).fill_nan(None).to_list()
    bought = [max(ts, 1000 * at) if at else None for ts, at in lines.select("ts", "bought_at").iter_rows()]
    assert frame["bought_at"].dt.epoch("ms").to_list() == bought  # of `gift`, where `buy` is undefined
    assert dict(frame.schema)["timestamp"] == pl.Datetime("ms", "UTC") and frame.schema["tab"] == pl.String
    assert frame.columns[:3] == ["user_id", "item_id", "timestamp"]
    assert frame.columns[3:] == [*FIELDS, "carted_at", "bought_at"]


@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_not_asked_for_is_not_read(
    dataset: facta.Dataset, streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    columns = {
        name: one._replace(read=lambda at, name=name, one=one: (read.append(name), one.read(at))[1])
        for name, one in dataset._event_columns.items()
    }
    monkeypatch.setattr(facta.Dataset, "_event_columns", property(lambda _: columns))
    frame = dataset.events.filter(pl.col("user_id") == "u003").select("item_id", pl.col("click") * 2)
    assert dict(frame.collect_schema()) == {"item_id": pl.Int64, "click": pl.Int8} and not read
    found = frame.collect(engine="streaming" if streaming else "auto")
    assert set(read) == {"user_id", "item_id", "click"}
    history = facta.history_of(dataset, "u003")
    assert found["item_id"].to_list() == history.items
    assert found["click"].to_list() == [2 * value for value in history.fields["click"]]


def test_prepared_again_it_is_the_same(dataset: facta.Dataset, tmp_path: Path) -> None:
    again = facta.prepare(dataset.events, tmp_path / "again", fields=dataset.declared_fields)
    assert [one.late for one in again.manifest.fields if one.late], "no feedback comes late: nothing is tested"
    assert again.manifest.fields == dataset.manifest.fields
    assert again.content_hash == dataset.content_hash
    written = tmp_path / "events.parquet"
    dataset.events.sink_parquet(written)
    assert facta.prepare(written, tmp_path / "file", fields=dataset.declared_fields).content_hash == again.content_hash


def test_a_log_without_declared_fields_needs_none(tmp_path: Path) -> None:
    plain = log().select("uid", "movie", "ts", "click", "rating", "dwell", "answered").rename({"answered": "event"})
    first = facta.prepare(plain, tmp_path / "first", columns=NAMES)
    assert [one.name for one in first.manifest.fields] == ["click", "rating", "dwell", "event"]
    assert (
        facta.prepare(first.events, tmp_path / "again", fields=first.declared_fields).content_hash == first.content_hash
    )
    assert facta.prepare(first.events, tmp_path / "guessed").content_hash == first.content_hash


def test_a_log_with_an_order_alone(tmp_path: Path) -> None:
    first = facta.prepare(log().select("uid", "movie", "click"), tmp_path / "first", columns={**NAMES, "timestamp": ""})
    assert first.events.collect_schema().names() == ["user_id", "item_id", "click"]
    assert facta.prepare(first.events, tmp_path / "again").content_hash == first.content_hash


def test_items_without_events_and_titles_come_from_the_catalogue(tmp_path: Path) -> None:
    items = pl.DataFrame({"movie": range(40), "title": [f"Film {n}" for n in range(40)], "genre": ["a", "b"] * 20})
    given: dict[str, Any] = {"columns": NAMES, "fields": FIELDS, "item_fields": ["genre"]}
    first = facta.prepare(log(), tmp_path / "first", items=items, **given)
    again = facta.prepare(
        first.events,
        tmp_path / "again",
        fields=first.declared_fields,
        item_fields=["genre"],
        items=first.items.drop("row"),
    )
    assert again.content_hash == first.content_hash and again.num_items == 40
    part = facta.prepare(
        first.events.filter(pl.col("timestamp") < pl.datetime(2023, 11, 14, 22, 13, 50, time_zone="UTC")),
        tmp_path / "part",
        fields={name: one for name, one in first.declared_fields.items() if name != "day"},
        catalogue=first.path,
    )
    assert part.num_events < first.num_events and part.items.equals(first.items)


def test_a_log_of_actions(tmp_path: Path) -> None:
    step = pl.int_range(pl.len()) % 40
    lines = (
        log()
        .select("uid", "movie", "ts")
        .with_columns(
            event_type=pl.when(step < 25)
            .then(pl.lit("view"))
            .when(step < 35)
            .then(pl.lit("cart"))
            .otherwise(pl.lit("buy"))
        )
    )
    first = facta.prepare(lines, tmp_path / "first", columns=NAMES, pivot="event_type")
    assert {one.given_when for one in first.manifest.fields} - {None}
    again = facta.prepare(first.events, tmp_path / "again", fields=first.declared_fields)
    assert again.manifest.fields == first.manifest.fields and again.content_hash == first.content_hash


def test_a_field_with_the_name_of_an_id_keeps_it(tmp_path: Path) -> None:
    """The id then keeps its name in the source."""
    lines = log().select("uid", "movie", "ts", user_id="rating", bought_at="bought_at", buy="buy")
    fields = {"user_id": "feedback", "buy": {"time": "bought_at"}}
    first = facta.prepare(lines, tmp_path / "first", columns=NAMES, fields=fields)
    assert first.events.collect_schema().names() == ["uid", "item_id", "timestamp", "user_id", "buy", "bought_at"]
    again = facta.prepare(first.events, tmp_path / "again", columns={"user_id": "uid"}, fields=first.declared_fields)
    assert again.content_hash == first.content_hash


def test_a_condition_on_a_column_that_was_not_kept_is_left_out(tmp_path: Path) -> None:
    """Its values are null already; the two datasets say the same of every event, and differ in what they say why."""
    fields = {"like": {"undefined": "click = 0"}}
    first = facta.prepare(log(), tmp_path / "first", columns=NAMES, fields=fields)
    assert first.declared_fields["like"].undefined is None
    again = facta.prepare(first.events, tmp_path / "again", fields=first.declared_fields)
    assert again.events.collect().equals(first.events.collect())
    assert again.content_hash != first.content_hash


def test_a_time_of_late_feedback_that_is_a_field_too_stays_what_it_was(tmp_path: Path) -> None:
    fields = {"buy": {"time": "bought_at"}, "bought_at": "feedback"}
    first = facta.prepare(log(), tmp_path / "first", columns=NAMES, fields=fields)
    assert first.events.collect_schema()["bought_at"].is_integer()
    again = facta.prepare(first.events, tmp_path / "again", fields=first.declared_fields)
    assert again.content_hash == first.content_hash
