"""Lists for all users of a dataset: what each of them would get alone, in one frame or one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pyarrow import parquet

from facta.data.batches.stored import StoredHistories
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.series import Series
from facta.data.log.prepare import prepare
from facta.errors import ConfigError, DataError, ResourceError
from facta.infer import bulk, parts
from facta.infer.artifact import Artifact
from facta.infer.history import encoded
from facta.infer.history_of import histories_of, history_of
from tests.unit.test_candidates import ITEMS, MINUTE, T0, USERS, artifact
from tests.unit.test_candidates import log as log  # the fixture
from tests.unit.test_engine import artifact as small

AT = T0 + 2000 * MINUTE  # after all events
pytestmark = pytest.mark.filterwarnings("ignore::facta.errors.UnknownValueWarning")  # the newer log has new values
FACTS = ("rows", "places", "unknown", "times", "next_time", "fields", "late", "known_at", "user", "lists", "series")
MOMENTS = (None, AT, T0 + 350 * MINUTE, T0 + 103 * MINUTE, T0 - 1)  # the fourth is an event of user 3


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A log of the same place, later: other people, items, categories, levels, buckets and series."""
    rng = np.random.default_rng(1)
    rows = [
        (f"u{user}", int(rng.integers(3, 14)), T0 + MINUTE * (90 * place))
        for user in range(7)
        for place in range(user + 2)
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").with_columns(
        tab=pl.Series(rng.choice(["search", "cart", "about", None], len(rows)).tolist()),
        click=pl.Series(rng.choice([0, 1], len(rows)).tolist()),
        stars=pl.Series(rng.choice([0.5, 1.0, 4.0], len(rows)).tolist()),
        seconds=pl.Series(rng.choice([0.2, 5.0, 9.0], len(rows)).tolist(), dtype=pl.Float32),
    )
    people = pl.DataFrame({"user_id": [f"u{user}" for user in range(7)], "city": [*["Bonn", "Kiel", None] * 2, "Ulm"]})
    changes = [
        (f"u{user}", T0 + MINUTE * 40 * place, "plan", f"plan {place % 4}") for user in range(3) for place in range(6)
    ]
    return prepare(
        frame,
        tmp_path_factory.mktemp("newer") / "log",
        users=people.with_columns(before=pl.Series([[3, 12, 5]] * 7, dtype=pl.List(pl.Int64))),
        fields={
            "tab": "context",
            "click": "feedback",
            "stars": {"kind": "ordinal"},
            "seconds": {"kind": "numeric", "boundaries": [1.0, 6.0]},
        },
        user_fields={"city": "categorical", "before": "items"},
        series=pl.DataFrame(changes, schema=["user_id", "timestamp", "field", "value"], orient="row"),
        series_fields={"plan": "categorical"},
    )


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Purchases that become known 0 to 400 minutes after their events, some before them, and stars of purchases."""
    rng = np.random.default_rng(2)
    rows = [(user, int(rng.integers(0, 8)), T0 + MINUTE * 60 * place) for user in range(9) for place in range(user)]
    bought = rng.random(len(rows)) < 0.6
    after = T0 + MINUTE * rng.integers(-60, 400, len(rows)) + np.array([row[2] - T0 for row in rows])
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").with_columns(
        buy=pl.Series(bought.astype(int)),
        bought_at=pl.Series(np.where(bought, after, 0)),
        stars=pl.Series(rng.choice([1.0, 2.0], len(rows))),
    )
    return prepare(
        frame,
        tmp_path_factory.mktemp("late") / "log",
        items=pl.DataFrame({"item_id": range(9), "genre": [*"aabbccaab"]}),
        fields={
            "buy": {"kind": "binary", "time": "bought_at"},
            "stars": {"kind": "ordinal", "positive": ">= 2", "undefined": "buy = 0"},
        },
        item_fields={"genre": "categorical"},
    )


@pytest.mark.parametrize("until", [None, *(T0 + MINUTE * minute for minute in (130, 240, 345, 1000))])
def test_stored_histories_know_no_more_than_was_known(late: Dataset, until: int | None) -> None:
    engine, users = artifact(late, "paired"), np.arange(late.num_users)
    ids = [id_ for id_ in engine.catalogue["item_id"].to_list() if id_ != 3]

    def rows_of(asked: Sequence[Any]) -> Any:
        return np.array([ids.index(one) if one in ids else -1 for one in asked], dtype=np.int64)

    found = StoredHistories(late, rows_of, engine.verbs.fields, engine.model.inputs).encoded(users, until)
    for user, one in zip(late.users["user_id"].to_list(), found, strict=True):
        expected = encoded(history_of(late, user, until=until), rows_of, engine.verbs.fields, engine.model.inputs)
        for name in FACTS:
            assert equal(getattr(one, name), getattr(expected, name)), (user, name)
    assert any(one.late for one in found)


def one_by_one(engine: Artifact, dataset: Dataset, users: Sequence[Any], at: int | None, **asked: Any) -> pl.DataFrame:
    """The slow twin: `recommend` of each stored history."""
    lines = []
    for user in users:
        answer = engine.recommend(history_of(dataset, user, until=at), at=at, **asked)
        for rank, (id_, title, score) in enumerate(
            zip(answer.ids[0], answer.titles[0], answer.scores[0], strict=True), start=1
        ):
            lines.append((user, rank, id_, score, title, answer.source[0]))
    kinds = {"user_id": dataset.users["user_id"].dtype, "rank": pl.Int32, "item_id": engine.catalogue["item_id"].dtype}
    schema = {**kinds, "score": pl.Float32, "title": pl.String, "source": pl.String}
    return pl.DataFrame(lines, schema=schema, orient="row")


def same(found: pl.DataFrame, expected: pl.DataFrame, scores: Sequence[str] = ("score",)) -> None:
    assert found.schema == expected.schema
    assert found.drop(scores).equals(expected.drop(scores))
    for name in scores:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, Series):
        return all(equal(getattr(one, name.name), getattr(other, name.name)) for name in fields(one))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other)


@pytest.mark.parametrize("until", MOMENTS)
@pytest.mark.parametrize("whose", ["log", "newer"])
def test_stored_histories_are_those_of_history_of(log: Dataset, newer: Dataset, whose: str, until: int | None) -> None:
    """Rows, times, codes, facts, earlier items and series, as if each value had been given by hand."""
    engine, dataset = artifact(log, "paired"), log if whose == "log" else newer
    spec = engine.model.inputs
    assert spec.series and spec.lists and spec.users and set(spec.fields) == {"tab", "click", "stars", "seconds"}
    users = np.array([5, 0, 3, 6])
    ids = dataset.users["user_id"].gather(users).to_list()
    found = StoredHistories(dataset, engine.rows_of, engine.verbs.fields, spec).encoded(users, until)
    for user, one in zip(ids, found, strict=True):
        expected = encoded(history_of(dataset, user, until=until), engine.rows_of, engine.verbs.fields, spec)
        for name in FACTS:
            assert equal(getattr(one, name), getattr(expected, name)), (user, name)
    assert sum(one.unknown for one in found) > 0 or whose == "log" or until == MOMENTS[-1]
    assert histories_of(dataset, ids, until=until) == [history_of(dataset, user, until=until) for user in ids]


@pytest.mark.parametrize("exclude", [None, "nothing", "history", [0, 3, 77]])
@pytest.mark.parametrize("whose", ["log", "newer"])
def test_all_users_get_what_each_of_them_gets_alone(
    log: Dataset, newer: Dataset, whose: str, exclude: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "USERS", 5)
    monkeypatch.setattr("facta.infer.catalogue_lists.REQUESTS_PER_BATCH", 3)
    engine, dataset = artifact(log, joint=True), log if whose == "log" else newer
    users = dataset.users["user_id"].to_list()
    sources = set()
    for at in MOMENTS[1:]:
        found = engine.recommend_users(dataset, 4, at=at, exclude=exclude)
        same(found, one_by_one(engine, dataset, users, at, k=4, exclude=exclude))
        sources |= set(found["source"])
    assert sources == {"model", "popularity"}
    some = [users[place] for place in (6, 2, 3)]
    found = engine.recommend_users(dataset.path, 3, users=[*some, some[0]], at=AT)
    same(found, one_by_one(engine, dataset, some, AT, k=3))
    assert engine.recommend_users(dataset, 3, users=[], at=AT).equals(found.head(0))


def test_items_without_training_events_are_read_and_not_recommended(tmp_path: Path) -> None:
    """Item 40 has none; a history of nothing else is answered with the most popular items."""
    frame = pl.DataFrame({"user_id": [1, 1, 2, 3, 3], "item_id": [0, 40, 40, 40, 777]})
    dataset, engine = prepare(frame, tmp_path / "log"), small()
    found = engine.recommend_users(dataset, 50)
    same(found, one_by_one(engine, dataset, [1, 2, 3], None, k=50))
    assert 40 not in found["item_id"] and found.filter(pl.col("rank") == 1)["source"].to_list() == [
        "model",
        "popularity",
        "popularity",
    ]


def ranked_one_by_one(engine: Artifact, dataset: Dataset, asked: dict[Any, list[int]], **told: Any) -> pl.DataFrame:
    """The slow twin: `rank` for each stored history."""
    lines = []
    for user, candidates in asked.items():
        answer = engine.rank(history_of(dataset, user, until=told["at"]), candidates, **told)
        columns = [lists[0] for lists in answer.scores.values()]
        for rank, (id_, title, *scores) in enumerate(
            zip(answer.ids[0], answer.titles[0], *columns, strict=True), start=1
        ):
            total = sum(
                answer.by[name] * score for name, score in zip(answer.scores, scores, strict=True) if name in answer.by
            )
            lines.append((user, rank, id_, total, title, *scores))
    kinds = {"user_id": dataset.users["user_id"].dtype, "rank": pl.Int32, "item_id": pl.Int64}
    scores = dict.fromkeys(engine.model.predicted, pl.Float32)  # type: ignore[union-attr]
    return pl.DataFrame(lines, schema={**kinds, "score": pl.Float32, "title": pl.String, **scores}, orient="row")


@pytest.mark.parametrize("model", ["interleaved", "dlrm"])
def test_candidates_of_all_users_are_ranked_as_for_each_alone(
    log: Dataset, newer: Dataset, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "USERS", 3)
    engine, told = artifact(log, model), {"context": {"tab": "home"}, "by": {"stars": 1.0, "click": -2.0}}
    columns = ("score", *engine.model.predicted)  # type: ignore[union-attr]
    for dataset, at in ((log, AT), (newer, T0 + 300 * MINUTE)):
        users = dataset.users["user_id"].to_list()
        candidates = [5, 8, 1000, 0]
        found = engine.rank_users(dataset, candidates, at=at, **told)  # type: ignore[arg-type]
        same(found, ranked_one_by_one(engine, dataset, dict.fromkeys(users, candidates), at=at, **told), columns)
        cut = engine.rank_users(dataset, candidates, 2, at=at, **told)  # type: ignore[arg-type]
        assert cut.equals(found.filter(pl.col("rank") <= 2))
        asked = {users[4]: [7, 2], users[1]: [3], users[2]: [999]}
        pairs = pl.DataFrame(
            [(user, item) for user, ids in asked.items() for item in ids], schema=["user_id", "item_id"], orient="row"
        )
        by_dataset = dict(sorted(asked.items(), key=lambda entry: users.index(entry[0])))
        found = engine.rank_users(dataset, pairs, at=at, **told)  # type: ignore[arg-type]
        same(found, ranked_one_by_one(engine, dataset, by_dataset, at=at, **told), columns)


def test_what_cannot_be_asked_is_refused_before_anything_is_computed(log: Dataset, tmp_path: Path) -> None:
    engine, ordered = artifact(log, joint=True), small()
    with pytest.raises(DataError, match="Unknown user 99"):
        engine.recommend_users(log, users=[3, 99], at=AT)
    with pytest.raises(ConfigError, match="k = 0"):
        engine.recommend_users(log, 0, at=AT)
    with pytest.raises(ConfigError, match="'seen'; expected 'history'"):
        engine.recommend_users(log, exclude="seen", at=AT)
    with pytest.raises(DataError, match="give the request its own time"):
        engine.recommend_users(log)
    without = prepare(pl.DataFrame({"user_id": [1], "item_id": [0]}), tmp_path / "ordered")
    with pytest.raises(DataError, match="an order of events but no times"):
        ordered.recommend_users(without, at=AT)
    texts = prepare(pl.DataFrame({"user_id": [1], "item_id": ["a"]}), tmp_path / "texts")
    with pytest.raises(DataError, match="ids of this catalogue are of type int"):
        ordered.recommend_users(texts)
    with pytest.raises(DataError, match="expected user_id and item_id"):
        engine.rank_users(log, pl.DataFrame({"item": [1]}), at=AT)


class Stopped(BaseException):
    pass


def lists(number: int) -> pl.DataFrame:
    return pl.DataFrame({"user_id": [2 * number, 2 * number + 1], "score": [0.5, number / 3]})


def test_a_stopped_run_goes_on_and_writes_the_same_bytes(tmp_path: Path) -> None:
    made: list[int] = []
    stops = [Stopped()]

    def make(number: int) -> pl.DataFrame:
        if number == 2 and stops:
            raise stops.pop()
        made.append(number)
        return lists(number)

    whole, out = tmp_path / "whole.parquet", tmp_path / "top.parquet"
    parts.write(whole, {"k": 1}, 4, lists, overwrite=False)
    with pytest.raises(Stopped):
        parts.write(out, {"k": 1}, 4, make, overwrite=False)
    assert not out.exists() and parts.started(out) == {"k": 1}
    steps: list[tuple[int, int]] = []
    parts.write(out, {"k": 1}, 4, make, overwrite=False, progress=lambda *step: steps.append(step))
    assert made == [0, 1, 2, 3] and steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert out.read_bytes() == whole.read_bytes()
    assert parquet.ParquetFile(out).num_row_groups == 4
    assert pl.read_parquet(out).equals(pl.concat(map(lists, range(4))))
    assert {path.name for path in tmp_path.iterdir()} == {"whole.parquet", "top.parquet"}


def test_parts_of_another_run_are_thrown_away(tmp_path: Path) -> None:
    out = tmp_path / "top.parquet"

    def stop(number: int) -> pl.DataFrame:
        if number:
            raise Stopped
        return pl.DataFrame({"user_id": [-1, -1], "score": [9.0, 9.0]})

    with pytest.raises(Stopped):
        parts.write(out, {"at": 1}, 3, stop, overwrite=False)
    parts.write(out, {"at": 2}, 3, lists, overwrite=False)
    assert pl.read_parquet(out).equals(pl.concat(map(lists, range(3))))


def test_a_file_is_replaced_only_when_asked_and_by_one_process_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "top.parquet"
    out.write_text("mine")
    with pytest.raises(ConfigError, match=r"exists already; choose another place, or replace it \(--overwrite\)"):
        parts.write(out, {}, 1, lists, overwrite=False)
    with pytest.raises(ConfigError, match=r"exists already; choose another place\."):
        parts.write(tmp_path, {}, 1, lists, overwrite=True)
    assert out.read_text() == "mine"

    def again(number: int) -> pl.DataFrame:
        with pytest.raises(ResourceError, match=r"Another process is writing 'top\.parquet'"):
            parts.write(out, {}, 1, lists, overwrite=True)
        return lists(number)

    parts.write(out, {}, 1, again, overwrite=True)
    assert len(pl.read_parquet(out)) == 2


def test_what_the_answer_depends_on_is_part_of_what_a_file_is_of(log: Dataset, newer: Dataset) -> None:
    users = np.arange(3)
    unsaved = bulk.identity("", log, users, None, k=3)
    assert unsaved != bulk.identity("", log, users, None, k=3)  # weights that may have changed since
    first = bulk.identity("f", log, users, None, k=3)
    assert first == bulk.identity("f", log, users, None, k=3)
    for other in (
        bulk.identity("g", log, users, None, k=3),
        bulk.identity("f", newer, users, None, k=3),
        bulk.identity("f", log, users[:2], None, k=3),
        bulk.identity("f", log, users[::-1].copy(), None, k=3),
        bulk.identity("f", log, users, AT, k=3),
        bulk.identity("f", log, users, None, k=4),
    ):
        assert other != first


FIRST: dict[str, Any] = {"k": 2, "users": [4, 5, 6, 7, 8, 9], "at": AT}
RANKED: dict[str, Any] = {**FIRST, "candidates": [1, 2, 3], "by": "click", "context": {"tab": "home"}}


@pytest.mark.parametrize(
    ("method", "first", "change"),
    [
        ("recommend_users", FIRST, {"k": 3}),
        ("recommend_users", FIRST, {"users": [5, 4, 6, 7, 8, 9]}),
        ("recommend_users", FIRST, {"at": T0 + 350 * MINUTE}),
        ("recommend_users", FIRST, {"exclude": "nothing"}),
        ("rank_users", RANKED, {"k": 1}),
        ("rank_users", RANKED, {"candidates": [3, 2, 4]}),
        ("rank_users", RANKED, {"by": "stars"}),
        ("rank_users", RANKED, {"context": {"tab": "search"}}),
    ],
)
def test_parts_of_another_question_are_made_again(
    log: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, first: dict[str, Any], change: Any
) -> None:
    """A run that was stopped behind its first part, and the same place asked for something else."""
    monkeypatch.setattr(bulk, "USERS", 3)
    engine, out = artifact(log, joint=True), tmp_path / "lists.parquet"
    object.__setattr__(engine, "fingerprint", "f")

    def stop(*_: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        getattr(engine, method)(log, **first, out=out, progress=stop)
    begun = pl.read_parquet(parts.folder_of(out) / "00000.parquet")
    asked = {**first, **change}
    getattr(engine, method)(log, **asked, out=out)
    found, expected = pl.read_parquet(out), getattr(engine, method)(log, **asked)
    assert found.equals(expected) and not found.head(len(begun)).equals(begun)


def test_a_written_file_holds_the_frame(log: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "USERS", 5)
    engine, out = artifact(log, joint=True), tmp_path / "top.parquet"
    assert engine.recommend_users(log, 4, at=AT, out=out) is None
    same(pl.read_parquet(out), engine.recommend_users(log, 4, at=AT))
    assert parquet.ParquetFile(out).num_row_groups == -(-USERS // 5) and list(tmp_path.iterdir()) == [out]
    engine.rank_users(log, range(ITEMS), 2, at=AT, out=out, overwrite=True)
    assert pl.read_parquet(out).equals(engine.rank_users(log, range(ITEMS), 2, at=AT))
