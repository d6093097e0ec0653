"""A part of a log: the dataset is the one of a log without the other events, and nothing of them stays."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import facta
from facta.cli import app
from facta.data.log.events import open_events
from facta.data.log.resources import estimate_resources
from facta.errors import ConfigError, DataError

MARCH, DAY = 1_709_251_200, 86_400  # 2024-03-01 in UTC
LOG = pl.DataFrame(
    {
        "user_id": np.repeat([7, 1042, 9], 40),
        "item_id": [f"i{k * 7 % 11}" for k in range(80)] + [f"only {k % 3}" for k in range(40)],
        "timestamp": MARCH + np.tile(np.arange(40), 3) * DAY,
        "like": np.arange(120) % 2,
    }
)
INSIDE = pl.col("timestamp").is_between(MARCH + 3 * DAY, MARCH + 31 * DAY, closed="left")


def same(one: Any, other: pl.DataFrame, place: Path, **options: Any) -> bool:
    return bool(one.manifest.content_hash == facta.prepare(other, place, **options).manifest.content_hash)


def notes(dataset: Any) -> str:
    return " ".join(dataset.manifest.notes)


@pytest.mark.parametrize("text", [False, True])
def test_dropped_users_leave_nothing_behind(tmp_path: Path, text: bool) -> None:
    log = LOG.with_columns(pl.col("user_id").cast(pl.String) + "u") if text else LOG
    gone, kept = ("9u", "1042u") if text else (9, 1042)
    facts = pl.DataFrame({"user_id": [gone, kept], "country": ["secret", "de"]})
    series = pl.DataFrame({"user_id": [gone, kept], "timestamp": MARCH, "field": "city", "value": ["hidden", "Bonn"]})
    tables = {"users": facts, "user_fields": ["country"], "series": series, "series_fields": ["city"]}
    dataset = facta.prepare(log, tmp_path / "log", drop_users=[gone, "nobody" if text else 55], **tables)
    assert same(dataset, log.filter(pl.col("user_id") != gone), tmp_path / "other", **tables)
    assert dataset.users["user_id"].to_list() == (["1042u", "7u"] if text else [7, 1042])
    assert not any("only" in item for item in dataset.items["item_id"])
    assert "Dropped 40 events of 1 user, as asked. 1 other user to drop had none." in notes(dataset)
    written = b"".join(path.read_bytes() for path in (tmp_path / "log").rglob("*") if path.is_file())
    assert not any(word in written for word in (b"secret", b"hidden", b"only 1", *([b"9u"] if text else [])))


def test_a_catalogue_and_an_item_table_keep_their_items(tmp_path: Path) -> None:
    before = facta.prepare(LOG, tmp_path / "before")
    after = facta.prepare(LOG, tmp_path / "after", drop_users=[9], catalogue=tmp_path / "before")
    assert after.items["item_id"].to_list() == before.items["item_id"].to_list()
    table = pl.DataFrame({"item_id": ["only 1"], "title": ["One"]})
    named = facta.prepare(LOG, tmp_path / "named", items=table, drop_users=[9])
    assert [item for item in named.items["item_id"] if "only" in item] == ["only 1"]


MOMENTS: list[tuple[Any, Any]] = [
    ("2024-03-04", "2024-04-01"),
    ((MARCH + 3 * DAY) * 1000, (MARCH + 31 * DAY) * 1000),
    ("2024-03-04T01:00:00+01:00", datetime(2024, 4, 1, tzinfo=UTC)),
]


@pytest.mark.parametrize(("since", "until"), MOMENTS)
def test_moments_hold_the_first_and_not_the_last(since: Any, until: Any, tmp_path: Path) -> None:
    dataset = facta.prepare(LOG, tmp_path / "log", since=since, until=until)
    assert same(dataset, LOG.filter(INSIDE), tmp_path / "other")
    assert dataset.num_events == 3 * 28 and f"Left out 36 events before {since} and from {until} on." in notes(dataset)
    early = facta.prepare(LOG, tmp_path / "early", until=since, drop_users=[7])
    assert same(early, LOG.filter((pl.col("timestamp") < MARCH + 3 * DAY) & (pl.col("user_id") != 7)), tmp_path / "e")
    assert f"Left out 74 events from {since} on." in notes(early)  # those of the dropped user are counted once
    late = facta.prepare(LOG, tmp_path / "late", since=until)
    assert same(late, LOG.filter(pl.col("timestamp") >= MARCH + 31 * DAY), tmp_path / "l")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_give_the_same_part(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"log.{kind}"
    LOG.write_csv(file) if kind == "csv" else LOG.write_parquet(file)
    dataset = facta.prepare(file, tmp_path / "log", since="2024-03-04", until="2024-04-01", drop_users=[9])
    assert same(dataset, LOG.filter(INSIDE & (pl.col("user_id") != 9)), tmp_path / "other")


def test_with_actions_an_event_has_the_time_of_its_first_line(tmp_path: Path) -> None:
    visit = [("u", 1, -60, "view"), ("u", 1, 60, "buy"), ("u", 2, 90, "view"), ("v", 1, 80, "view")]
    lines = pl.DataFrame(visit, schema=["user_id", "item_id", "timestamp", "action"], orient="row")
    lines = lines.with_columns(pl.col("timestamp") + MARCH)
    before, after = (
        facta.prepare(lines, tmp_path / name, pivot="action", **{name: "2024-03-01"}) for name in ("until", "since")
    )
    assert (before.num_events, before.fields["buy"].tolist(), before.delays["buy"].tolist()) == (1, [1], [120_000])
    assert (after.num_events, after.fields["buy"].tolist()) == (2, [0, 0])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "numbers of a log with numbers": ({"drop_users": ["7"]}, "user '7' to drop; the user ids of this log are whole"),
    "truth": ({"drop_users": [True]}, "a list of ids"),
    "one text": ({"drop_users": "7"}, "expected a list of ids"),
    "nobody": ({"drop_users": [8, 3]}, r"No user to drop is in the log \(found 8, 3\); its user ids look like 7"),
    "beyond 64 bits": ({"drop_users": [2**70]}, r"No user to drop is in the log"),
    "everybody": ({"drop_users": [7, 9, 1042]}, "all events of the period are of the users to drop"),
    "later than all": ({"since": "2025-01-01"}, "all are before 2025-01-01; the log is from 2024-03-01 to 2024-04-09"),
    "earlier than all": ({"until": "2024-03-01"}, "all are from 2024-03-01 on; the log"),
    "turned": ({"since": "2024-03-09", "until": "2024-03-09"}, "expected the first moment before the second"),
    "no time": ({"since": "March"}, "Found the time 'March'"),
    "another unit": ({"since": MARCH}, "multiply Unix seconds by 1000"),
    "an order alone": ({"since": "2024-03-01", "columns": {"timestamp": ""}}, "asked for by their times"),
    "an order alone, 1970": ({"until": "1970-01-01", "columns": {"timestamp": ""}}, "asked for by their times"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_a_sentence(name: str, tmp_path: Path) -> None:
    options, sentence = REFUSED[name]
    with pytest.raises((DataError, ConfigError), match=sentence):
        facta.prepare(LOG, tmp_path / "log", **options)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="user 7 to drop; the user ids of this log are text"):
        facta.prepare(LOG.cast({"user_id": pl.String}), tmp_path / "log", drop_users=[7])


@pytest.mark.parametrize("options", [{}, {"drop": ["invalid"]}, {"drop_users": [7]}, {"since": "2023-01-01"}])
def test_times_that_lost_digits_are_refused_with_every_option(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n7,1,1.70008E+09\n8,2,1.70009E+09\n9,2,1.7001E+09\n")
    with pytest.raises(DataError, match="with fewer digits"):
        facta.prepare(tmp_path / "log.csv", tmp_path / "log", **options)


def test_the_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^\$ facta (prepare .* --drop-user .*)$", page, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    lines = LOG.with_columns(event_type=pl.when(pl.col("like") == 1).then(pl.lit("buy")).otherwise(pl.lit("view")))
    lines.write_parquet("actions.parquet")
    app(shlex.split(command), standalone_mode=False)
    march = pl.col("timestamp").is_between(MARCH, MARCH + 31 * DAY, closed="left") & (pl.col("user_id") != 1042)
    assert same(facta.Dataset.open("data/march"), lines.filter(march), tmp_path / "other", pivot="event_type")


@pytest.mark.parametrize("text", [False, True])
def test_the_command_line_reads_ids_of_the_type_of_the_log(tmp_path: Path, text: bool) -> None:
    log = LOG.with_columns(pl.col("user_id").cast(pl.String) + "u") if text else LOG
    log.write_csv(tmp_path / "log.csv")
    (tmp_path / "gone.txt").write_text("9u\n" if text else "9\n")
    named = ["--drop-user", "7u" if text else "7", "--drop-users-file", str(tmp_path / "gone.txt")]
    app(["prepare", str(tmp_path / "log.csv"), *named, "--out", str(tmp_path / "log")], standalone_mode=False)
    assert facta.Dataset.open(tmp_path / "log").users["user_id"].to_list() == ["1042u" if text else 1042]


def test_memory_for_a_part_is_said(tmp_path: Path) -> None:
    opened = open_events(LOG)
    need = [estimate_resources(opened, LOG.columns, tmp_path, drop=(), part=part).memory for part in (False, True)]
    assert need[1] > need[0]
