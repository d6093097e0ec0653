"""A dataset and its artifacts say what the ids of a log are, and posted ids are written as they are."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from facta.data.dataset.dataset import Dataset, Manifest
from facta.data.log.prepare import prepare
from facta.errors import DataError
from facta.store.posted import Words


def log(tmp_path: Path, user: list[object], item: list[object]) -> Dataset:
    frame = pl.DataFrame({"user_id": user, "item_id": item, "timestamp": [1_700_000_000, 1_700_000_001]})
    return prepare(frame, tmp_path / "log", overwrite=True)


def test_the_manifest_says_what_ids_are(tmp_path: Path) -> None:
    assert log(tmp_path, [1, 2], ["a", "b"]).manifest.ids == {"user": "number", "item": "text"}
    assert log(tmp_path, ["1", "x"], [2**63, 1]).manifest.ids == {"user": "text", "item": "number"}


def test_words_write_ids_as_the_log_does(tmp_path: Path) -> None:
    words = Words(log(tmp_path, [1, 2], ["a", "b"]).manifest.model_dump(mode="json"))
    assert words.id("17", "user") == 17 == words.id(17, "user") and words.id(17, "item") == "17"
    with pytest.raises(DataError, match="whole numbers"):
        words.id("seventeen", "user")


def test_an_older_manifest_says_nothing_and_means_the_same(tmp_path: Path) -> None:
    made = log(tmp_path, [1, 2], ["a", "b"])
    values = made.manifest.model_dump(mode="json")
    del values["ids"]
    older = Manifest.parse(values)
    assert older.ids is None and older.content_hash == made.content_hash
    made.manifest = older
    made.check()  # the content hash of what is there is that of the manifest
    words = Words(values)
    assert words.id("17", "user") == "17" and words.id(17, "user") == 17
