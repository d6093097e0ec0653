"""Which columns become feedback without being declared, and what parts the values of a list."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from facta import ConfigError, prepare
from facta.data.dataset.schema import FeatureConfig
from facta.data.log.meeting import meeting
from facta.data.log.roles import no_feedback
from facta.data.log.separators import parted
from tests.unit.test_prepare import START

EVENTS = 60
RNG = np.random.default_rng(0)
SOUND = pl.DataFrame(
    {
        "user_id": [n // 6 for n in range(EVENTS)],
        "item_id": [n % 7 for n in range(EVENTS)],
        "timestamp": [START + 60 * n for n in range(EVENTS)],
    }
)

ACCIDENTS = {
    "Unnamed: 0": [3, *range(EVENTS - 1)],
    "": RNG.permutation(1000)[:EVENTS],
    "index": RNG.permutation(EVENTS),
    "place": RNG.permutation(EVENTS) + 1,
    "visit": [10 + n * n for n in range(EVENTS)],
    "part": [*range(30), *range(30)],
    "order_id": RNG.permutation(10_000)[:EVENTS],
    "seen": RNG.integers(START, START + 10**6, EVENTS),
    "seen_ms": RNG.integers(START, START + 10**6, EVENTS) * 1000.0,
    "bought": [0 if n % 3 else START + n for n in range(EVENTS)],
    "day": 20_231_100 + RNG.integers(1, 31, EVENTS),
    "date": [n % 5 for n in range(EVENTS)],
}
FEEDBACK = {
    "rating": RNG.integers(1, 6, EVENTS),
    "watched": RNG.random(EVENTS) * 1e6,
    "price": RNG.integers(1, 10**6, EVENTS),
    "category_id": RNG.integers(1, 9, EVENTS),
    "click": RNG.integers(0, 2, EVENTS),
}


@pytest.mark.parametrize("name", ACCIDENTS)
def test_a_number_that_is_no_feedback_is_left_out_and_named(tmp_path: Path, name: str) -> None:
    column = pl.Series(name, ACCIDENTS[name])
    assert no_feedback(column) is not None
    dataset = prepare(SOUND.with_columns(column), tmp_path / "log", columns={"timestamp": "timestamp"})
    assert not dataset.fields
    assert any(f"Left out: '{name}', which" in note for note in dataset.manifest.notes)
    assert list(prepare(SOUND.with_columns(column), tmp_path / "kept", fields=[name]).fields) == [name]


@pytest.mark.parametrize("name", FEEDBACK)
def test_a_number_that_may_be_feedback_is_kept(name: str) -> None:
    assert no_feedback(pl.Series(name, FEEDBACK[name])) is None


@pytest.mark.parametrize(("yes", "no"), [("Y", "N"), ("yes", "no"), ("t", "f"), ("True", "False"), ("1", "0")])
def test_two_labels_are_binary(tmp_path: Path, yes: str, no: str) -> None:
    values = [None if n == 5 else yes if n % 3 == 0 else f" {no}" for n in range(EVENTS)]
    log = SOUND.with_columns(click=pl.Series(values), text=pl.Series([f"t{n % 2}" for n in range(EVENTS)]))
    dataset = prepare(log, tmp_path / "log")
    (field,) = dataset.manifest.fields
    assert (field.name, field.kind, field.positives) == ("click", "binary", (2,))
    assert dataset.fields["click"].tolist() == [-1 if n == 5 else int(n % 3 == 0) for n in range(EVENTS)]
    kept = prepare(log, tmp_path / "kept", fields={"click": {"kind": "categorical"}}).manifest.fields[0]
    assert kept.kind == "categorical" and yes in (kept.categories or ())


def test_a_column_whose_first_values_are_labels_only_is_no_label(tmp_path: Path) -> None:
    log = pl.concat([SOUND] * 20).with_columns(click=pl.Series(["Y"] * 1199 + ["perhaps"]))
    dataset = prepare(log, tmp_path / "log")
    assert not dataset.fields and any("'click', which is text" in note for note in dataset.manifest.notes)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1 + n % 2 for n in range(EVENTS)], r"'click' is 1 or 2 and nothing says .*\"positive\": \">= 2\""),
        ([5.5 if n % 2 else 0.5 for n in range(EVENTS)], "'click' is 0.5 or 5.5"),
        ([None if n % 2 else 1 for n in range(EVENTS)], "'click' is 1 or missing"),
    ],
)
def test_feedback_without_success_is_said(tmp_path: Path, values: list[float | None], says: str) -> None:
    notes = prepare(SOUND.with_columns(click=pl.Series(values)), tmp_path / "log").manifest.notes
    assert any(re.search(says, note) for note in notes)


GENRES = ["Drama", "Comedy War", "War", "Drama Comedy", "Science-Fiction War", "Comedy", "Drama War"]


@pytest.mark.parametrize("separator", [", ", ",", ";", "; "])
def test_values_of_a_list_tell_what_parts_them(separator: str) -> None:
    texts = [text.replace(" ", separator) for text in GENRES * 3]
    column, notes = parted(pl.Series("genres", [*texts, None, ""]), FeatureConfig(kind="multi"))
    assert column.to_list()[:3] == ["Drama", "Comedy|War", "War"]
    assert f"parted at {separator.strip()!r} into 4 distinct values" in notes[0]


def test_a_blank_parts_values_where_the_words_return() -> None:
    kinds = ("Drama", "Comedy", "Action", "War")
    texts = [" ".join(kind for place, kind in enumerate(kinds) if n >> place & 1) for n in range(1, 16)]
    column, _ = parted(pl.Series("genres", texts), FeatureConfig(kind="multi"))
    assert column.to_list() == [text.replace(" ", "|") for text in texts]
    names = pl.Series("actor", ["Ann Lee", "Bob Ray", "Cid Fox", "Dan Orr"])
    assert parted(names, FeatureConfig(kind="multi"))[0].to_list() == names.to_list()


def test_lists_as_python_and_json_write_them() -> None:
    column, _ = parted(pl.Series("genres", ["['Drama', 'War']", '["Comedy"]', "[]", None]), FeatureConfig(kind="multi"))
    assert column.to_list() == ["Drama|War", "Comedy", "", None]


def test_a_declared_separator_wins_and_is_of_lists() -> None:
    column, notes = parted(pl.Series("g", ["a/b c", "b c"]), FeatureConfig(kind="multi", separator="/"))
    assert column.to_list() == ["a|b c", "b c"] and not notes
    with pytest.raises(ConfigError, match="separator"):
        FeatureConfig(kind="numeric", separator="/")


@pytest.mark.parametrize(
    ("form", "advice"),
    [
        (" a{}", "without spaces"),
        ("A{}", "in one case"),
        ("00a{}", "without leading zeros"),
        ("a{}.0", "without what follows a decimal point"),
        ("x-a{}", "without prefixes"),
        ("a00{}", None),
    ],
)
def test_tables_that_do_not_meet_are_said(form: str, advice: str | None) -> None:
    log = pl.Series([f"a{n}" for n in range(10)])
    (note,) = meeting(pl.Series([form.format(n) for n in range(10)]), log, "item")
    assert note.startswith("0 of 10 items with events are in the item table: the log has 'a0', the table")
    assert advice is None or advice in note
    assert not meeting(log.head(5), log, "item") and meeting(log.head(4), log, "item")
