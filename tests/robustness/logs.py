"""Broken event logs: columns, units, values, files and ids that are not what they should be."""

from __future__ import annotations

import gzip
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

import facta
from tests.robustness.cases import Case

START = 1_600_000_000
Rows = Sequence[tuple[Any, ...]]


def rows(users: int = 8, events: int = 6) -> list[tuple[Any, ...]]:
    """A small sound log: user, item, timestamp."""
    return [(u, (u + p) % 5 + 1, START + 86_400 * p + u) for u in range(users) for p in range(events)]


def csv(path: Path, lines: Rows, header: str = "user_id,item_id,timestamp") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, line)) for line in lines)]) + "\n", encoding="utf-8")
    return path


def log(*odd: tuple[Any, ...], header: str = "user_id,item_id,timestamp") -> Callable[[Path], list[str]]:
    """`facta prepare` of the sound log with some odd lines behind it."""
    return lambda folder: prepare(folder, csv(folder / "log.csv", [*rows(), *odd], header))


def prepare(folder: Path, *arguments: object) -> list[str]:
    return ["prepare", *map(str, arguments), "--out", str(folder / "out")]


def parquet(path: Path, **columns: Any) -> Path:
    pl.DataFrame(columns, strict=False).write_parquet(path)
    return path


def sound(**odd: Any) -> dict[str, Any]:
    """Columns of the sound log, some replaced."""
    user, item, time = zip(*rows(), strict=True)
    return {"user_id": list(user), "item_id": list(item), "timestamp": list(time), **odd}


