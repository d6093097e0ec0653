"""A dataset on disk: opened as it was written, refused when it is anything else; the order against its slow twin."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from facta.data.dataset.dataset import FORMAT, Dataset
from facta.data.dataset.digests import content_hash
from facta.data.dataset.schema import Field
from facta.data.log.order import history_order, stable_argsort, tied
from facta.data.log.prepare import prepare
from facta.errors import DataError


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    log = pl.DataFrame({"user_id": [1, 2, 1], "item_id": ["x", "y", "z"], "timestamp": [3, 2, 1], "like": [1, 0, 1]})
    return prepare(log, tmp_path / "log", unit="ms")


VALUES = st.one_of(
    st.integers(0, 3), st.integers(0, 2**40), st.integers(-(2**62), 2**62), st.integers(-(2**63), 2**63 - 1)
)


@given(arrays.arrays(np.int64, st.integers(0, 200), elements=VALUES))
def test_stable_argsort_is_numpys(values: np.ndarray) -> None:
    assert stable_argsort(values).tolist() == np.argsort(values, kind="stable").tolist()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=60), st.booleans())
def test_history_order_is_lexsort(pairs: list[tuple[int, int]], in_time_order: bool) -> None:
    pairs = sorted(pairs, key=lambda pair: pair[1]) if in_time_order else pairs
    user = np.array([u for u, _ in pairs], dtype=np.int32)
    time = np.array([t for _, t in pairs], dtype=np.int64)
    assert history_order(user, time).tolist() == np.lexsort((time, user)).tolist()
    assert history_order(user, None).tolist() == np.argsort(user, kind="stable").tolist()


@given(st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=8))
def test_ties_are_counted_within_users(times: list[list[int]]) -> None:
    histories = [sorted(history) for history in times]
    offsets = np.cumsum([0, *(len(history) for history in histories)])
    flat = np.array([t for history in histories for t in history], dtype=np.int64)
    expected = [history.count(t) > 1 for history in histories for t in history]
    assert tied(flat, offsets).tolist() == expected


def test_a_dataset_is_read_only_and_mapped(dataset: Dataset) -> None:
    assert isinstance(dataset.item, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        dataset.item[0] = 1
    assert (dataset.num_users, dataset.num_items, dataset.num_events) == (2, 3, 3)
    assert "2 users, 3 items, 3 events" in repr(dataset)


def test_ids_and_rows(dataset: Dataset) -> None:
    assert dataset.items["item_id"].to_list() == ["x", "y", "z"]
    assert dataset.items["row"].to_list() == [0, 1, 2]
    assert dataset.item_rows(["z", "x"]).tolist() == [2, 0]
    assert dataset.user_rows(np.array([2])).tolist() == [1]
    with pytest.raises(DataError, match="Unknown user 9"):
        dataset.user_rows([9])


def test_a_copy_elsewhere_is_the_same_dataset(dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.path, tmp_path / "copy")
    assert Dataset.open(tmp_path / "copy").content_hash == dataset.content_hash


def change(path: Path, **values: object) -> None:
    file = path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("name", ["histories/item.npy", "histories/offsets.npy", "histories/field-like.npy"])
@pytest.mark.parametrize("damage", ["missing", "torn", "empty", "short"])
def test_damage_is_named(dataset: Dataset, name: str, damage: str) -> None:
    file = dataset.path / name
    content = file.read_bytes()
    if damage == "short":
        np.save(file, np.load(file)[:-1])
    elif damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "empty" else content[:-3])
    with pytest.raises(DataError, match=f"{file.name}'.*prepare the dataset again"):
        Dataset.open(dataset.path)


def test_other_folders_and_newer_formats_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no prepared dataset"):
        Dataset.open(tmp_path)
    with pytest.raises(DataError, match="is no prepared dataset"):
        Dataset.open(dataset.path / "manifest.json")
    change(dataset.path, format=FORMAT + 1)
    with pytest.raises(DataError, match=f"format {FORMAT + 1}, this facta reads up to {FORMAT}"):
        Dataset.open(dataset.path)


@pytest.mark.parametrize("found", [0, -1, True, "1", 1.0, None])
def test_a_format_that_never_was_is_refused(dataset: Dataset, found: object) -> None:
    change(dataset.path, format=found)
    with pytest.raises(DataError, match=r"manifest of '.*' is not one of facta's"):
        Dataset.open(dataset.path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "x"}', '{"format": 1}', '{"users": "many"}'])
def test_a_broken_manifest_is_refused(dataset: Dataset, text: str) -> None:
    (dataset.path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="manifest"):
        Dataset.open(dataset.path)


def test_a_broken_table_is_refused(dataset: Dataset) -> None:
    (dataset.path / "items.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"items.parquet' cannot be read"):
        _ = Dataset.open(dataset.path).items


def test_an_altered_manifest_is_refused(dataset: Dataset) -> None:
    original = (dataset.path / "manifest.json").read_text()
    for alteration in (
        {"content_hash": "0" * 64},
        {"digests": {**dataset.manifest.digests, "item": "0" * 64}},
        {"has_time": False},
        {"items": 4},
    ):
        change(dataset.path, **alteration)
        with pytest.raises(DataError, match=r"manifest of '.*' was altered; prepare the dataset again"):
            Dataset.open(dataset.path)
        (dataset.path / "manifest.json").write_text(original)


@pytest.mark.parametrize("name", ["item", "timestamp", "field-like"])
def test_values_that_changed_places_are_found_when_opened(dataset: Dataset, name: str) -> None:
    """A file of the right size whose every value is possible: nothing else would tell."""
    file = dataset.path / "histories" / f"{name}.npy"
    np.save(file, np.roll(np.load(file), 1))
    with pytest.raises(DataError, match=rf"{name}\.npy' has another checksum than its manifest; prepare the dataset"):
        Dataset.open(dataset.path)
    Dataset.open(dataset.path, verify=False)


def test_an_altered_table_is_found_when_opened(dataset: Dataset) -> None:
    dataset.items.with_columns(item_id=pl.Series(["x", "z", "y"])).write_parquet(dataset.path / "items.parquet")
    with pytest.raises(DataError, match=r"items\.parquet' has another checksum"):
        Dataset.open(dataset.path)


def test_datasets_from_before_fields_said_more_keep_their_hash() -> None:
    field = Field(name="rating", kind="numeric", dtype="int8", file="field-rating")
    old = {"name": "rating", "role": "feedback", "kind": "numeric", "dtype": "int8", "file": "field-rating"}
    old |= {"undefined": None, "categories": None}
    text = json.dumps([[["item", "1"], ["offsets", "2"]], [old]], sort_keys=True)
    digests = {"offsets": "2", "item": "1"}
    assert content_hash(digests, [field]) == hashlib.sha256(text.encode()).hexdigest()
    others = [content_hash(digests, [field.change(boundaries=(1.0,))]), content_hash(digests, [field], [field])]
    assert len({content_hash(digests, [field]), *others}) == 3
