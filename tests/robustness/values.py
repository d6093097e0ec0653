"""Broken values: times that are none, ids that lost digits, tables that do not meet the log, columns without a role."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

import facta
from tests.robustness.cases import Answer, Case
from tests.robustness.files import DATASET
from tests.robustness.logs import START, csv, frame, prepare, rows, sound

TIMES = "times that are none"


def spelled(form: str) -> Callable[[Path], list[str]]:
    """The sound log with times as whole numbers that spell a calendar."""
    moments = [datetime.fromtimestamp(time, UTC) for _, _, time in rows()]
    return frame(timestamp=[int(moment.strftime(form)) for moment in moments])


def written(form: str, header: str = "user_id,item_id,timestamp") -> Callable[[Path], list[str]]:
    """The sound log as CSV, its times in another notation."""
    lines = [(user, item, format(float(time), form)) for user, item, time in rows()]
    return lambda folder: prepare(folder, csv(folder / "log.csv", lines, header))


CALENDAR = {
    "days": "%Y%m%d", "hours": "%Y%m%d%H", "minutes": "%Y%m%d%H%M", "seconds": "%Y%m%d%H%M%S", "short": "%y%m%d%H%M",
}  # fmt: skip
ODD_TIMES = (
    Case(TIMES, "Float32 seconds", frame(timestamp=pl.Series(sound()["timestamp"], dtype=pl.Float32)), "differ by 128"),
    Case(
        TIMES,
        "Float32 milliseconds",
        frame(timestamp=pl.Series([time * 1000 for time in sound()["timestamp"]], dtype=pl.Float32)),
        "cannot tell milliseconds of this size apart",
    ),
    *(Case(TIMES, f"a calendar of {name}", spelled(form), "spell a calendar") for name, form in CALENDAR.items()),
    Case(TIMES, "as spreadsheets write them", written(".4E"), r"such as 1\.6000E\+09, with fewer digits"),
    Case(
        TIMES,
        "seconds read as milliseconds",
        frame(timestamp=pl.Series(sound()["timestamp"], dtype=pl.Int64).cast(pl.Datetime("ms"))),
        "lie before March 1973 .*wrong unit",
    ),
    Case(
        TIMES,
        "one date of 1970",
        frame(timestamp=pl.Series([0, *[time * 1000 for time in sound()["timestamp"][1:]]]).cast(pl.Datetime("ms"))),
        "1 time before 1973",
    ),
    Case(
        TIMES,
        "exponents with all digits",
        written(".9e"),
        "Unit of the times: s",
        repaired=True,
        leaves=DATASET,
    ),
)

LOST = "ids that lost something"


def users(form: Callable[[int], str]) -> Callable[[Path], list[str]]:
    lines = [(form(user), item, time) for user, item, time in rows()]
    return lambda folder: prepare(folder, csv(folder / "log.csv", lines))


ODD_IDS = (
    Case(LOST, "digits, in a spreadsheet", users(lambda _: "7.10000E+11"), "digits are lost"),
    Case(LOST, "all digits but one", users(lambda _: "7E+11"), "digits are lost"),
    Case(LOST, "digits of one item", frame(item_id=["1.2E+15", *map(str, sound()["item_id"][1:])]), "digits are lost"),
    Case(
        LOST,
        "a NUL byte in Parquet",
        frame(user_id=["1\0", *map(str, sound()["user_id"][1:])]),
        "1 user id with a control character",
        repaired=True,
        leaves=DATASET,
    ),
    Case(
        LOST,
        "one letter among numbers",
        lambda folder: prepare(folder, csv(folder / "log.csv", [*rows(30), ("1O", 1, START)])),
        r"whole numbers and 1 other id, such as '1O'",
        repaired=True,
        leaves=DATASET,
    ),
    Case(
        LOST,
        "spaces around some",
        lambda folder: prepare(folder, csv(folder / "log.csv", [("ann", 1, START), (" ann", 2, START + 1)])),
        "1 user id that differ from another in spaces alone, such as ' ann'",
        repaired=True,
        leaves=DATASET,
    ),
    Case(
        LOST,
        "none: letters and digits that only look so",
        users(lambda user: f"{user}E11"),
        "Unit of the times",
        repaired=True,
        leaves=DATASET,
    ),
)

TABLES = "tables that do not meet the log"


def with_table(
    kind: str, form: Callable[[int], object], *more: str, name: str = "{}_id"
) -> Callable[[Path], list[str]]:
    """The log with ids such as `a1`, and a table of items or users whose ids are written in another way."""

    def arrange(folder: Path) -> list[str]:
        log = csv(folder / "log.csv", [(f"u{user}", f"a{item}", time) for user, item, time in rows()])
        table = csv(folder / "table.csv", [(form(row), f"t{row}") for row in range(9)], f"{name.format(kind)},title")
        return [*prepare(folder, log), f"--{kind}s", str(table), *more]

    return arrange


def _numbers(folder: Path) -> list[str]:
    table = csv(folder / "table.csv", [(f"000{item}", f"t{item}") for item in range(9)], "item_id,title")
    return [*prepare(folder, csv(folder / "log.csv", rows())), "--items", str(table)]


def _parents(folder: Path) -> list[str]:
    """As the reviews of 2023 and their products are published."""
    lines = [(user, f"B{item}", f"P{item // 2}", time) for user, item, time in rows()]
    log = csv(folder / "log.csv", lines, "user_id,asin,parent_asin,timestamp")
    table = csv(folder / "table.csv", [(f"P{item}", f"t{item}") for item in range(4)], "parent_asin,title")
    return [*prepare(folder, log), "--items", str(table)]


def _schema(folder: Path, values: Any) -> list[str]:
    (folder / "schema.json").write_text(json.dumps(values))
    return ["--schema", str(folder / "schema.json")]


def _user_table(folder: Path) -> list[str]:
    return [*with_table("user", lambda row: f"U{row}")(folder), *_schema(folder, {"users": ["title"]})]


def _series(folder: Path) -> list[str]:
    lines = [(f"U{user}", START, "plan", "free") for user in range(8)]
    table = csv(folder / "series.csv", lines, "user_id,timestamp,field,value")
    log = csv(folder / "log.csv", [(f"u{user}", item, time) for user, item, time in rows()])
    return [*prepare(folder, log), "--series", str(table), *_schema(folder, {"series": ["plan"]})]


def met(name: str, arrange: Callable[[Path], Sequence[str]], says: str) -> Case:
    return Case(TABLES, name, arrange, says, repaired=True, leaves=DATASET)


ODD_TABLES = (
    met("spaces", with_table("item", lambda row: f" a{row}"), "0 of 5 items .*'a1', the table ' a0'; without spaces"),
    met(
        "another case", with_table("item", lambda row: f"A{row}"), "0 of 5 items with events .*; in one case they would"
    ),
    met("a prefix", with_table("item", lambda row: f"item-{row}"), "0 of 5 items with events .*; without prefixes"),
    met("users in another case", _user_table, "0 of 8 users with events are in the user table: .*'u0', the table 'U0'"),
    met("series of others", _series, "0 of 8 users with events are in the series"),
    Case(TABLES, "leading zeros", _numbers, "of the table are text, such as '000[0-9]', and those of the log whole"),
    Case(TABLES, "a key that both have", _parents, r"--column item_id=parent_asin"),
)

ROLES = "columns without a role"


def beside(name: str, values: Callable[[int], object], *more: str) -> Callable[[Path], list[str]]:
    """The sound log with one more column."""
    lines = [(*line, values(number)) for number, line in enumerate(rows())]
    return lambda folder: [*prepare(folder, csv(folder / "log.csv", lines, f"user_id,item_id,timestamp,{name}")), *more]


def fields(*names: str) -> Callable[[Path, Answer], bool]:
    return lambda folder, _: list(facta.Dataset.open(folder / "out").fields) == list(names)


def left_out(name: str, column: str, values: Callable[[int], object]) -> Case:
    says = f"Left out: '{column}', which "
    return Case(ROLES, name, beside(column, values), says, repaired=True, leaves=DATASET, holds=fields())


def binary(name: str, yes: str, no: str) -> Case:
    def holds(folder: Path, answer: Answer) -> bool:
        stored = facta.Dataset.open(folder / "out").fields["click"]
        return int(stored.sum()) == 16 and len(stored) == 48

    arrange = beside("click", lambda number: no if number % 3 else yes)
    says = f"read as binary: '{yes}' is 1 and '{no}' is 0"
    return Case(ROLES, f"labels {name}", arrange, says, repaired=True, leaves=DATASET, holds=holds)


def _genres(separator: str, *, declared: str | None = None) -> Callable[[Path], list[str]]:
    def arrange(folder: Path) -> list[str]:
        kinds = ("Drama", "Comedy", "Action", "Sci-Fi", "War")
        lists = [separator.join(kinds[place] for place in range(5) if number >> place & 1) for number in range(1, 32)]
        lines = [f"{number}\t{genres}" for number, genres in enumerate(lists, start=1)]
        (folder / "items.tsv").write_text("\n".join(["item_id\tgenres", *lines]) + "\n")
        log = csv(folder / "log.csv", [(user, user % 31 + 1, START + user) for user in range(40)])
        kind: Any = "multi" if declared is None else {"kind": "multi", "separator": declared}
        schema = _schema(folder, {"items": {"genres": kind}})
        return [*prepare(folder, log), "--items", str(folder / "items.tsv"), *schema]

    return arrange


def _five_genres(folder: Path, _: Answer) -> bool:
    (field,) = facta.Dataset.open(folder / "out").manifest.item_fields
    return field.categories == ("Action", "Comedy", "Drama", "Sci-Fi", "War")


def genres(name: str, arrange: Callable[[Path], Sequence[str]]) -> Case:
    return Case(ROLES, f"lists {name}", arrange, "Unit of the times", repaired=True, leaves=DATASET, holds=_five_genres)


def _rates(*more: str) -> Callable[[Path], list[str]]:
    def arrange(folder: Path) -> list[str]:
        log = sound(click=[1 + number % 2 for number in range(48)]) if more else sound()
        facta.prepare(pl.DataFrame(log), folder / "data")
        return ["train", "own-log/rates", "--data", str(folder / "data"), "--out", str(folder / "a")]

    return arrange


ODD_ROLES = (
    left_out("a data frame's index", "Unnamed: 0", lambda number: number),
    left_out("an index in another order", "place", lambda number: number * 7 % 48),
    left_out("a number that only ascends", "visit", lambda number: 10 + number * number),
    left_out("a second time", "seen_at", lambda number: START + number % 7),
    left_out("a day as a number", "day", lambda number: 20231101 + number % 9),
    binary("Y and N", "Y", "N"),
    binary("t and f", "t", "f"),
    binary("yes and no", "Yes", "No"),
    Case(
        ROLES,
        "labels 1 and 2",
        beside("click", lambda number: 1 + number % 2),
        "'click' is 1 or 2 and nothing says which of them is success.*positive",
        repaired=True,
        leaves=DATASET,
    ),
    Case(
        ROLES,
        "labels 1 and blank",
        beside("click", lambda number: "" if number % 3 else 1),
        "'click' is 1 or missing, and a missing value is unknown",
        repaired=True,
        leaves=DATASET,
    ),
    Case(ROLES, "rates without success", _rates("click"), "No feedback of the dataset says .*'click'.*positive"),
    Case(ROLES, "rates without feedback", _rates(), "The dataset has no feedback"),
    genres("parted by spaces", _genres(" ")),
    genres("parted by commas", _genres(", ")),
    genres("parted by bars", _genres("|")),
    genres("parted as declared", _genres("/", declared="/")),
)

VALUES: tuple[Case, ...] = (*ODD_TIMES, *ODD_IDS, *ODD_TABLES, *ODD_ROLES)
