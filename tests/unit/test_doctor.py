"""Every ill that can be planted in a log is found, counted exactly, and not found where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from facta.data.dataset.schema import FieldConfig
from facta.data.log.doctor import Finding, examine
from facta.data.log.prepare import prepare
from facta.errors import DataError

DAY = 86_400_000
NOW = 1_700_000_000_000 + 400 * DAY


def healthy(users: int = 40, length: int = 8, items: int = 30) -> pl.DataFrame:
    """Distinct times, all items everywhere in time, no repeats, ids with gaps: nothing to find."""
    user, place = np.divmod(np.arange(users * length), length)
    return pl.DataFrame(
        {
            "user_id": user * 7 + 1000,
            "item_id": ((user + place) % items) * 3 + 500,
            "timestamp": 1_700_000_000_000 + place * DAY + user * 1000,
            "like": user % 2,
        }
    )


def found(source: object, **options: object) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(source, now=NOW, **options)}  # type: ignore[arg-type]


def replaced(column: str, values: object, where: pl.Expr) -> pl.DataFrame:
    return healthy().with_columns(pl.when(where).then(pl.lit(values)).otherwise(pl.col(column)).alias(column))


FIRST = pl.col("user_id") == 1000
NEWEST = pl.col("timestamp") >= pl.col("timestamp").sort().get(320 - 32)
LAST = pl.col("timestamp") == pl.col("timestamp").max().over("user_id")


def test_a_healthy_log_has_no_findings(tmp_path: Path) -> None:
    assert examine(healthy(), now=NOW) == []
    healthy().write_csv(tmp_path / "log.csv")
    assert examine(tmp_path / "log.csv", now=NOW) == []
    dataset = prepare(healthy(), tmp_path / "log")
    assert examine(dataset, now=NOW) == examine(tmp_path / "log", now=NOW) == []


ILLS: dict[str, tuple[pl.DataFrame, int, float]] = {
    "duplicates": (pl.concat([healthy(), healthy()[5:9]]), 4, 4 / 324),
    "tied times": (
        replaced("timestamp", 1_700_000_000_000, FIRST & (pl.col("timestamp") < 1.7e12 + 3 * DAY)),
        3,
        3 / 320,
    ),
    "future times": (replaced("timestamp", NOW + 5 * DAY, LAST & FIRST), 1, 1 / 320),
    "one-event users": (pl.concat([healthy(), healthy()[:2].with_columns(user_id=pl.Series([1, 2]))]), 2, 2 / 42),
    "repeats": (replaced("item_id", 500, FIRST), 7, 7 / 320),
    "unseen items": (replaced("item_id", 9999, LAST & FIRST), 1, 1 / 40),
    "ids for nothing": (
        healthy().with_columns(user_id=pl.when(FIRST).then(pl.lit("NaN")).otherwise("user_id")),
        8,
        8 / 320,
    ),
    "new items": (
        healthy().with_columns(item_id=pl.when(NEWEST).then(pl.col("item_id") + 1).otherwise("item_id")),
        32,
        1.0,
    ),
    "no times": (healthy().drop("timestamp"), 320, 1.0),
}


@pytest.mark.parametrize("name", ILLS)
def test_a_planted_ill_is_found_and_counted(name: str) -> None:
    log, count, share = ILLS[name]
    finding = found(log)[name]
    assert finding.count == count
    assert finding.share == pytest.approx(share)
    assert finding.level in ("warning", "note")
    assert all(text.endswith(".") for text in (finding.what, finding.effect, finding.fix))


def test_times_before_the_web_are_found_under_a_wrong_unit() -> None:
    seconds = healthy().with_columns(pl.col("timestamp") // 1000)
    assert found(seconds, unit="ms")["times out of range"].count == 320
    assert "times out of range" not in found(seconds)


def test_tied_last_pairs_are_a_warning() -> None:
    """Where the last two events of many users are tied, the test target hangs on the sort."""
    log = healthy().with_columns(timestamp=pl.col("timestamp").clip(upper_bound=1_700_000_000_000 + 6 * DAY))
    finding = found(log)["tied times"]
    assert finding.level == "warning"
    assert "for 100.0% of the users" in finding.what


@pytest.mark.parametrize("start", [0, 1])
def test_ids_that_count_without_a_gap_are_found(start: int) -> None:
    log = healthy().with_columns(user_id=(pl.col("user_id") - 1000) // 7 + start)
    finding = found(log)["ids like indexes"]
    assert finding.count == 40
    assert f"user ids count {start}, {start + 1}" in finding.what
    assert "ids like indexes" not in found(log.filter(pl.col("user_id") != 20))


def test_a_robot_is_found() -> None:
    people = healthy(users=120)
    robot = pl.DataFrame(
        {"user_id": 5, "item_id": 500, "timestamp": 1_700_000_000_000 + np.arange(1000) * 1000, "like": 0}
    )
    finding = found(pl.concat([people, robot.cast(people.schema)]))["crowded user"]  # type: ignore[arg-type]
    assert finding.count == 1000
    assert "one user, 5." in finding.what


def test_everything_that_prepare_refuses_is_counted_and_the_rest_examined() -> None:
    log = pl.concat([healthy(), healthy()[5:9]]).with_columns(
        user_id=pl.when(pl.int_range(324) < 3).then(None).otherwise("user_id"),
        timestamp=pl.when(pl.int_range(324) == 50).then(-1).otherwise("timestamp"),
    )
    findings = examine(log, now=NOW)
    errors = [(finding.count, finding.what) for finding in findings if finding.level == "error"]
    assert errors == [
        (3, "Column 'user_id' has 3 events without user id."),
        (1, "Column 'timestamp' has 1 time before 1973 (read as milliseconds)."),
    ]
    assert {finding.name for finding in findings if finding.level == "warning"} == {"duplicates"}


def test_what_cannot_be_examined_is_one_finding(tmp_path: Path) -> None:
    mixed = healthy().with_columns(
        pl.when(FIRST).then(pl.col("timestamp") // 1000).otherwise("timestamp").alias("timestamp")
    )
    [finding] = examine(mixed, now=NOW)
    assert (finding.name, finding.level) == ("refused", "error")
    assert "mixes seconds (8) and milliseconds (312)" in finding.what
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    [finding] = examine(tmp_path / "torn.parquet", now=NOW)
    assert "cannot be read as Parquet" in finding.what
    with pytest.raises(DataError, match="There is no file"):
        examine(tmp_path / "nowhere.csv")


def test_a_log_is_examined_as_it_would_be_prepared() -> None:
    """A column that is said to be no time is none, though its name and values look like one."""
    findings = found(healthy(), columns={"timestamp": ""})
    assert "no times" in findings and "refused" not in findings


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"unit": "parsec"}, "unit 'parsec'; valid units"),
        ({"columns": {"foo": "like"}}, "role 'foo'; valid roles"),
        ({"columns": {"user_id": "nope"}}, "no column 'nope' for user_id; the columns are: user_id"),
        ({"columns": {"user_id": "like", "item_id": "like"}}, "cannot have two roles"),
    ],
)
def test_mistakes_in_the_options_are_no_findings_about_the_log(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        examine(healthy(), now=NOW, **options)  # type: ignore[arg-type]


def test_files_that_disagree_about_the_ids_are_one_finding(tmp_path: Path) -> None:
    healthy().write_parquet(tmp_path / "a.parquet")
    healthy().with_columns(user_id=pl.format("u{}", "user_id")).write_parquet(tmp_path / "b.parquet")
    [finding] = examine(tmp_path, now=NOW)
    assert finding.level == "error"
    assert "'user_id' is String in" in finding.what and "Int64 elsewhere" in finding.what


def test_the_worst_comes_first() -> None:
    log = pl.concat([healthy(), healthy()[:4]]).with_columns(item_id=pl.when(LAST).then(0).otherwise("item_id"))
    levels = [finding.level for finding in examine(log.with_columns(user_id=pl.col("user_id").shift(1)), now=NOW)]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert levels[0] == "error"


def test_feedback_after_the_next_event_is_found_in_logs_and_datasets(tmp_path: Path) -> None:
    late = FIRST & (pl.col("timestamp") < 1_700_000_000_000 + 3 * DAY)
    log = healthy().with_columns(liked=pl.col("timestamp") + pl.when(late).then(DAY + 1).otherwise(DAY))
    fields = {"like": FieldConfig(time="liked")}
    finding = found(log, fields=fields)["late feedback"]
    assert (finding.level, finding.count, finding.share) == ("warning", 3, 3 / 320)
    assert "Feedback arrived after the next event" in finding.effect
    assert found(prepare(log, tmp_path / "log", fields=fields))["late feedback"] == finding
    assert "late feedback" not in found(log.with_columns(liked="timestamp"), fields=fields)
