"""Features of items, constant facts of users, slowly changing ones: described, stored, and read back in codes."""

from __future__ import annotations

import json
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.features import feature
from facta.data.dataset.schema import FeatureConfig
from facta.data.log.features import describe
from facta.data.log.prepare import prepare
from facta.errors import ConfigError, DataError

T = 1_700_000_000_000
LOG = pl.DataFrame({"user_id": [7, 8, 7, 9], "item_id": [10, 20, 30, 10], "timestamp": [T, T + 1, T + 2, T + 3]})
ITEMS = pl.DataFrame(
    {
        "item_id": [30, 10, 99],
        "genres": ["War|Comedy", "Comedy", ""],
        "year": [1999.0, 2001.0, None],
        "studio": [1.0, 2.0, None],
        "tags": [["a"], [], ["b", "a"]],
        "vector": [[1.0, 2.0], None, [0.5, -1.0]],
        "adult": [True, False, None],
        "age": [6, 18, 6],
        "title": ["Thirty", "Ten", "Never"],
    }
)
FEATURES = {"genres": "multi", "year": None, "studio": "categorical", "tags": None, "vector": None, "adult": None}
USERS = pl.DataFrame(
    {
        "user_id": [9, 8, 1],
        "country": ["de", None, "fr"],
        "age": [30, 40, 50],
        "before": [[20, 55], [], [77]],
        "secret": ["x", "y", "z"],
    }
)
FACTS = {"country": "categorical", "age": FeatureConfig(boundaries=(35,)), "before": "items"}
SERIES = pl.DataFrame(
    {
        "user_id": [8, 8, 8, 7, 8, 8, 1, 8],
        "time": [T + 5, T, T + 1, T, T + 1, T + 9, T, T + 9],
        "field": ["city", "city", "level", "city", "city", "city", "city", "mood"],
        "value": ["Bonn", "Bonn", "3", "Ulm", "Kiel", None, "Rome", "good"],
    }
)


def whole(path: Path, **changes: Any) -> Dataset:
    tables: dict[str, Any] = {"items": ITEMS, "users": USERS, "series": SERIES}
    fields = {"item_fields": {**FEATURES, "age": "ordinal"}, "user_fields": FACTS, "series_fields": ["city", "level"]}
    return prepare(LOG, path, **{**tables, **fields, **changes})


def by_id(dataset: Dataset, values: list[Any]) -> dict[int, Any]:
    return dict(zip(dataset.items["item_id"].to_list(), values, strict=True))


def lists(values: Any, offsets: Any) -> list[list[int]]:
    return [values[a:b].tolist() for a, b in pairwise(offsets)]


def test_item_features_are_codes_lists_and_vectors(tmp_path: Path) -> None:
    dataset = whole(tmp_path / "log")
    found = Catalogue.of(dataset).features
    assert [(one.field.kind, one.field.role) for one in found.values()] == [
        (kind, "item") for kind in ("multi", "numeric", "categorical", "multi", "vector", "binary", "ordinal")
    ]
    codes = {name: one.values.tolist() for name, one in found.items() if one.offsets is None}
    assert sorted(by_id(dataset, codes["year"]).items()) == [(10, 2), (20, 0), (30, 1), (55, 0), (99, 0)]
    assert found["year"].field.boundaries == (2001.0,)
    assert by_id(dataset, codes["studio"])[10] == 2 and found["studio"].field.categories == ("1", "2")
    assert by_id(dataset, codes["adult"]) == {10: 1, 20: 0, 30: 2, 55: 0, 99: 0}
    assert by_id(dataset, codes["age"]) == {10: 2, 20: 0, 30: 1, 55: 0, 99: 1}
    assert by_id(dataset, codes["vector"])[99] == [0.5, -1.0] and by_id(dataset, codes["vector"])[10] == [0, 0]
    assert found["vector"].field.width == 2
    genres = found["genres"]
    assert genres.field.categories == ("Comedy", "War") and genres.field.codes == 3
    assert by_id(dataset, lists(genres.values, genres.offsets)) == {10: [1], 20: [], 30: [2, 1], 55: [], 99: []}
    assert by_id(dataset, lists(found["tags"].values, found["tags"].offsets))[99] == [2, 1]
    assert by_id(dataset, dataset.items["title"].to_list())[99] == "Never"  # kept, and nothing that a model reads


def test_features_are_declared_and_never_guessed_into_a_model(tmp_path: Path) -> None:
    assert prepare(LOG, tmp_path / "log", items=ITEMS).manifest.item_fields == ()
    numbers = pl.DataFrame({"item_id": [10, 20], "year": ["1999", "2001"]})
    assert (
        prepare(LOG, tmp_path / "b", items=numbers, item_fields=["year"]).manifest.item_fields[0].kind == "categorical"
    )