def altered(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def ids(folder: Path, what: str) -> list[Any]:
    return pl.read_parquet(folder / "out" / f"{what}s.parquet")[f"{what}_id"].to_list()


def json_lines(*lines: dict[str, Any]) -> Callable[[Path], list[str]]:
    def arrange(folder: Path) -> list[str]:
        path = folder / "log.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return prepare(folder, path)

    return arrange


def frame(**odd: Any) -> Callable[[Path], list[str]]:
    return lambda folder: prepare(folder, parquet(folder / "log.parquet", **sound(**odd)))


def with_first(name: str, value: Any) -> list[Any]:
    """A column of the sound log as floats, its first value replaced."""
    return [value, *map(float, sound()[name][1:])]


MISSING = "missing columns"
COLUMNS = (
    Case(MISSING, "no user", log(header="who_knows,item_id,timestamp"), "No column was recognised as user_id"),
    Case(MISSING, "no item in JSON-lines", json_lines({"user_id": 1, "timestamp": START}), "recognised as item_id"),
    Case(MISSING, "no header", log(header="1,2,3"), "header"),
    Case(
        MISSING,
        "a column that was named",
        lambda folder: [*log()(folder), "--column", "item_id=sku"],
        "no column 'sku'.*the columns are: user_id, item_id, timestamp",
    ),
)

UNITS = "mixed units"
MIXED = (
    Case(UNITS, "seconds and milliseconds", log((1, 2, START * 1000)), "mixes seconds .* and milliseconds"),
    Case(UNITS, "numbers and text", log((1, 2, "2024-05-31T12:00:00Z")), "expected all numbers, or all like"),
    Case(
        UNITS,
        "with and without a time zone",
        lambda folder: prepare(
            folder, csv(folder / "log.csv", [(1, 1, "2024-05-31T12:00:00Z"), (1, 2, "2024-05-31T12:00:00")])
        ),
        "with and without a time zone",
    ),
)

NAN = "NaN"
NANS = (
    Case(NAN, "item ids", frame(item_id=with_first("item_id", math.nan)), "1 event without item id"),
    Case(NAN, "ids of a text file", log(("NaN", 2, START), ("NA", 3, START)), "2 events without user id"),
    Case(NAN, "timestamps", frame(timestamp=with_first("timestamp", math.nan)), "1 missing time"),
    Case(
        NAN,
        "dropped when asked to",
        lambda folder: [*frame(item_id=with_first("item_id", math.nan))(folder), "--drop", "invalid"],
        "Dropped 1 event without a user, an item or a possible time",
        repaired=True,
        leaves=("out",),
    ),
    Case(
        NAN,
        "feedback",
        frame(rating=[math.nan, *[1.0] * (len(rows()) - 1)]),
        "1 missing values of 'rating' are stored as undefined",
        repaired=True,
        leaves=("out",),
    ),
)

TIMES = "negative and far-future timestamps"
IMPOSSIBLE = (
    Case(TIMES, "negative", log((1, 2, -5)), "1 time before 1973"),
    Case(TIMES, "the year 2300", log((1, 2, 10_413_792_000)), "1 time beyond the year 2100"),
    Case(
        TIMES,
        "dropped when asked to",
        lambda folder: [*log((1, 2, -5))(folder), "--drop", "invalid"],
        "Dropped 1 event",
        repaired=True,
        leaves=("out",),
    ),
)


def _twice(folder: Path) -> list[str]:
    first = csv(folder / "a.csv", rows())
    shutil.copy(first, folder / "b.csv")
    return prepare(folder, folder / "*.csv")


def _beside_an_empty_one(folder: Path) -> list[str]:
    (folder / "b.csv").touch()
    return prepare(folder, csv(folder / "a.csv", rows()), folder / "b.csv")


def _nothing(folder: Path) -> list[str]:
    (folder / "empty").mkdir()
    return prepare(folder, folder / "empty")


def _empty(folder: Path) -> list[str]:
    (folder / "log.csv").touch()
    return prepare(folder, folder / "log.csv")


FILES = "duplicate and empty files"
ODD_FILES = (
    Case(FILES, "a copy under another name", _twice, "are the same; their events would count twice"),
    Case(
        FILES,
        "one file named twice",
        lambda folder: prepare(folder, *[csv(folder / "log.csv", rows())] * 2),
        "count twice",
    ),
    Case(
        FILES,
        "events twice, dropped when asked to",
        lambda folder: [*log(*rows())(folder), "--drop", "duplicates"],
        "Dropped 48 events that repeated an earlier one",
        repaired=True,
        leaves=("out",),
    ),
    Case(FILES, "no bytes", _empty, "is empty; expected a header and events"),
    Case(FILES, "a header only", lambda folder: prepare(folder, csv(folder / "log.csv", [])), "no events"),
    Case(FILES, "an empty folder", _nothing, "No file was found"),
    Case(FILES, "empty beside full", _beside_an_empty_one, "Skipped 'b.csv', which is empty", True, ("out",)),
)

NAMES = ("Žofie", "名前", "a,b", "🦊", "e\u0301", "\u00e9")  # the last two look alike and are not the same
BIG = (2**53 + 1, 2**53 + 2, 2**63 - 1, -(2**63))  # two of them would be one as floats


def _unicode(folder: Path) -> list[str]:
    return prepare(
        folder,
        parquet(
            folder / "log.parquet",
            user_id=[name for name in NAMES for _ in range(2)],
            item_id=["x", "y"] * len(NAMES),
            timestamp=[START + place for place in range(2 * len(NAMES))],
        ),
    )


def _latin(folder: Path) -> list[str]:
    path = csv(folder / "log.csv", [("Žofie é", 1, START)])
    path.write_bytes(path.read_text(encoding="utf-8").replace("Ž", "Z").encode("latin-1"))
    return prepare(folder, path)


IDS = "unicode and 64-bit ids"
ODD_IDS = (
    Case(
        IDS,
        "unicode, kept exactly",
        _unicode,
        "users",
        repaired=True,
        leaves=("out",),
        holds=lambda folder, _: sorted(ids(folder, "user")) == sorted(NAMES),
    ),
    Case(IDS, "bytes that are no UTF-8", _latin, "cannot be read as UTF-8: line 2"),
    Case(
        IDS,
        "64 bits, kept exactly",
        lambda folder: prepare(folder, csv(folder / "log.csv", [(big, big, START) for big in BIG])),
        "users",
        repaired=True,
        leaves=("out",),
        holds=lambda folder, _: ids(folder, "user") == ids(folder, "item") == sorted(BIG),
    ),
    Case(
        IDS,
        "floats that have lost digits",
        frame(user_id=[float(2**53 + 2 * place) for place in range(len(rows()))]),
        "may have lost digits",
    ),
    Case(
        IDS,
        "narrow floats that have lost digits",
        lambda folder: prepare(
            folder,
            parquet(folder / "log.parquet", **sound(user_id=pl.Series([2.0**24] * len(rows()), dtype=pl.Float32))),
        ),
        "may have lost digits",
    ),
    Case(
        IDS,
        "numbers of JSON that have lost digits",
        json_lines(
            {"user_id": float(2**53), "item_id": 1, "timestamp": START},
            {"user_id": "x", "item_id": 1, "timestamp": START},
        ),
        "numbers beside text, such as 9007199254740992",
    ),
    Case(
        IDS,
        "one number written two ways",
        log(*[(f"{user}.0", 3, START) for user in range(8)]),
        "written with decimals; all are whole",
        repaired=True,
        leaves=("out",),
        holds=lambda folder, _: ids(folder, "user") == list(range(8)),
    ),
)


def _few(recipe: str, *users: int) -> Callable[[Path], list[str]]:
    """`facta train` where these users have an event for each time that they are named."""

    def arrange(folder: Path) -> list[str]:
        events = {"user_id": users, "item_id": range(len(users)), "timestamp": range(START, START + len(users))}
        facta.prepare(pl.DataFrame(events), folder / "few")
        return ["train", recipe, "--data", str(folder / "few"), "--out", str(folder / "out")]

    return arrange


SINGLE = "one-event users"
SINGLES = (
    Case(
        SINGLE,
        "nobody has more",
        _few("debug/popularity", 1, 2, 3),
        "users with at least two events; this dataset has none",
    ),
    Case(SINGLE, "one has two", _few("debug/hstu", 1, 1, 2, 3), "No user of 3 has two events to train on"),
    Case(
        SINGLE,
        "some have no more",
        lambda folder: ["doctor", str(csv(folder / "log.csv", [*rows(), (99, 1, START), (98, 1, START)]))],
        "2 .*users|users? .*one event",
        repaired=True,
    ),
)


def _cut(keep: Callable[[bytes], bytes], *more: str) -> Callable[[Path], list[str]]:
    def arrange(folder: Path) -> list[str]:
        path = parquet(folder / "log.parquet", **sound())
        altered(path, keep)
        return [*prepare(folder, path), *more]

    return arrange


def _cut_items(folder: Path) -> list[str]:
    items = parquet(folder / "items.parquet", item_id=[1, 2], title=["a", "b"])
    altered(items, lambda content: content[:-10])
    return [*log()(folder), "--items", str(items)]


def _cut_gzip(folder: Path) -> list[str]:
    plain = csv(folder / "log.csv", rows(200))
    (folder / "log.csv.gz").write_bytes(gzip.compress(plain.read_bytes())[:-200])
    plain.unlink()
    return prepare(folder, folder / "log.csv.gz")


TORN = "truncated Parquet"
TORN_FILES = (
    Case(TORN, "without its footer", _cut(lambda content: content[:-9]), "cannot be read as Parquet"),
    Case(TORN, "the first half", _cut(lambda content: content[: len(content) // 2]), "cannot be read as Parquet"),
    Case(TORN, "the item table", _cut_items, "items.parquet' cannot be read as Parquet"),
    Case(TORN, "gzip", _cut_gzip, "cannot be read as CSV"),
)


LOGS: tuple[Case, ...] = (*COLUMNS, *MIXED, *NANS, *IMPOSSIBLE, *ODD_FILES, *ODD_IDS, *SINGLES, *TORN_FILES)
