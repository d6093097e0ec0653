"""From a log to a dataset: right, whole, the same from every form, and never half of one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facta import durable
from facta.data.dataset.dataset import Dataset
from facta.data.log import resources as room
from facta.data.log.prepare import prepare
from facta.errors import DataError, FactaError, ResourceError

START = 1_700_000_000
LOG = pl.DataFrame(
    {
        "user_id": ["b", "a", "b", "a", "b"],
        "item_id": [30, 10, 10, 20, 10],
        "timestamp": [START + 2, START + 1, START, START + 1, START + 2],
        "rating": [5.0, 1.0, 2.5, 3.0, 4.0],
    }
)


def histories(dataset: Dataset) -> dict[object, list[tuple[object, ...]]]:
    """User id -> (item id, time, fields…) in order."""
    items = dataset.items["item_id"].to_list()
    columns = [
        [items[row] for row in dataset.item],
        *([] if dataset.timestamp is None else [dataset.timestamp.tolist()]),
        *(values.tolist() for values in dataset.fields.values()),
    ]
    events = list(zip(*columns, strict=True))
    return {
        user: events[start:stop]
        for user, start, stop in zip(
            dataset.users["user_id"], dataset.offsets[:-1].tolist(), dataset.offsets[1:].tolist(), strict=True
        )
    }


def debris(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_events_are_ordered_by_user_time_and_input_row(tmp_path: Path) -> None:
    dataset = prepare(LOG, tmp_path / "log")
    assert histories(dataset) == {
        "a": [(10, (START + 1) * 1000, 1.0), (20, (START + 1) * 1000, 3.0)],
        "b": [(10, START * 1000, 2.5), (30, (START + 2) * 1000, 5.0), (10, (START + 2) * 1000, 4.0)],
    }
    assert dataset.manifest.tied_share == pytest.approx(4 / 5)
    assert dataset.manifest.order == "user, timestamp, input row"
    assert dataset.manifest.unit == "s"
    assert (dataset.item.dtype, dataset.offsets.dtype) == (np.int32, np.int64)


EVENTS = st.lists(
    st.tuples(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4), st.text(min_size=1, max_size=3), st.integers(0, 5)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(EVENTS)
def test_any_log_equals_its_slow_twin(events: list[tuple[int, str, int]]) -> None:
    user, item, time = zip(*events, strict=True)
    log = pl.DataFrame(
        {"user": user, "item": item, "ts": time}, schema={"user": pl.Int64, "item": pl.String, "ts": pl.Int64}
    )
    with tempfile.TemporaryDirectory() as folder:
        dataset = prepare(log, Path(folder) / "log", unit="ms")
        expected: dict[object, list[tuple[object, ...]]] = {one: [] for one in sorted(set(user))}
        for u, i, t in sorted(events, key=lambda event: (event[0], event[2])):  # Python's sort is stable
            expected[u].append((i, t))
        assert histories(dataset) == expected


def test_content_is_the_same_from_every_form(tmp_path: Path) -> None:
    first = prepare(LOG, tmp_path / "first")
    LOG.write_parquet(tmp_path / "log.parquet")
    LOG.write_csv(tmp_path / "log.csv")
    LOG.write_ndjson(tmp_path / "log.jsonl")
    LOG[:2].write_parquet(tmp_path / "a.parquet")
    LOG[2:].write_parquet(tmp_path / "b.parquet")
    renamed = LOG.rename({"user_id": "userId", "item_id": "movieId", "timestamp": "time"})
    sources = [tmp_path / f"log.{kind}" for kind in ("parquet", "csv", "jsonl")]
    parts = [[tmp_path / "a.parquet", tmp_path / "b.parquet"]]
    for place, source in enumerate(
        [*sources, *parts, LOG.to_pandas(), LOG.to_arrow(), LOG.to_dicts(), renamed, LOG.select(LOG.columns[::-1])]
    ):
        dataset = prepare(source, tmp_path / f"log-{place}")
        assert dataset.content_hash == first.content_hash, source
        dataset.check()


@pytest.mark.parametrize(
    "other",
    [
        LOG.with_columns(item_id=pl.col("item_id") + 1),
        LOG.with_columns(timestamp=pl.col("timestamp") + 1),
        LOG.with_columns(rating=pl.col("rating") + 1),
        LOG.with_columns(user_id=pl.col("user_id") + "x"),
        LOG.rename({"rating": "stars"}),
        LOG.drop("timestamp"),
        LOG.drop("rating"),
        LOG[:4],
    ],
)
def test_other_content_has_another_hash(tmp_path: Path, other: pl.DataFrame) -> None:
    assert prepare(LOG, tmp_path / "a").content_hash != prepare(other, tmp_path / "b").content_hash


def test_logs_without_times_keep_their_order(tmp_path: Path) -> None:
    dataset = prepare(LOG.drop("timestamp"), tmp_path / "log")
    assert histories(dataset)["b"] == [(30, 5.0), (10, 2.5), (10, 4.0)]
    assert dataset.timestamp is None
    assert dataset.manifest.tied_share is None
    assert dataset.manifest.order == "user, input row"
    assert prepare(LOG, tmp_path / "log2", columns={"timestamp": ""}).timestamp is None


def test_fields_are_compact_and_keep_every_value(tmp_path: Path) -> None:
    log = pl.DataFrame(
        {
            "user_id": [1, 1, 1],
            "item_id": [1, 2, 3],
            "like": [True, None, False],
            "stars": [1, 5, 3],
            "plays": [100, 300, None],
            "debt": [-200, None, 7],
            "share": [0.25, float("nan"), 0.1],
            "whole": [4.0, None, 2.0],
            "endless": [1.5, float("inf"), 2.5],
            "event_type": ["view", "buy", None],
            "comment": ["free", "text", "!"],
        }
    )
    dataset = prepare(log, tmp_path / "log")
    found = {field.name: (field.kind, field.dtype, field.undefined) for field in dataset.manifest.fields}
    assert found == {
        "like": ("binary", "int8", -1),
        "stars": ("numeric", "int8", None),
        "plays": ("numeric", "int16", -1),
        "debt": ("numeric", "int16", -201),
        "share": ("numeric", "float32", None),
        "whole": ("numeric", "int8", -1),
        "endless": ("numeric", "float32", None),
        "event_type": ("categorical", "int8", -1),
    }
    assert {field.role for field in dataset.manifest.fields} == {"feedback"}
    assert dataset.fields["like"].tolist() == [1, -1, 0]
    assert dataset.fields["plays"].tolist() == [100, 300, -1]
    assert dataset.fields["debt"].tolist() == [-200, -201, 7]
    assert dataset.fields["event_type"].tolist() == [1, 0, -1]
    assert next(f for f in dataset.manifest.fields if f.name == "event_type").categories == ("buy", "view")
    assert np.isnan(dataset.fields["share"][1])
    notes = " ".join(dataset.manifest.notes)
    assert "Left out: comment." in notes
    assert "1 infinite values of 'endless' are stored as undefined" in notes


def test_declared_fields_are_kept_and_nothing_else(tmp_path: Path) -> None:
    log = LOG.with_columns(hour=pl.Series([1, 2, 3, 4, 5]), page=pl.Series(["x", "y", "x", "x", "x"]))
    dataset = prepare(log, tmp_path / "log", fields={"hour": "context", "page": "feedback"})
    assert [(field.name, field.role, field.kind) for field in dataset.manifest.fields] == [
        ("hour", "context", "numeric"),
        ("page", "feedback", "categorical"),
    ]
    assert prepare(log, tmp_path / "none", fields=[]).fields == {}
    with pytest.raises(DataError, match="no column 'x' to keep"):
        prepare(log, tmp_path / "no", fields=["x"])
    with pytest.raises(DataError, match="'item_id' is a user, item or time already"):
        prepare(log, tmp_path / "no", fields=["item_id"])


def test_field_names_of_any_kind_have_files_of_their_own(tmp_path: Path) -> None:
    log = LOG.with_columns(
        pl.lit(1).alias("a/b"), pl.lit(2).alias("a b"), pl.lit(3).alias("A_B"), pl.lit(4).alias("item")
    )
    fields = prepare(log, tmp_path / "log").fields
    assert {name: int(values[0]) for name, values in fields.items() if name != "rating"} == {
        "a/b": 1,
        "a b": 2,
        "A_B": 3,
        "item": 4,
    }


def test_items_without_events_have_rows_and_titles(tmp_path: Path) -> None:
    table = pl.DataFrame({"movieId": [20, 99, 10, 10], "name": ["Zwölf", "Never rated", "Ten", "Ten again"], "row": 7})
    table.write_csv(tmp_path / "items.csv")
    dataset = prepare(LOG, tmp_path / "log", items=tmp_path / "items.csv")
    assert dataset.items.columns == ["row", "item_id", "title"]
    assert dict(zip(dataset.items["item_id"], dataset.items["title"], strict=True)) == {
        10: "Ten",
        20: "Zwölf",
        30: None,
        99: "Never rated",
    }
    assert any("1 lines of the item table repeat an id" in note for note in dataset.manifest.notes)
    with pytest.raises(DataError, match="are text, such as 'x', and those of the log whole numbers, such as 10"):
        prepare(LOG, tmp_path / "no", items=pl.DataFrame({"item_id": ["x"]}))
    with pytest.raises(DataError, match="1 lines without an id in 'item_id'"):
        prepare(LOG, tmp_path / "no", items=pl.DataFrame({"item_id": [10, None]}))


def test_repeated_events_of_files_that_disagree_are_one_sentence(tmp_path: Path) -> None:
    """To compare events in every column, the columns that are left out are read as well."""
    for name, comment in (("a", "1"), ("b", "fine")):
        LOG.with_columns(comment=pl.lit(comment)).write_csv(tmp_path / f"{name}.csv")
    logs = [tmp_path / "a.csv", tmp_path / "b.csv"]
    with pytest.raises(DataError, match=r"100% of the events of '.*\.csv' are in another file"):
        prepare(logs, tmp_path / "no", fields=[])
    with pytest.raises(DataError, match=r"'comment' is String in '.*b\.csv' and Int64 elsewhere"):
        prepare(logs, tmp_path / "no", fields=[], drop=("duplicates",))
    assert not (tmp_path / "no").exists()


def test_the_item_table_may_use_the_log_s_own_name_for_its_ids(tmp_path: Path) -> None:
    log = LOG.with_columns(vid=pl.Series(["007", "8", "8", "9", "8"])).drop("item_id")
    pl.DataFrame({"vid": ["007", "8"], "movie": ["Goldfinger", "Eight"], "item_id": [1, 2]}).write_csv(
        tmp_path / "items.csv"
    )
    dataset = prepare(log, tmp_path / "log", items=tmp_path / "items.csv", columns={"item_id": "vid"})
    assert dataset.items.columns == ["row", "item_id", "movie"]
    assert dataset.items["item_id"].to_list() == ["007", "8", "9"]  # digits as they are in the log
    assert dataset.items["movie"].to_list() == ["Goldfinger", "Eight", None]
    assert any("Left out 'item_id' of the item table" in note for note in dataset.manifest.notes)


@pytest.mark.parametrize(
    ("columns", "found"),
    [(["what", "price"], "no item ids among what, price"), (["movie_id", "asin"], "'movie_id' and 'asin'")],
)
def test_an_item_table_without_a_column_of_ids_says_what_to_rename(
    tmp_path: Path, columns: list[str], found: str
) -> None:
    """No option names the columns of the item table."""
    table = pl.DataFrame({name: [10, 20] for name in columns})
    with pytest.raises(DataError, match=rf"^Found {found} in the item table; .* rename it to 'item_id'\.$"):
        prepare(LOG, tmp_path / "no", items=table)
    with pytest.raises(DataError, match=r"rename it to 'item_id' or 'vid'\.$"):
        prepare(LOG.rename({"item_id": "vid"}), tmp_path / "no", items=table, columns={"item_id": "vid"})


def test_users_in_the_item_table_are_features(tmp_path: Path) -> None:
    table = pl.DataFrame({"item_id": [10, 20], "user": ["u", "v"], "customer": ["w", "x"]})
    assert prepare(LOG, tmp_path / "log", items=table).items["customer"].to_list() == ["w", "x", None]


def test_a_catalogue_keeps_its_rows(tmp_path: Path) -> None:
    first = prepare(LOG, tmp_path / "first", items=pl.DataFrame({"item_id": [10, 30], "title": ["Ten", "Thirty"]}))
    later = LOG.with_columns(item_id=pl.Series([5, 30, 30, 7, 5]))
    table = pl.DataFrame({"item_id": [5, 30], "title": ["Five", None], "year": [2000, 2001]})
    dataset = prepare(later, tmp_path / "later", catalogue=first.path, items=table)
    assert dataset.items["item_id"].to_list() == [10, 20, 30, 5, 7]
    assert dataset.items["title"].to_list() == ["Ten", None, "Thirty", "Five", None]
    assert dataset.items["year"].to_list() == [None, None, 2001, 2000, None]
    assert dataset.item_rows(first.items["item_id"]).tolist() == first.items["row"].to_list()
    with pytest.raises(DataError, match=r"no items.parquet"):
        prepare(LOG, tmp_path / "no", catalogue=tmp_path / "nowhere")
    first.items.reverse().write_parquet(tmp_path / "mixed.parquet")
    with pytest.raises(DataError, match="do not count 0, 1, 2"):
        prepare(LOG, tmp_path / "no", catalogue=tmp_path / "mixed.parquet")


def with_column(name: str, values: list[object], kind: pl.DataType | None = None) -> pl.DataFrame:
    return LOG.with_columns(pl.Series(name, values, dtype=kind))


NAN = float("nan")
REFUSED = {
    "no user": (with_column("user_id", ["a", None, "b", "", "a"]), "2 events without user id.*--drop invalid"),
    "no item": (with_column("item_id", [1, 2, None, 4, 5]), "1 event without item id"),
    "nan item": (with_column("item_id", [1.0, 2.0, NAN, 4.0, 5.0]), "1 event without item id"),
    "broken item": (with_column("item_id", [1.0, 2.5, 3.0, 4.0, 5.0]), "such as 2.5, which may have lost digits"),
    "no time": (with_column("timestamp", [START, None, START, START, START]), "1 missing time"),
    "nan time": (with_column("timestamp", [1.7e9, NAN, 1.7e9, 1.7e9, 1.5e9]), "1 missing time"),
    "negative time": (with_column("timestamp", [START, -1, START, START, START]), "1 time before 1973"),
    "far future": (with_column("timestamp", [START, 9 * 10**9, START, START, START]), "1 time beyond the year 2100"),
    "mixed units": (with_column("timestamp", [START, START * 1000, START, START, START]), r"mixes seconds \(4\)"),
    "small times": (with_column("timestamp", [1, 2, 3, 4, 5]), "cannot be told from values of 1 to 5"),
    "lists": (with_column("item_id", [[1], [2], [3], [4], [5]]), "item ids are whole numbers or text"),
    "no events": (LOG.clear(), "no events"),
    "no columns": (LOG.select("rating"), "No column was recognised as user_id or item_id among: rating"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_broken_logs_are_refused_and_leave_nothing(tmp_path: Path, name: str) -> None:
    log, sentence = REFUSED[name]
    with pytest.raises(DataError, match=sentence):
        prepare(log, tmp_path / "log")
    assert debris(tmp_path) == []


def test_a_unit_without_times_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column of the log is recognised as timestamp"):
        prepare(LOG.drop("timestamp"), tmp_path / "log", unit="s")


def test_invalid_and_duplicate_events_are_dropped_on_demand(tmp_path: Path) -> None:
    log = pl.concat(
        [LOG, LOG[1:3], LOG[:2].with_columns(user_id=pl.lit(None)), LOG[:1].with_columns(timestamp=pl.lit(0, pl.Int64))]
    )
    dataset = prepare(log, tmp_path / "log", drop=("duplicates", "invalid"))
    assert dataset.content_hash == prepare(LOG, tmp_path / "clean").content_hash
    assert dataset.manifest.notes == (
        "Dropped 2 events that repeated an earlier one in every column.",
        "Dropped 3 events without a user, an item or a possible time.",
    )
    with pytest.raises(DataError, match="Found 'all' to drop; expected one of: duplicates, invalid"):
        prepare(log, tmp_path / "no", drop=("all",))  # type: ignore[arg-type]


def test_whole_floats_are_a_stated_repair(tmp_path: Path) -> None:
    dataset = prepare(LOG.with_columns(pl.col("item_id").cast(pl.Float64)), tmp_path / "log")
    assert dataset.content_hash == prepare(LOG, tmp_path / "clean").content_hash
    assert dataset.manifest.notes == (
        "The ids in 'item_id' were written with decimals; all are whole and were read exactly.",
    )


def test_files_that_write_one_id_two_ways_tell_of_one_user(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"user,item,ts\n1,7,{START}\n2,8,{START}\n")
    (tmp_path / "b.csv").write_text(f"user,item,ts\n1.0,7,{START + 1}\nnan,8,{START}\n")
    with pytest.raises(DataError, match="'user' has 1 event without user id"):
        prepare([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "no")
    dataset = prepare([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "log", drop=("invalid",))
    assert dataset.users["user_id"].to_list() == [1, 2]
    assert dataset.manifest.notes == (
        "Dropped 1 event without a user, an item or a possible time.",
        "The ids in 'user' were written with decimals; all are whole and were read exactly.",
    )


def test_csv_keeps_64_bit_ids_zeros_and_unicode(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"user,item,ts\n{2**64 - 1},007,1700000000\n{2**53 + 1},naïve 🎬,1700000001\n")
    dataset = prepare(tmp_path / "log.csv", tmp_path / "log")
    assert dataset.users["user_id"].to_list() == [2**53 + 1, 2**64 - 1]
    assert dataset.items["item_id"].to_list() == ["007", "naïve 🎬"]
    assert dataset.user_rows([2**64 - 1]).tolist() == [1]


def test_only_a_dataset_is_replaced_and_only_on_demand(tmp_path: Path) -> None:
    place = tmp_path / "log"
    first = prepare(LOG, place)
    with pytest.raises(DataError, match=r"exists already.*--overwrite"):
        prepare(LOG[:3], place)
    assert Dataset.open(place).content_hash == first.content_hash
    assert prepare(LOG[:3], place, overwrite=True).num_events == 3
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"no prepared dataset.*will not be touched"):
        prepare(LOG, other, overwrite=True)
    assert debris(other) == ["thesis.tex"]
    assert debris(tmp_path) == ["log", "other"]
    (tmp_path / "empty").mkdir()
    assert prepare(LOG, tmp_path / "empty").num_events == 5


def test_a_failed_replacement_keeps_the_old_dataset(tmp_path: Path) -> None:
    first = prepare(LOG, tmp_path / "log")
    with pytest.raises(DataError):
        prepare(REFUSED["no item"][0], tmp_path / "log", overwrite=True)
    assert Dataset.open(tmp_path / "log").content_hash == first.content_hash
    assert debris(tmp_path) == ["log"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("step", ["_flush", "_take_the_name", "_take_a_free_name"])
def test_what_a_disk_refuses_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(durable, step, fail)
    with pytest.raises(ResourceError, match="Cannot write"):
        prepare(LOG, tmp_path / "log", overwrite=step == "_take_the_name")
    assert debris(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("facta.data.log.prepare.tied", interrupt)  # when the first arrays are on the disk already
    with pytest.raises(KeyboardInterrupt):
        prepare(LOG, tmp_path / "log")
    assert debris(tmp_path) == []


FULL = """
import resource, signal, sys
from facta.data.log.prepare import prepare
from facta.errors import ResourceError
import polars as pl
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    ids = range(50_000)
    if sys.argv[2] == "array":
        prepare(pl.DataFrame({"user_id": ids, "item_id": ids}), sys.argv[1])
    else:
        prepare(pl.DataFrame({"user_id": [1], "item_id": [1]}), sys.argv[1], items=pl.DataFrame({"item_id": ids}))
