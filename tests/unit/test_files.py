"""Which files a log is made of, and what text files may look like: nothing is lost, doubled or read as another."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facta import DataError, durable, prepare
from facta.data.dataset.parquet import read_parquet
from facta.data.log.csv_files import open_table
from facta.data.log.events import open_events
from facta.data.log.files import find_files
from facta.data.log.text_files import excerpt
from facta.errors import ResourceError

HEADER = "user_id,title,item_id"
LINES = [f"{number},plain,{number % 5}" for number in range(100, 120)]


def table(folder: Path, *lines: str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def events(path: Path | str) -> pl.DataFrame:
    log = open_events(path)
    return pl.DataFrame([log.column(name) for name in log.columns])


FIELD = st.text(st.sampled_from('ab",; \t\n'), max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.lists(FIELD, min_size=1, max_size=6))
def test_what_a_writer_of_csv_writes_is_read_to_the_letter(
    tmp_path_factory: pytest.TempPathFactory, titles: list[str]
) -> None:
    """Quoted as RFC 4180 has it, a text may hold anything but a whole line of the table."""
    path = tmp_path_factory.mktemp("csv") / "log.csv"
    written = pl.DataFrame({"user_id": [f"u{n}" for n in range(len(titles))], "title": titles, "item_id": "i"})
    written.write_csv(path)
    titles = [title or None for title in titles]  # type: ignore[misc]
    try:
        read = events(path)["title"].to_list()
    except DataError as error:
        assert "quotation mark" in str(error)
        assert any("\n" in (title or "") and (title or "").count(",") >= 2 for title in titles)
    else:
        assert [title or None for title in read] == titles


@pytest.mark.parametrize("mark", ['"Open', '15" pipe', 'end"', '"', 'a"b"c'])
def test_a_mark_that_belongs_to_no_field_is_a_character(tmp_path: Path, mark: str) -> None:
    lines = [*LINES[:5], f"7,{mark},1", *LINES[5:12], f'8,"{mark[::-1]},2', *LINES[12:]]
    log = open_events(table(tmp_path, *lines))
    assert log.column("title").to_list()[5] == mark and len(log.column("user_id")) == len(lines)
    assert re.search(r"lines? (7|15|7, 15) of", log.notes[0])


def test_lines_that_cannot_be_told_apart_are_named(tmp_path: Path) -> None:
    lines = [*LINES[:5], '7,"Smith, John",1', *LINES[5:12], '8,"Open,2', *LINES[12:]]
    with pytest.raises(DataError, match="mark in line 15 of"):
        open_table(table(tmp_path, *lines), lambda header: ["user_id", "item_id"])


@pytest.mark.parametrize("zipped", [False, True])
def test_a_last_line_is_cut_where_it_is_shorter_than_all(tmp_path: Path, zipped: bool) -> None:
    whole = "\n".join(["user,item,time", *(f"{n},1,17000000{n}" for n in range(10, 30))])

    def read(text: str) -> int:
        path = tmp_path / ("log.csv.gz" if zipped else "log.csv")
        path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
        return open_events(path).num_events()

    assert read(whole) == read(whole + "\n") == 20
    for cut in (1, 5, 11, 12, 14):
        with pytest.raises(DataError, match=r"last line \(21\) .* was cut off"):
            read(whole[:-cut])


def test_a_short_last_line_is_no_cut_where_lengths_differ(tmp_path: Path) -> None:
    text = "\n".join(["user,item,rating", "1,1,10", "2,1,9", "3,1,10", "4,1,10", "5,1,9", "6,1,1"])
    (tmp_path / "log.csv").write_text(text)
    assert open_events(tmp_path / "log.csv").num_events() == 6


def test_folders_that_are_named_by_keys_make_columns(tmp_path: Path) -> None:
    for day, kind in (("2024-05-30", "view"), ("2024-05-31", "cart")):
        place = tmp_path / "logs" / f"day={day}" / f"event_type={kind}"
        place.mkdir(parents=True)
        pl.DataFrame({"user_id": [1, 2], "item_id": [3, 4]}).write_parquet(place / "part-0.parquet")
        pl.DataFrame({"user_id": [9], "item_id": [9]}).write_parquet(place / "_temporary.parquet")
        (place / "._part-0.parquet").write_bytes(b"\x00\x05\x16\x07")
    files = sorted((tmp_path / "logs").rglob("part-0.parquet"))
    for source in (tmp_path / "logs", str(tmp_path / "logs" / "*" / "*" / "*.parquet"), [str(file) for file in files]):
        log = open_events(source)
        assert log.columns == ["user_id", "item_id", "day", "event_type"]
        assert log.column("day").to_list() == ["2024-05-30"] * 2 + ["2024-05-31"] * 2
        assert log.column("event_type").to_list() == ["view"] * 2 + ["cart"] * 2
    dataset = prepare(tmp_path / "logs", tmp_path / "out", columns={"timestamp": "day"})
    assert list(dataset.fields) == ["event_type"] and dataset.manifest.unit == "datetime"


def test_a_folder_of_files_leaves_other_folders_alone(tmp_path: Path) -> None:
    table(tmp_path, *LINES)
    (tmp_path / "old").mkdir()
    table(tmp_path / "old", *LINES[1:])
    assert [file.path.name for file in find_files([tmp_path])] == ["log.csv"]
    (tmp_path / "log.csv").unlink()
    assert [file.path.parent.name for file in find_files([tmp_path])] == ["old"]


def test_a_name_that_exists_is_no_pattern(tmp_path: Path) -> None:
    place = tmp_path / "exp [v2]*"
    place.mkdir()
    frame = pl.DataFrame({"user_id": [1], "item_id": [2]})
    frame.write_parquet(place / "log?[1].parquet")
    frame.write_ndjson(place / "log [1].jsonl")
    frame.write_csv(place / "log [1].csv")
    frame.write_parquet(tmp_path / "exp 2.parquet")  # what the pattern would match
    assert read_parquet(place / "log?[1].parquet").equals(frame)
    for path in place.iterdir():
        assert open_events(path).num_events() == 1
    assert open_events(str(place / "*.jsonl")).num_events() == 1
    assert prepare(place / "log [1].csv", place / "out [2]").items["item_id"].to_list() == [2]


LOG = pl.DataFrame({"user_id": range(100), "item_id": [n % 7 for n in range(100)], "time": range(10**9, 10**9 + 100)})


@pytest.mark.parametrize(("shared", "refused"), [(100, True), (30, True), (5, False), (0, False)])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_events_of_two_files_count_once_or_are_said(tmp_path: Path, kind: str, shared: int, refused: bool) -> None:
    other = LOG.with_columns(pl.col("time") + 100).slice(shared).vstack(LOG.head(shared)).reverse()
    for name, frame in (("a", LOG), ("b", other.with_columns(pl.col("item_id").cast(pl.Int32)))):
        (tmp_path / "logs").mkdir(exist_ok=True)
        getattr(frame, f"write_{kind}")(tmp_path / "logs" / f"{name}.{kind}")
    if refused:
        with pytest.raises(DataError, match=rf"{shared}% of the events of '.*[ab]\.{kind}' are in another file"):
            prepare(tmp_path / "logs", tmp_path / "out")
        dataset = prepare(tmp_path / "logs", tmp_path / "out", drop=("duplicates",))
        assert dataset.num_events == 200 - shared
        return
    notes = [note for note in prepare(tmp_path / "logs", tmp_path / "out").manifest.notes if "two files" in note]
    assert len(notes) == bool(shared) and all(f"{shared} events are in two files" in note for note in notes)


def test_coarse_times_that_repeat_within_files_are_no_copies(tmp_path: Path) -> None:
    days = LOG.with_columns(user_id=pl.lit(1), item_id=pl.lit(1), time=10**9 + pl.col("time") % 2 * 86_400)
    for name in ("a", "b"):
        days.with_columns(n=pl.lit(0)).slice(name == "b").drop("n").write_parquet(tmp_path / f"{name}.parquet")
    assert prepare([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out").num_events == 199


def test_a_sample_by_hash_finds_copies_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facta.data.log.overlap._SAMPLE_EVENTS", 50)
    for name in ("a", "b"):
        LOG.with_columns(note=pl.lit(name)).write_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match="100% of the events"):
        prepare([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out")


def test_a_draft_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    (tmp_path / ".out [1].abc.partial").mkdir()
    with durable.directory(tmp_path / "out [1]") as living:
        with durable.directory(tmp_path / "out [1]") as draft:
            assert living.exists() and not (tmp_path / ".out [1].abc.partial").exists()
            (draft / "a").write_text("first")
        (living / "a").write_text("second")
    assert (tmp_path / "out [1]" / "a").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out [1]"]


def test_what_another_process_wrote_meanwhile_stays(tmp_path: Path) -> None:
    with (
        pytest.raises(ResourceError, match="written by another process in the meantime"),
        durable.directory(tmp_path / "out", replace=False) as draft,
    ):
        (draft / "a").write_text("ours")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a").write_text("theirs")
    assert (tmp_path / "out" / "a").read_text() == "theirs" and os.listdir(tmp_path) == ["out"]  # noqa: PTH208


def test_excerpts_act_on_no_terminal() -> None:
    assert excerpt("a\x1b[2J\0b") == "a\\x1b[2J\\x00b" and len(excerpt("x" * 99)) == 61