def test_user_facts_are_codes_and_items_of_an_earlier_history(tmp_path: Path) -> None:
    dataset = whole(tmp_path / "log")
    assert dataset.users.to_dict(as_series=False) == {
        "row": [0, 1, 2], "user_id": [7, 8, 9], "country": [None, None, "de"], "age": [None, 40, 30],
    }  # fmt: skip
    facts = dataset.user_facts
    assert facts["country"].values.tolist() == [0, 0, 1] and facts["country"].field.categories == ("de",)
    assert facts["age"].values.tolist() == [0, 2, 1]
    before = facts["before"]
    rows = dataset.item_rows([20, 55]).tolist()
    assert before.offsets is not None and before.offsets.tolist() == [0, 0, 0, 2]
    assert (before.values - 1).tolist() == rows  # 55 is in no event, and in the catalogue; 77 is of nobody
    assert dataset.items["item_id"].to_list() == [10, 20, 30, 55, 99]
    assert "Left out 1 user of the user table without events." in dataset.manifest.notes
    assert (dataset.path / "histories" / "user-before-item.npy").exists()


def test_lists_of_items_may_be_text(tmp_path: Path) -> None:
    users = pl.DataFrame({"user_id": [7, 9], "before": ["20|55", None]})
    users.write_csv(tmp_path / "users.csv")
    dataset = prepare(LOG, tmp_path / "log", users=tmp_path / "users.csv", user_fields={"before": "items"})
    before = dataset.user_facts["before"]
    assert lists(before.values - 1, before.offsets) == [dataset.item_rows([20, 55]).tolist(), [], []]


def test_series_keep_the_changes_in_order(tmp_path: Path) -> None:
    dataset = whole(tmp_path / "log")
    series, (city, level) = dataset.series, dataset.manifest.series_fields
    assert series is not None and (city.categories, level.kind) == (("Bonn", "Kiel", "Ulm"), "numeric")
    assert series.offsets.tolist() == [0, 1, 6, 6]
    entries = list(zip((series.time - T).tolist(), series.field.tolist(), series.value.tolist(), strict=True))
    # At T + 1 the input's order decides, and at T + 5 Bonn is news again; the second Bonn in a row is not there.
    assert entries == [(0, 0, 3), (0, 0, 1), (1, 1, 1), (1, 0, 2), (5, 0, 1), (9, 0, 0)]
    again = pl.concat([SERIES, SERIES.with_columns(pl.col("time") + 100).filter(pl.col("value").is_null())])
    assert whole(tmp_path / "again", series=again).series.offsets.tolist() == [0, 1, 6, 6]  # type: ignore[union-attr]
    assert prepare(LOG, tmp_path / "none").series is None


ENTRY = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 1), st.integers(0, 2))


@given(st.lists(ENTRY, min_size=1, max_size=25))
@settings(deadline=None)
def test_series_equal_their_slow_twin(entries: list[tuple[int, int, int, int]]) -> None:
    log = pl.DataFrame({"user_id": [0, 1, 2], "item_id": 1, "timestamp": 1})
    rows = [(user, time, f"f{field}", f"v{value}") for user, time, field, value in entries]
    table = pl.DataFrame(rows, schema=["user_id", "time", "field", "value"], orient="row")
    names = sorted({row[2] for row in rows})
    with tempfile.TemporaryDirectory() as folder:
        dataset = prepare(
            log, Path(folder) / "log", unit="ms", series=table, series_fields=dict.fromkeys(names, "categorical")
        )
        series, known = dataset.series, [field.categories or () for field in dataset.manifest.series_fields]
        assert series is not None
        found = [
            (user, time, names[field], known[field][code - 1])
            for user, (a, b) in enumerate(pairwise(series.offsets))
            for time, field, code in zip(series.time[a:b], series.field[a:b], series.value[a:b], strict=True)
        ]
    expected, last = [], {}
    for user, time, field, value in sorted(rows, key=lambda row: row[:2]):  # stable
        if last.get((user, field)) != value:
            expected.append((user, time, field, value))
        last[user, field] = value
    assert found == expected