except ResourceError as error:
    print(error)
"""


@pytest.mark.parametrize(("of", "advice"), [("array", "free some space"), ("table", "has room")])
def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, of: str, advice: str) -> None:
    """A limit on file size is the nearest to a full disk that needs no rights."""
    command = [sys.executable, "-c", FULL, tmp_path / "log", of]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Cannot write" in run.stdout and "File too large" in run.stdout and advice in run.stdout
    assert debris(tmp_path) == []


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="Cannot write"):
        prepare(LOG, tmp_path / "file" / "log")


def test_memory_is_projected_first_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    prepare(LOG, tmp_path / "log", progress=lambda text, _: told.append(text))
    columns, memory = told[:2]
    assert columns == "user_id = 'user_id', item_id = 'item_id', timestamp = 'timestamp'."
    assert "about 5 events" in memory
    assert "of memory needed" in memory
    monkeypatch.setattr(room, "memory_free", lambda: 100)
    with pytest.raises(ResourceError, match=r"5 events needs about .* of memory, 100 bytes is free"):
        prepare(LOG, tmp_path / "more")
    monkeypatch.undo()
    monkeypatch.setattr(room, "disk_free", lambda _: 10)
    with pytest.raises(ResourceError, match=r"needs up to .*, 10 bytes is free"):
        prepare(LOG, tmp_path / "more")
    assert debris(tmp_path) == ["log"]


def test_many_at_once_do_not_meet(tmp_path: Path) -> None:
    """Two preparations of one place: one wins, whole; the other is told."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(prepare(LOG, tmp_path / "log", overwrite=True))
        except FactaError as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(isinstance(result, Dataset) for result in results)
    Dataset.open(tmp_path / "log").check()
    assert debris(tmp_path) == ["log"]


def test_a_new_title_wins_over_that_of_an_old_catalogue(tmp_path: Path) -> None:
    old = pl.DataFrame({"item_id": [10, 20, 30], "title": ["Old ten", "Old twenty", "Old thirty"]})
    first = prepare(LOG, tmp_path / "first", items=old)
    new = pl.DataFrame({"item_id": [20, 10], "title": [None, "New ten"]})
    dataset = prepare(LOG, tmp_path / "later", catalogue=first.path, items=new)
    assert dataset.items["title"].to_list() == ["New ten", "Old twenty", "Old thirty"]
