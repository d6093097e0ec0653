"""Hashes of content: whatever can change a result changes the hash."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from facta import prepare
from facta.data.dataset.digests import table_digest
from tests.unit.test_prepare import LOG


def digest(**columns: object) -> str:
    return table_digest(pl.DataFrame(columns))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": ["ab", "c"]}, {"a": ["a", "bc"]}),
        ({"a": ["", "a"]}, {"a": ["a", ""]}),
        ({"a": [None, "a"]}, {"a": ["", "a"]}),
        ({"a": [None, 1]}, {"a": [0, 1]}),
        ({"a": [1, 2]}, {"b": [1, 2]}),
        ({"a": [1], "b": [2]}, {"b": [2], "a": [1]}),
        ({"a": [1]}, {"a": [1.0]}),
        ({"a": [1.0]}, {"a": [None]}),
        ({"a": [["x", "y"]]}, {"a": [["x"]]}),
        ({"a": [1, 2], "b": [3, 4]}, {"a": [1, 2, 3, 4]}),
    ],
)
def test_tables_that_differ_have_other_digests(one: dict[str, object], other: dict[str, object]) -> None:
    assert digest(**one) == digest(**one)
    assert digest(**one) != digest(**other)


def test_what_counts_as_success_is_content(tmp_path: Path) -> None:
    log = LOG.with_columns(rating=pl.Series([1 + number % 5 for number in range(len(LOG))]))
    found = {
        prepare(log, tmp_path / f"{place}", fields={"rating": {"kind": "ordinal", **more}}).content_hash
        for place, more in enumerate(({}, {"positive": ">= 4"}, {"positive": ">= 3"}))
    }
    assert len(found) == 3


def test_the_name_of_a_column_is_content(tmp_path: Path) -> None:
    log = LOG.with_columns(rating=pl.Series([1 + number % 5 for number in range(len(LOG))]))
    one = prepare(log, tmp_path / "one").content_hash
    assert prepare(log.rename({"rating": "stars"}), tmp_path / "two").content_hash != one
