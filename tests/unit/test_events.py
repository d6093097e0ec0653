"""Logs as they come: every form gives the same events; what cannot be told is asked for, never guessed."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from facta.data.dataset.schema import recognise
from facta.data.dataset.times import to_milliseconds
from facta.data.log.events import open_events
from facta.errors import DataError

LOG = pl.DataFrame(
    {"user_id": [7, 3, 7], "item_id": ["b", "ü", "a"], "timestamp": [1_700_000_000 + i for i in range(3)]}
)


def forms(folder: Path) -> dict[str, object]:
    """The same log in every form that is read."""
    LOG.write_parquet(folder / "log.parquet")
    LOG.write_csv(folder / "log.csv")
    LOG.write_csv(folder / "log.tsv", separator="\t")
    LOG.write_ndjson(folder / "log.jsonl")
    for name in ("log.csv", "log.jsonl"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    parts = folder / "parts"
    parts.mkdir()
    LOG[:1].write_parquet(parts / "part-0.parquet")
    LOG[1:].write_parquet(parts / "part-1.parquet")
    paths = {path.name: path for path in folder.iterdir() if path.is_file()}
    return {
        **paths,
        "glob": str(parts / "part-*.parquet"),
        "folder": parts,
        "list": [parts / "part-0.parquet", parts / "part-1.parquet"],
        "polars": LOG,
        "lazy": LOG.lazy(),
        "arrow": LOG.to_arrow(),
        "pandas": LOG.to_pandas(),
        "mapping": LOG.to_dict(as_series=False),
    }


def test_every_form_gives_the_same_events(tmp_path: Path) -> None:
    for name, source in forms(tmp_path).items():
        log = open_events(source).loaded(LOG.columns)
        assert log.num_events() == 3, name
        assert log.column("item_id").to_list() == ["b", "ü", "a"], name
        assert log.column("timestamp").to_list() == LOG["timestamp"].to_list(), name
        assert [int(user) for user in log.column("user_id")] == [7, 3, 7], name


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["user", "item", "ts"], ("user", "item", "ts")),
        (["userId", "movieId", "rating", "timestamp"], ("userId", "movieId", "timestamp")),
        (["uid", "video_id", "date", "time_ms"], ("uid", "video_id", "time_ms")),
        (["user_id:token", "item_id:token", "timestamp:float"], ("user_id:token", "item_id:token", "timestamp:float")),
        (["USER_ID", "item_id", "item", "event_time"], ("USER_ID", "item_id", "event_time")),
        (["customer_id", "article_id", "price"], ("customer_id", "article_id", None)),
    ],
)
def test_names_are_recognised(columns: list[str], expected: tuple[str | None, ...]) -> None:
    mapping = recognise(columns)
    assert tuple(mapping.get(role) for role in ("user_id", "item_id", "timestamp")) == expected


def test_names_that_cannot_be_told_are_asked_for() -> None:
    with pytest.raises(DataError, match=r"user_id among: who, item.*--column user_id=NAME"):
        recognise(["who", "item"])
    with pytest.raises(DataError, match="Both 'movie_id' and 'video_id'"):
        recognise(["user_id", "movie_id", "video_id"])
    assert (
        recognise(["who", "movie_id", "video_id"], {"user_id": "who", "item_id": "video_id"})["item_id"] == "video_id"
    )
    with pytest.raises(DataError, match=r"no column 'x'.*the columns are: user_id, item_id"):
        recognise(["user_id", "item_id"], {"user_id": "x"})
    assert "timestamp" not in recognise(["user_id", "item_id", "time"], {"timestamp": ""})


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("kind", [pl.Int64, pl.UInt64, pl.Float64, pl.String])
def test_units_are_detected(unit: str, kind: type[pl.DataType]) -> None:
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    seconds = [874_724_710, 1_700_000_000, 4_000_000_000]
    times = to_milliseconds(pl.Series("t", [value * scale for value in seconds]).cast(kind))
    assert (times.unit, times.bad) == (unit, 0)
    assert times.milliseconds.to_list() == [value * 1000 for value in seconds]


@pytest.mark.parametrize(
    "texts",
    [
        ["2024-05-31T12:00:00Z", "2024-05-31T14:00:00.5+02:00"],
        ["2024-05-31 12:00:00", "2024-05-31 12:00:00.500"],
        ["2024-05-31T12:00", "2024-05-31T12:00:00.5"],
    ],
)
def test_iso_texts_are_utc(texts: list[str]) -> None:
    assert to_milliseconds(pl.Series("t", texts)).milliseconds.to_list() == [1_717_156_800_000, 1_717_156_800_500]


def test_datetimes_of_any_zone_and_unit() -> None:
    naive = pl.Series("t", [1_717_156_800_000_000]).cast(pl.Datetime("us"))
    zoned = naive.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
    for times in (naive, naive.cast(pl.Datetime("ns")), zoned):
        assert to_milliseconds(times).milliseconds.to_list() == [1_717_156_800_000]
    assert to_milliseconds(pl.Series("t", ["2024-05-31"]).str.to_date()).milliseconds.to_list() == [1_717_113_600_000]
    assert to_milliseconds(naive + pl.Series([1]).cast(pl.Duration("us"))).finer


def test_fractions_of_a_second_survive() -> None:
    times = to_milliseconds(pl.Series("t", [1_650_812_741.436, 1_650_812_741.5]))
    assert times.milliseconds.to_list() == [1_650_812_741_436, 1_650_812_741_500]
    second, thousandths = 1_650_812_741, np.arange(1000)
    written = second + thousandths / 1000
    for seconds in (written, np.nextafter(written, 0), np.nextafter(written, np.inf)):  # as sums of floats come out
        found = to_milliseconds(pl.Series("t", seconds)).milliseconds
        assert found.to_list() == (second * 1000 + thousandths).tolist()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([1_700_000_000, 1_700_000_000_000], r"mixes seconds \(1\) and milliseconds \(1\)"),
        ([1, 2, 3], "cannot be told from values of 1 to 3.*--unit"),
        (["2024-01-01", "1700000000"], "1 times that are no ISO 8601 text, such as '1700000000'"),
        (["2024-01-01T00:00:00Z", "2024-01-01T00:00:00"], "with and without a time zone"),
        (["31/12/2024"], "no ISO 8601 text"),
        (["2024-13-45"], "1 time that cannot be read, such as '2024-13-45'"),
        (["2024-05-31", "2024-05-31 25:00"], "1 time that cannot be read, such as '2024-05-31 25:00'"),
        (["2024-05-31 10:00:00 CET"], "cannot be read, such as '2024-05-31 10:00:00 CET'"),
        ([True, False], "has type Boolean"),
    ],
)
def test_times_that_cannot_be_told_are_refused(values: list[object], sentence: str) -> None:
    import re

    try:
        found = to_milliseconds(pl.Series("t", values)).why
    except DataError as error:
        found = str(error)
    assert re.search(sentence, found), found


@pytest.mark.parametrize(
    "text",
    ["2024-05-31 12:30:00 UTC", "2024-05-31T12:30:00 GMT", "2024-05-31 14:30:00 +0200", " 2024-05-31T12:30:00Z "],
)
def test_a_zone_is_read_as_people_write_it(text: str) -> None:
    times = to_milliseconds(pl.Series("t", [text, None]))
    assert times.milliseconds.to_list() == [1_717_158_600_000, None]
    assert times.why.startswith("Column 't' has 1 missing")


@pytest.mark.parametrize(
    ("values", "count", "why"),
    [
        ([1_700_000_000, None], 1, "1 missing time"),
        ([1_700_000_000.0, float("nan"), float("inf")], 2, "missing times"),
        ([1_700_000_000, 0, -5], 2, "2 times before 1973"),
        ([1_700_000_000, 5_000_000_000], 1, "1 time beyond the year 2100"),
    ],
)
def test_impossible_times_are_counted(values: list[float | None], count: int, why: str) -> None:
    times = to_milliseconds(pl.Series("t", values))
    assert times.bad == count
    assert why in times.why
    assert times.milliseconds.to_list()[0] == 1_700_000_000_000


def test_a_declared_unit_is_believed() -> None:
    assert to_milliseconds(pl.Series("t", [0, 1, 2]), "s").milliseconds.to_list() == [0, 1000, 2000]
    with pytest.raises(DataError, match="unit 'minutes'; valid units: s, ms, us, ns"):
        to_milliseconds(pl.Series("t", [0]), "minutes")
    with pytest.raises(DataError, match="need no unit"):
        to_milliseconds(pl.Series("t", ["2024-05-31"]), "s")


def test_a_late_line_of_another_type_changes_the_type(tmp_path: Path) -> None:
    """Types are guessed from the first 10,000 lines; the guess may be wrong."""
    lines = ["user,item,rating,note"] + [f"{i},x,3," for i in range(10_001)] + ["5,x,3.5,7"]
    (tmp_path / "late.csv").write_text("\n".join(lines))
    log = open_events(tmp_path / "late.csv").loaded(["user", "item", "rating", "note"])
    assert log.column("rating")[-1] == 3.5
    assert log.column("note")[-1] == 7


def test_a_column_that_comes_late_in_json_lines_is_found(tmp_path: Path) -> None:
    lines = [json.dumps({"user": 1, "item": 1})] * 2000 + [json.dumps({"user": 1, "item": 2, "like": 1})]
    (tmp_path / "late.jsonl").write_text("\n".join(lines))
    log = open_events(tmp_path / "late.jsonl").loaded(["user", "item", "like"])
    assert log.column("like").sum() == 1


def write(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


CSV = "user,item,time\n1,2,1700000000\n"


@pytest.mark.parametrize(
    ("files", "pattern", "sentence"),
    [
        ({"a__csv": ""}, "a.csv", "'.*a.csv' is empty"),
        ({"a__csv": "1,2,3\n4,5,6\n"}, "a.csv", "holds values.*put a header line"),
        ({"a__csv": "user item\n1 2\n"}, "a.csv", "has one column"),
        ({"a__csv": "user,user,item\n1,2,3\n"}, "a.csv", "two columns named 'user'"),
        ({"a__csv": CSV + "1,2,3,4,5\n"}, "a.csv", "cannot be read as CSV"),
        ({"a__csv": b"user,item\n\xff\xfe,2\n"}, "a.csv", "cannot be read as UTF-8: line 2 has the byte 0xff"),
        ({"a__csv": CSV, "b__csv": CSV}, "*.csv", "a.csv' and '.*b.csv' are the same"),
        ({"a__csv": CSV, "b__jsonl": "{}"}, "*", "mix CSV and JSON-lines"),
        ({"a__xlsx": "x"}, "a.xlsx", "no known format"),
        ({}, "a.csv", "no file '.*a.csv'"),
        ({}, "", "No file was found"),
        (
            {"a__csv__gz": gzip.compress(CSV.encode() * 9999, mtime=0)[:100]},
            "a.csv.gz",
            "cannot be read as CSV.*cut off",
        ),
        ({"a__parquet": "PAR1 and nothing"}, "a.parquet", "cannot be read as Parquet"),
        ({"a__parquet": ""}, "a.parquet", "is empty"),
        ({"a__jsonl": '{"user": 1, "item": 2}\n{"user": 1, "it'}, "a.jsonl", "Line 2 of .* is not JSON.*was cut off"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, files: dict[str, str | bytes], pattern: str, sentence: str
) -> None:
    folder = write(tmp_path, **files)
    with pytest.raises(DataError, match=sentence):
        open_events(str(folder / pattern) if pattern else folder).loaded(["user", "item"])


def test_a_torn_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": range(1000), "item": range(1000)}).write_parquet(path)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"log.parquet' cannot be read as Parquet.*cut off"):
        open_events(path)


def test_files_that_disagree_are_named(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1], "item": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"user": ["1"], "item": [1]}).write_parquet(tmp_path / "b.parquet")
    log = open_events([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    with pytest.raises(DataError, match=r"'user' is String in '.*b.parquet' and Int64 elsewhere"):
        log.check_types(["user"], exact=["user"])


@pytest.mark.parametrize("odd", [["x"], ["7"], [True], [datetime(2020, 1, 1)]])
def test_a_column_of_unlike_types_is_named_when_it_is_read(tmp_path: Path, odd: list[object]) -> None:
    """Texts that are all digits, truth values and times would go through floats without a word."""
    for name, values in (("a", [None]), ("b", [1]), ("c", odd)):
        pl.DataFrame({"comment": values}).write_parquet(tmp_path / f"{name}.parquet")
    log = open_events(str(tmp_path / "*.parquet"))
    with pytest.raises(DataError, match=r"^Column 'comment' is .* in '.*c\.parquet' and Int64 elsewhere; write it"):
        log.column("comment")


def test_one_empty_file_among_many_is_noted(tmp_path: Path) -> None:
    log = open_events(str(write(tmp_path, a__csv=CSV, b__csv="") / "*.csv"))
    assert log.notes == ("Skipped 'b.csv', which is empty.",)


def test_wide_integers_meet_without_floats(tmp_path: Path) -> None:
    pl.DataFrame({"user": [2**63 + 1]}, schema={"user": pl.UInt64}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"user": [5]}).write_parquet(tmp_path / "b.parquet")
    column = open_events(str(tmp_path / "*.parquet")).column("user")
    assert column.dtype == pl.Int128
    assert column.to_list() == [2**63 + 1, 5]


def test_ids_that_are_floats_of_two_widths_do_not_meet(tmp_path: Path) -> None:
    """As wide ones, narrow floats would look exact when their digits are gone already."""
    for name, kind in (("a", pl.Float64), ("b", pl.Float32)):
        pl.DataFrame({"user": [2.0**24]}, schema={"user": kind}).write_parquet(tmp_path / f"{name}.parquet")
    log = open_events(str(tmp_path / "*.parquet"))
    with pytest.raises(DataError, match=r"'user' is Float32 in '.*b.parquet' and Float64 elsewhere"):
        log.check_types(["user"], exact=["user"])
    log.check_types(["user"], exact=[])


def test_json_numbers_that_lost_digits_on_the_way_to_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"

    def read(*users: object) -> list[object]:
        path.write_text("".join(f'{{"user": {user}, "item": 1}}\n' for user in users))
        return open_events(path).loaded(["user", "item"]).column("user").to_list()

    with pytest.raises(DataError, match=r"'user' of '.*log.jsonl' has numbers beside text, such as 9007199254740992"):
        read("9007199254740993.0", '"x"')
    with pytest.raises(DataError, match="may have lost digits; write all of them as text"):
        read('"x"', "1e300", "null")
    assert read("9007199254740993", '"x"', '"9007199254740993"', "7.0") == [str(2**53 + 1), "x", str(2**53 + 1), "7"]
    assert read(f'"{10**20}"', '"x"') == [str(10**20), "x"]


def test_frames_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="frame cannot be read"):
        open_events({"a": [1, 2], "b": [1]})


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_a_field_that_some_files_lack_is_null_there(tmp_path: Path, kind: str) -> None:
    parts = [LOG, LOG.with_columns(user_id=pl.col("user_id") + 1, like=pl.Series([1, 0, 1]))]
    for number, part in enumerate(parts):
        {"parquet": part.write_parquet, "jsonl": part.write_ndjson, "csv": part.write_csv}[kind](
            tmp_path / f"{number}.{kind}"
        )
    log = open_events(str(tmp_path / f"*.{kind}"))
    assert log.loaded(["user_id", "like"]).column("like").to_list() == [None, None, None, 1, 0, 1]
    with pytest.raises(DataError, match=r"'.*0\.\w+' has no column 'like', which the other files have"):
        log.check_types(["like"], exact=["like"])