def test_everything_is_hashed_and_checked(tmp_path: Path) -> None:
    dataset = whole(tmp_path / "log")
    Dataset.open(dataset.path)
    others = [
        whole(tmp_path / "a", items=ITEMS.with_columns(pl.col("year") + 1)),
        whole(tmp_path / "b", user_fields={**FACTS, "age": FeatureConfig(boundaries=(36,))}),
        whole(tmp_path / "c", users=USERS.with_columns(before=pl.Series([[55, 20], [], [77]]))),
        whole(tmp_path / "d", series=SERIES.with_columns(pl.col("time") + 1)),
        whole(tmp_path / "e", item_fields=FEATURES),
    ]
    assert len({dataset.content_hash, *(other.content_hash for other in others)}) == 6
    for name in ("histories/user-before-item", "histories/user-before-offsets", "series/value", "series/time"):
        file = dataset.path / f"{name}.npy"
        intact = file.read_bytes()
        values = np.load(file)
        values[-1 if "offsets" not in name else 0] += 1
        np.save(file, values)
        with pytest.raises(DataError, match=f"{name}.npy' has another checksum"):
            Dataset.open(dataset.path)
        file.write_bytes(intact)
    (dataset.path / "series" / "field.npy").unlink()
    with pytest.raises(DataError, match=r"series/field.npy' is missing or torn"):
        Dataset.open(dataset.path)


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no feature": (
        {"item_fields": ["colour"]},
        DataError,
        "The item table has no column 'colour'; it has: genres, year",
    ),
    "no fact": ({"user_fields": ["colour"]}, DataError, "The user table has no column 'colour'; it has: country, age"),
    "no series": ({"series_fields": ["town"]}, DataError, "no field 'town'; column 'field' holds: city, level, mood"),
    "no users": ({"users": None}, ConfigError, "Found for users: no table, but declared: country, age, before"),
    "no facts": ({"user_fields": ()}, ConfigError, "Found for users: a table of which nothing is declared"),
    "no table": ({"series": None}, ConfigError, "Found for series: no table, but declared: city, level"),
    "no value": ({"series": SERIES.drop("value")}, DataError, "The series have no column 'value' among: user_id, time"),
    "no time": (
        {"series": SERIES.with_columns(time=pl.when(field="level").then(None).otherwise("time"))},
        DataError,
        "1 line without a user or a possible time",
    ),
    "no id": (
        {"users": USERS.with_columns(user_id=pl.lit(None, pl.Int64))},
        DataError,
        "user table has 3 lines without",
    ),
    "no item": (
        {"users": USERS.with_columns(before=pl.Series([[None], [], [1]]))},
        DataError,
        "'before' have 1 item with",
    ),
    "text items": (
        {"users": USERS.with_columns(before=pl.Series([["a"]] * 3))},
        DataError,
        "the other tables have Int64",
    ),
    "text": ({"item_fields": {"genres": "numeric"}}, ConfigError, "'genres' is declared as numeric and holds String"),
    "lists": ({"item_fields": {"tags": "ordinal"}}, ConfigError, "'tags' is declared as ordinal and holds List"),
    "no binary": (
        {"item_fields": {"age": "binary"}},
        ConfigError,
        "'age' is declared as binary and holds other values",
    ),
    "no vector": ({"item_fields": {"age": "vector"}}, ConfigError, "'age' is declared as vector and holds Int64"),
    "widths": (
        {"items": ITEMS.with_columns(vector=pl.Series([[1.0], [1.0, 2.0], None]))},
        ConfigError,
        "vectors of 'vector' have 1 to 2 numbers; expected one width",
    ),
    "nan": (
        {"items": ITEMS.with_columns(vector=pl.Series([[1.0], [float("nan")], None]))},
        ConfigError,
        "vectors of 'vector' have missing or infinite numbers",
    ),
    "buckets": (
        {"item_fields": {"genres": FeatureConfig(kind="multi", boundaries=(1,))}},
        ConfigError,
        "Found boundaries for 'genres', which is multi",
    ),
    "items of items": (
        {"item_fields": {"tags": "items"}},
        ConfigError,
        "'tags' is items, which no column of this table",
    ),
    "multi of users": (
        {"user_fields": {"country": "multi"}},
        ConfigError,
        "'country' is multi, which no column of this",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tables_that_are_not_as_declared_are_sentences(tmp_path: Path, name: str) -> None:
    changes, error, sentence = REFUSED[name]
    with pytest.raises(error, match=sentence):
        whole(tmp_path / "log", **changes)
    assert not list(tmp_path.iterdir())


def test_a_catalogue_s_features_may_be_declared_again(tmp_path: Path) -> None:
    first = whole(tmp_path / "first")
    later = prepare(LOG[:1], tmp_path / "later", catalogue=first.path, item_fields={"genres": "multi", "vector": None})
    ours, theirs = Catalogue.of(later).features, Catalogue.of(first).features
    assert ours["genres"].values.equal(theirs["genres"].values) and ours["vector"].values.equal(theirs["vector"].values)


def test_values_that_a_description_does_not_know_are_undefined() -> None:
    described = describe(pl.Series("x", ["a", "b"]), FeatureConfig(), "item")
    assert feature(described, pl.Series("x", ["b", "c", None])).values.tolist() == [2, 0, 0]
    dates = pl.Series("day", ["2022-04-09", "2022-04-10"]).str.to_date()
    day = describe(dates, FeatureConfig(), "item")
    assert (day.kind, feature(day, dates).values.tolist()) == ("numeric", [1, 2])
    json.dumps(day.model_dump())
