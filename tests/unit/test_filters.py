"""Filters of recommendations: before the best k are chosen, and equal to scoring all, filtering and sorting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import facta.artifact.model as saved_model
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.schema import Field
from facta.errors import ConfigError, DataError
from facta.infer.artifact import Artifact
from facta.infer.engine import Engine
from facta.infer.filters import Filters
from facta.retrieval.reference import list_slowly
from facta.store.opening import open_store

ITEMS = 14
CONFIG = {"kind": "recommender", "window": 4, "width": 4, "encoder": {"kind": "hstu", "layers": 1, "bias": "position"}}
MODEL = saved_model.parse(CONFIG).build(Catalogue(ITEMS), seed=1).eval()
with torch.no_grad():  # some items are equal to others: ties
    table = next(value for name, value in MODEL.named_parameters() if len(value) in (ITEMS, ITEMS + 1))
    table[4:7] = table[4]
    table[8:11] = table[8]

COLUMNS: dict[str, Any] = {
    "title": [f"title {row}" for row in range(ITEMS)],
    "genre": ["a", "a|b", "b", None, "c", "c", "a|c", "b|b", "", "a", "a", "b|a", "c", "a"],
    "maker": ["x", "y", "x", "x", None, "y", "x", "z", "x", "x", "y", "x", "x", "z"],
    "year": [1990, 1991, None, 1993, 1994, 1990, 1990, 1991, 2000, 2001, 2002, None, 1990, 1990],
    "price": [0.7, 1.5, 0.7, None, 2.5, 0.1, 0.7, 3.5, 0.7, 0.9, 0.7, 1.5, float("nan"), 0.7],
    "new": [True, False, True, None, True, True, False, False, True, True, True, True, False, True],
    "shown": [date(2020, 1, 1 + row) for row in range(ITEMS)],
    "vector": [[0.1, 0.2]] * ITEMS,
}
DECLARED = {"item_fields": [{"name": "genre", "role": "item", "kind": "multi", "dtype": "String"}]}
TRAINED = [3, 3, 0, 3, 5, 1, 1, 1, 0, 7, 7, 7, 2, 2]


def artifact(trained: Sequence[int] = TRAINED) -> Artifact:
    made = {"row": range(ITEMS), "item_id": [10 * row for row in range(ITEMS)], "training_events": trained}
    catalogue = pl.DataFrame(made | COLUMNS).with_columns(pl.col("price").cast(pl.Float32))
    return Artifact({"name": "t", "model": CONFIG, "protocol": {}}, DECLARED, catalogue, MODEL)


def values_of(column: str, row: int) -> set[Any]:
    """The values of an item, in plain words."""
    value = COLUMNS[column][row]
    if value is None or value != value or value == "":
        return set()
    return set(value.split("|")) if column == "genre" else {value}


def meets(row: int, where: Mapping[str, Any]) -> bool:
    for column, said in where.items():
        own = values_of(column, row)
        if isinstance(said, dict):
            fits = any(said.get("min", -np.inf) <= value <= said.get("max", np.inf) for value in own)
        else:
            fits = bool(own & set(said if isinstance(said, list) else [said]))
        if not fits:
            return False
    return True


ROWS = st.lists(st.integers(0, ITEMS - 1), max_size=8)
YEARS = st.integers(1989, 2003)
WHERE = st.fixed_dictionaries(
    {},
    optional={
        "genre": st.sampled_from(["a", "b", "c", "d"]) | st.lists(st.sampled_from("abcd"), max_size=3),
        "maker": st.sampled_from("xyzq"),
        "year": YEARS | st.builds(dict, min=YEARS, max=YEARS) | st.builds(dict, min=YEARS) | st.builds(dict, max=YEARS),
        "price": st.sampled_from([0.7, 1.5]) | st.just({"min": 0.7, "max": 1.5}),
        "new": st.booleans(),
    },
)
MOST = st.integers(1, 3)
AT_MOST = st.fixed_dictionaries({}, optional={"genre": MOST, "maker": MOST, "year": MOST, "new": MOST})


@settings(max_examples=50, deadline=None)
@given(
    st.lists(ROWS, min_size=1, max_size=3), st.integers(1, ITEMS), WHERE, AT_MOST, st.none() | ROWS, st.none() | ROWS,
    st.lists(st.integers(0, 3), min_size=ITEMS, max_size=ITEMS),
)  # fmt: skip
def test_filtered_lists_are_those_of_all_scores_filtered_and_sorted(
    histories: list[list[int]], k: int, where: dict[str, Any], at_most: dict[str, int], allow: list[int] | None,
    exclude: list[int] | None, trained: list[int],
) -> None:  # fmt: skip
    made = artifact(trained)
    given = [[10 * row for row in history] for history in histories]
    ids = (None if rows is None else [10 * row for row in rows] + [999] for rows in (allow, exclude))
    whole = made.recommend(given, ITEMS, exclude="nothing")
    allowed, excluded = ids
    found = made.recommend(given, k, allow=allowed, exclude=excluded, where=where, at_most=at_most)
    assert found.source == whole.source
    caps = [({row: values_of(name, row) for row in range(ITEMS)}, most) for name, most in at_most.items()]
    for place, history in enumerate(histories):
        scores = np.full(ITEMS, -np.inf)
        scores[np.array(whole.ids[place], dtype=np.int64) // 10] = whole.scores[place]
        hidden = {*(history if exclude is None else exclude)} | {
            row for row in range(ITEMS) if not meets(row, where) or (allow is not None and row not in allow)
        }
        expected = list_slowly(scores.tolist(), hidden, caps, k)
        assert found.ids[place] == [10 * row for row in expected]
        assert found.scores[place] == pytest.approx([scores[row] for row in expected], abs=1e-5)


def test_a_list_is_short_only_where_nothing_is_left() -> None:
    """The best 290 items but one are of one kind."""
    rows = 300
    config = {"kind": "recommender", "window": 4, "width": 4, "encoder": {"kind": "gru", "layers": 1}}
    model = saved_model.parse(config).build(Catalogue(rows), seed=1).eval()
    catalogue = pl.DataFrame(
        {
            "row": range(rows), "item_id": range(rows), "training_events": range(rows, 0, -1),
            "kind": ["much", "kind 4", *["much"] * 288] + [f"kind {row % 5}" for row in range(10)],
        }
    )  # fmt: skip
    made = Artifact({"name": "t", "model": config, "protocol": {}}, {}, catalogue, model)
    assert made.recommend([], 5, at_most={"kind": 1}).ids == [[0, 1, 290, 291, 292]]
    assert made.recommend([], 50, at_most={"kind": 1}).ids == [[0, 1, 290, 291, 292, 293]]
    assert made.recommend([], 5, at_most={"kind": 2}).ids == [[0, 1, 2, 290, 291]]
    assert made.recommend([], 5, where={"kind": "kind 1"}).ids == [[291, 296]]
    assert made.recommend([], 2, allow=[295, 7, 4, 299]).ids == [[4, 7]]


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"where": {"gener": "a"}}, "the column 'gener' in where; the items of this artifact have: title, genre"),
        ({"where": {"training_events": 1}}, "the column 'training_events'"),
        ({"where": {"vector": 1}}, "'vector' in where, which is a vector"),
        ({"where": {"genre": {"min": 1}}}, "'genre' in where, which is multi; only numbers have a min"),
        ({"where": {"new": {"min": 1}}}, "which is binary; only numbers"),
        ({"where": {"year": {"above": 1}}}, "expected min, max or both"),
        ({"where": {"year": {}}}, "expected min, max or both"),
        ({"where": ["genre"]}, "expected conditions by column"),
        ({"at_most": {"gener": 1}}, "the column 'gener' in at_most"),
        ({"at_most": {"genre": 0}}, "expected whole numbers above 0 by column"),
        ({"at_most": {"genre": True}}, "expected whole numbers above 0 by column"),
        ({"at_most": 3}, "expected whole numbers above 0 by column"),
        ({"at_most": {"genre": 1}, "shortlist": 5}, "at_most beside a shortlist"),
    ],
)
def test_what_is_no_filter_is_refused_in_a_sentence(filters: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        artifact().recommend([10], 3, **filters)


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"where": {"year": "old"}}, "Found 'old' for 'year', which is numeric; expected a number"),
        ({"where": {"year": {"min": None}}}, "Found None for 'year'"),
        ({"where": {"genre": None}}, "Found None for 'genre'"),
        ({"where": {"genre": {"a"}, "title": [["a"]]}}, "for 'title', which is categorical; expected a text"),
        ({"allow": ["10"]}, "Found the item id '10' of type str"),
        ({"allow": "10"}, "a list of item ids"),
    ],
)
def test_values_of_another_type_are_refused_in_a_sentence(filters: dict[str, Any], says: str) -> None:
    with pytest.raises((DataError, ConfigError), match=says):
        artifact().recommend([10], 3, **filters)


def test_values_are_named_as_in_the_log() -> None:
    made = artifact()
    assert made.recommend([], 20, where={"year": 1990.0}).ids == made.recommend([], 20, where={"year": 1990}).ids
    days = made.recommend([], 20, where={"shown": {"min": "2020-01-04", "max": date(2020, 1, 6)}})
    assert sorted(days.ids[0]) == [30, 40, 50]
    field = Field(name="year", role="item", kind="categorical", dtype="Int64", categories=("1990", "1991"))
    made = Artifact(made.config, {"item_fields": [field.model_dump(mode="json")]}, made.catalogue, MODEL)
    for said in (1990, "1990", 1990.0, np.int64(1990)):
        assert sorted(made.recommend([], 20, where={"year": said}).ids[0]) == [0, 50, 60, 120, 130]


def test_an_engine_filters_each_request_of_a_step_on_its_own(tmp_path: Path) -> None:
    made = artifact()
    engine = Engine(made, store=open_store(f"sqlite:///{tmp_path}/events.db"))
    engine.append(1, [{"item_id": item, "timestamp": 1_700_000_000_000 + item} for item in (10, 30)])
    asked: list[dict[str, Any]] = [
        {}, {"allow": [40, 50]}, {"where": {"genre": "a"}}, {"at_most": {"maker": 1}}, {"exclude": "nothing"}
    ]  # fmt: skip
    works = [engine.recommendation(user, 4, filters=Filters(**one)) for one in asked for user in (1, 2)]
    for work in works:
        engine.submit(work)
    while not all(work.done for work in works):
        engine.step()
    found = engine.answer(works)
    for place, one in enumerate(asked):
        for which, history in enumerate(([10, 30], [])):
            right = made.recommend([history], 4, **one)
            assert found.ids[2 * place + which] == right.ids[0]
            assert engine.recommend(1 + which, 4, **one).ids == right.ids


def test_hidden_items_are_in_no_list_until_they_are_shown_again(tmp_path: Path) -> None:
    made = artifact()
    with_store = [Engine(made, store=open_store(f"sqlite:///{tmp_path}/events.db")) for _ in range(2)]
    engine, replica = with_store
    engine.append(1, [{"item_id": item, "timestamp": 1_700_000_000_000 + item} for item in (10, 30)])
    before, popular = engine.recommend(1, 5), engine.recommend(2, 5)
    gone = [before.ids[0][0], popular.ids[0][1]]
    engine.hide([*gone, 999])
    assert not {*gone} & {*engine.recommend(1, ITEMS).ids[0]}, "who hides it knows it at once"
    engine.runner.hidden.every = replica.runner.hidden.every = 0.0
    for one in with_store:
        for user, old in ((1, before), (2, popular)):
            left = one.recommend(user, ITEMS)
            assert not {*gone} & {*left.ids[0]}
            assert left.ids[0][:3] == [id_ for id_ in old.ids[0] if id_ not in gone][:3]
        assert one.recommend(2, 5, allow=gone).ids == [[]]
        assert not {*gone} & {*one.similar_items(10, ITEMS).ids[0]}
    replica.hide(gone[0], hidden=False)
    engine.hide(gone[1], hidden=False)
    assert engine.recommend(1, 5) == before and replica.recommend(2, 5) == popular


def test_files_of_lists_are_told_apart_by_their_filters() -> None:
    some = [Filters(), Filters(allow=[1]), Filters(where={"a": 1}), Filters(where={"a": 2}), Filters(at_most={"a": 1})]
    assert len({str(one.said) for one in some}) == len(some)
