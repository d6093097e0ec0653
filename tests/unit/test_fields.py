"""What is declared of the log's columns: kinds, conditions, success, lateness; and values as codes."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import facta
from facta.data.dataset import codes as coding
from facta.data.dataset.codes import centers, codes, positive_codes, quantiles
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.schema import Field, FieldConfig, SchemaConfig
from facta.data.log.fields import late_share
from facta.data.log.prepare import prepare
from facta.errors import ConfigError, DataError

T = 1_700_000_000_000
LOG = pl.DataFrame(
    {
        "user_id": [1, 1, 1, 2, 2, 2],
        "item_id": [10, 20, 30, 10, 20, 30],
        "timestamp": [T, T + 10, T + 20, T, T + 10, T + 20],
        "click": [True, False, True, True, False, None],
        "rating": [4.5, 2.0, None, 4.5, 1.0, 3.5],
        "watched": [0.7, 0.1, 0.2, 0.3, 0.4, 0.9],
        "tab": [1, 10, 2, 1, None, 2],
    }
)


def field_of(dataset: Dataset, name: str) -> Field:
    return next(field for field in dataset.manifest.fields if field.name == name)


def codes_of(dataset: Dataset, name: str) -> list[int]:
    return codes(field_of(dataset, name), dataset.fields[name]).tolist()


def test_an_ordinal_field_has_levels_and_successes(tmp_path: Path) -> None:
    dataset = prepare(LOG, tmp_path / "log", fields={"rating": FieldConfig(kind="ordinal", positive=">= 3.5")})
    field = field_of(dataset, "rating")
    assert (field.kind, field.levels, field.codes) == ("ordinal", (1.0, 2.0, 3.5, 4.5), 5)
    assert (field.positives, field.positive_when) == ((3, 4), ">= 3.5")
    assert codes_of(dataset, "rating") == [4, 2, 0, 4, 1, 3]
    assert centers(field).tolist() == [1.0, 2.0, 3.5, 4.5]


def test_a_numeric_field_is_cut_at_quantiles_or_as_declared(tmp_path: Path) -> None:
    told = field_of(prepare(LOG, tmp_path / "told"), "watched")
    assert told.boundaries == pytest.approx((0.2, 0.3, 0.4, 0.7, 0.9)) and told.codes == 7 and not told.positives
    declared = FieldConfig(boundaries=(0.3, 0.7), positive=">= 0.4")
    dataset = prepare(LOG, tmp_path / "said", fields={"watched": declared})
    field = field_of(dataset, "watched")
    assert field.boundaries == (0.3, 0.4, 0.7)  # the number of the condition is exact
    assert codes_of(dataset, "watched") == [4, 1, 1, 2, 3, 4]  # 0.7, 0.3 and 0.4 are no less as float32
    assert field.positives == (3, 4)
    assert centers(field) == pytest.approx([0.3, 0.35, 0.55, 0.7])
    below = FieldConfig(positive="< 0.3")
    assert field_of(prepare(LOG, tmp_path / "below", fields={"watched": below}), "watched").positives == (1, 2)


def test_categories_may_be_numbers(tmp_path: Path) -> None:
    tab = FieldConfig(role="context", kind="categorical")
    dataset = prepare(LOG.with_columns(pl.col("tab").cast(pl.Float64)), tmp_path / "log", fields={"tab": tab})
    assert field_of(dataset, "tab").categories == ("1", "10", "2")
    assert codes_of(dataset, "tab") == [1, 2, 3, 1, 0, 3]
    event = FieldConfig(positive="in ('10', '2')", kind="categorical")
    assert field_of(prepare(LOG, tmp_path / "in", fields={"tab": event}), "tab").positives == (2, 3)


def test_binary_fields_have_three_codes(tmp_path: Path) -> None:
    dataset = prepare(LOG, tmp_path / "log", fields=["click"])
    field = field_of(dataset, "click")
    assert (field.kind, field.codes, field.positives) == ("binary", 3, (2,))
    assert codes_of(dataset, "click") == [2, 1, 2, 2, 1, 0]


def test_what_a_condition_holds_for_is_undefined(tmp_path: Path) -> None:
    rating = FieldConfig(kind="ordinal", undefined="NOT click OR watched >= 0.9")
    dataset = prepare(LOG, tmp_path / "log", fields={"rating": rating, "tab": "context"})
    assert codes_of(dataset, "rating") == [1, 0, 0, 1, 0, 0]
    assert field_of(dataset, "rating").levels == (4.5,)
    assert field_of(dataset, "rating").undefined_when == "NOT click OR watched >= 0.9"
    assert any("'rating' is undefined in 3 events by its condition" in note for note in dataset.manifest.notes)
    LOG.write_csv(tmp_path / "log.csv")
    other = prepare(tmp_path / "log.csv", tmp_path / "csv", fields={"rating": rating, "tab": "context"})
    assert other.content_hash == dataset.content_hash
    assert "watched" not in dataset.fields


def test_the_share_of_late_feedback_is_counted(tmp_path: Path) -> None:
    log = LOG.with_columns(rated=pl.Series([T + 11, T + 20, T + 99, None, T + 30, T + 30]))
    dataset = prepare(log, tmp_path / "log", fields={"rating": FieldConfig(time="rated")})
    # Of four ratings with a time, those of events 0 and 4 came after the next event; 1's with it, 5 has none behind.
    assert field_of(dataset, "rating").late == pytest.approx(2 / 4)
    said = "50.0% of the values of 'rating' with a time were given after the user's next event; models are not shown"
    assert any(note.startswith(said) for note in dataset.manifest.notes)
    early = log.with_columns(rated=pl.col("timestamp"))
    assert field_of(prepare(early, tmp_path / "b", fields={"rating": FieldConfig(time="rated")}), "rating").late == 0
    with pytest.raises(DataError, match="'rated' says when 'rating' was given, but the events have no times"):
        prepare(log.drop("timestamp"), tmp_path / "no", fields={"rating": FieldConfig(time="rated")})


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12), st.booleans()), max_size=5), max_size=5))
@settings(deadline=None)
def test_lateness_equals_its_slow_twin(histories: list[list[tuple[int, int, bool]]]) -> None:
    histories = [sorted(history) for history in histories]
    flat = [event for history in histories for event in history]
    late = sum(known and given > later[0] for history in histories for (_, given, known), later in pairwise(history))
    known = np.array([event[2] for event in flat], dtype=bool)
    time, given = (np.array([event[place] for event in flat], dtype=np.int64) for place in (0, 1))
    offsets = np.cumsum([0, *map(len, histories)])
    assert late_share(known, given, time, offsets) == late / max(1, known.sum())


def test_names_that_differ_in_case_alone_are_all_kept(tmp_path: Path) -> None:
    names = ["x", "x-1", "X", "x-2"]
    log = LOG.with_columns(pl.Series(name, range(place, place + len(LOG))) for place, name in enumerate(names))
    dataset = prepare(log, tmp_path / "log", fields=names)
    assert [field.name for field in dataset.manifest.fields] == names
    kept = {field.name: int(dataset.fields[field.name].min()) for field in dataset.manifest.fields}
    assert kept == {name: place for place, name in enumerate(names)}


REFUSED: dict[str, tuple[Any, str]] = {
    "no success": ({"rating": {"kind": "ordinal", "positive": "> 9"}}, "holds for no value of 'rating'"),
    "all succeed": ({"rating": {"kind": "ordinal", "positive": "> 0"}}, "holds for every value of 'rating'"),
    "no condition": ({"rating": {"kind": "ordinal", "positive": "good"}}, "expected a condition on its value"),
    "numeric equals": ({"watched": {"positive": "= 0.4"}}, "expected '>= NUMBER' or '< NUMBER'"),
    "no SQL": ({"rating": {"undefined": "click ="}}, "'click =' for 'rating' .*expected a condition on columns"),
    "no column": ({"rating": {"undefined": "1 = 1"}}, "no column in it"),
    "no truth": ({"rating": {"undefined": "watched + 1"}}, "its value is Float64"),
    "one value": ({"rating": {"undefined": "max(watched) > 0"}}, "its value is Boolean"),
    "unlike types": ({"rating": {"undefined": "tab = 'x'"}}, "expected a condition on columns of the log"),
    "text": ({"page": {"kind": "numeric"}}, "'page' is declared as numeric and holds text; expected numbers"),
    "no binary": ({"tab": {"kind": "binary"}}, "'tab' is declared as binary and holds values from 1 to 10"),
    "buckets": ({"click": {"boundaries": [1]}}, "Found boundaries for 'click', which is binary"),
    "buckets of levels": (
        {"rating": {"kind": "ordinal", "boundaries": [1]}},
        "Found boundaries for 'rating', which is ordinal",
    ),
    "descending": ({"watched": {"boundaries": [2, 1]}}, "each above the one before"),
    "no boundary": ({"watched": {"boundaries": []}}, "at least one boundary"),
    "context succeeds": ({"tab": {"role": "context", "positive": "= 1"}}, "context is known before the item"),
    "role": ({"tab": "item"}, r"Config key 'fields.tab' has the value 'item': input should be 'context' or 'feedback'"),
    "kind": ({"tab": {"kind": "vector"}}, "'fields.tab.kind' has the value 'vector'"),
    "key": ({"tab": {"rôle": "context"}}, "Unknown key 'rôle' for FieldConfig; valid keys: boundaries, kind"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_declarations_are_sentences(tmp_path: Path, name: str) -> None:
    fields, sentence = REFUSED[name]
    with pytest.raises(ConfigError, match=sentence):
        prepare(LOG.with_columns(page=pl.lit("x")), tmp_path / "log", fields=fields)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("declared", [{"undefined": "clicks = 0"}, {"time": "clicks"}])
def test_columns_that_are_not_there_are_named(tmp_path: Path, declared: dict[str, str]) -> None:
    with pytest.raises(DataError, match="no column 'clicks' to keep as a field, or to make one from; the log has"):
        prepare(LOG, tmp_path / "log", fields={"rating": declared})


def test_levels_are_few(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": [1] * 1001, "item_id": [1] * 1001, "score": range(1001)})
    with pytest.raises(ConfigError, match="'score' is declared as ordinal and has 1,001 distinct values"):
        prepare(log, tmp_path / "no", fields={"score": FieldConfig(kind="ordinal")})
    prepare(log[1:], tmp_path / "yes", fields={"score": FieldConfig(kind="ordinal")})


def test_a_schema_is_the_same_in_all_its_forms() -> None:
    whole = SchemaConfig(fields={"tab": FieldConfig(role="context")}, items={"genre": {"kind": "multi"}})
    assert SchemaConfig(fields={"tab": "context"}, items={"genre": "multi"}) == whole
    assert SchemaConfig.parse(whole.model_dump()) == whole
    assert SchemaConfig(fields=["tab"]) == SchemaConfig(fields={"tab": FieldConfig()}) != SchemaConfig()


def test_the_schema_of_the_documents_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    schema = SchemaConfig.parse(json.loads(text))
    assert schema.fields is not None and schema.fields["rating"].time == "rated_at" and schema.series


def test_quantiles_part_values_evenly_and_never_below_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    assert quantiles(np.arange(160)) == tuple(range(10, 160, 10))
    assert quantiles(np.array([1, 5, 5, 5])) == (5.0,)
    assert quantiles(np.array([3, 3])) == quantiles(np.array([])) == ()
    monkeypatch.setattr(coding, "_SAMPLE_VALUES", 100)
    assert quantiles(np.arange(10_000)) == pytest.approx(tuple(range(625, 10_000, 625)), abs=100)


def test_codes_of_every_kind_equal_a_slow_twin() -> None:
    rng = np.random.default_rng(0)
    numeric = Field(name="n", kind="numeric", dtype="int8", undefined=-1, boundaries=(2.5, 4.0))
    values = rng.integers(-1, 8, 50).astype(np.int8)
    expected = [0 if v == -1 else 1 + (v >= 2.5) + (v >= 4) for v in values.tolist()]
    assert codes(numeric, values).tolist() == expected
    flags = Field(name="f", kind="binary", dtype="float64")
    assert codes(flags, np.array([0.0, np.nan, 1.0])).tolist() == [1, 0, 2]
    one = Field(name="n", kind="numeric", dtype="int8", boundaries=())
    assert codes(one, np.array([1, 9])).tolist() == [1, 1] and centers(one).tolist() == [0.0]
    assert positive_codes(flags, "= 0") == (1,)


def test_a_line_for_each_action_is_made_into_events_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (code,) = [block for block in page.split("```python\n")[1:] if ".pivot(" in block]
    monkeypatch.chdir(tmp_path)
    lines = [("u", 1, 10, "view"), ("u", 2, 12, "view"), ("u", 1, 14, "cart"), ("u", 1, 15, "buy"), ("v", 2, 9, "view")]
    actions = pl.DataFrame(lines, schema=["user_id", "item_id", "timestamp", "event_type"], orient="row")
    actions.with_columns(pl.col("timestamp") + 1_700_000_000).write_parquet("actions.parquet")
    scope: dict[str, Any] = {"facta": facta}
    exec(compile(code.partition("```")[0], "data.md", "exec"), scope)
    dataset = scope["dataset"]
    assert (dataset.num_events, dataset.item.tolist()) == (3, [0, 1, 1])
    assert dataset.fields["buy"].tolist() == dataset.fields["cart"].tolist() == [1, 0, 0]
    late = {field.name: field.late for field in dataset.manifest.fields}
    assert late == {"cart": 1.0, "buy": 1.0}  # the one of each that there is
    (code,) = [block for block in page.split("```python\n")[1:] if "shop-lines" in block]
    exec(compile(code.partition("```")[0], "data.md", "exec"), scope)
    by_line = scope["by_line"]
    assert (by_line.num_events, by_line.item.tolist()) == (4, [0, 1, 0, 1])
    assert [one.name for one in by_line.manifest.fields] == ["action", "cart", "buy"]
    assert by_line.fields["buy"].tolist() == [1, 0, -1, 0] and by_line.delays["buy"].tolist() == [5000, -1, -1, -1]
