"""Broken files: quotation marks, line breaks, encodings, cut ends, doubles, and paths that look like patterns."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

import facta
from tests.robustness.cases import Answer, Case
from tests.robustness.logs import START, csv, parquet, prepare, rows, sound

DATASET = ("out",)


def events(count: int) -> Callable[[Path, Answer], bool]:
    """The dataset has so many events."""
    return lambda folder, _: facta.Dataset.open(folder / "out").num_events == count


def read(kind: str, name: str, arrange: Callable[[Path], Sequence[str]], says: str, count: int = 48) -> Case:
    """A case that is repaired, and whose dataset has the 48 events of the sound log."""
    return Case(kind, name, arrange, says, repaired=True, leaves=DATASET, holds=events(count))


def lines(
    *titles: tuple[int, str], separator: str = "\t", ends: str = "\n", name: str = "log.tsv"
) -> Callable[[Path], list[str]]:
    """The sound log with a title in each line, those at (line, title) replaced."""
    named = dict(titles)
    body = [
        separator.join(map(str, (user, named.get(number, "plain title"), item, time)))
        for number, (user, item, time) in enumerate(rows(), start=2)
    ]
    text = ends.join([separator.join(("user_id", "title", "item_id", "timestamp")), *body, ""])
    return content(name, text.encode())


def content(name: str, data: bytes, *more: str) -> Callable[[Path], list[str]]:
    """`facta prepare` of a file with these bytes."""

    def arrange(folder: Path) -> list[str]:
        (folder / name).write_bytes(data)
        return [*prepare(folder, folder / name), *more]

    return arrange


def text(ends: str = "\n", header: str = "user_id,item_id,timestamp") -> str:
    return ends.join([header, *(",".join(map(str, line)) for line in rows()), ""])


QUOTES = "quotation marks"
QUOTED = (
    read(QUOTES, "two fields open and never close", lines((9, '"Open'), (30, '"Heroes')), r"lines 9, 30 of"),
    read(QUOTES, "one field opens and never closes", lines((9, '"Open')), r"line 9 of"),
    read(QUOTES, "inches within a title", lines((9, '15" pipe')), r"line 9 of"),
    read(
        QUOTES, "one opens, a later one closes, whole events between", lines((9, '"Open'), (30, 'end"')), "lines 9, 30"
    ),
    Case(
        QUOTES,
        "one never closes where others hold separators",
        lines((5, '"Smith, John"'), (9, '"Open'), (30, '"Heroes'), separator=","),
        r"quotation mark in lines 9, 30 of .*close it",
    ),
    Case(
        QUOTES,
        "one never closes where every field has marks",
        content(
            "log.csv",
            ("\n".join('"' + '","'.join(line.split(",")) + '"' for line in text().split()))
            .replace('"3","4"', '"3,"4"')
            .encode(),
        ),
        r"quotation mark in lines? [0-9, ]+ of",
    ),
    read(QUOTES, "a title that spans lines", lines((9, '"two\nlines"'), separator=","), "Left out: title"),
    read(QUOTES, "separators within marks", lines((9, '"Smith, John"'), separator=","), "Left out: title"),
)

PATHS = "paths like patterns"


def _below(*parts: str) -> Callable[[Path], list[str]]:
    def arrange(folder: Path) -> list[str]:
        place = folder.joinpath(*parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        match place.suffix:
            case ".parquet":
                parquet(place, **sound())
            case ".jsonl":
                pl.DataFrame(sound()).write_ndjson(place)
            case _:
                csv(place, rows())
        return prepare(folder, place)

    return arrange


def _in_brackets(folder: Path) -> list[str]:
    """A table and the dataset itself in such folders."""
    place = folder / "exp [v2]"
    place.mkdir()
    items = csv(place / "items [1].csv", [(item, f"t{item}") for item in range(1, 6)], "item_id,title")
    log = csv(place / "events [final].csv", rows())
    facta.prepare(log, folder / "out [3]" / "data", items=items)
    return [
        "train",
        "debug/popularity",
        "--data",
        str(folder / "out [3]" / "data"),
        "--out",
        str(folder / "out [3]" / "a"),
    ]


def _pattern_in_brackets(folder: Path) -> list[str]:
    (folder / "day [1]").mkdir()
    csv(folder / "day [1]" / "a.csv", rows())
    return prepare(folder, folder / "day [1]" / "*.csv")


PATTERNS = (
    *(
        read(PATHS, f"a file named {name}", _below(name), "Unit of the times")
        for name in ("events [final].csv", "events [final].parquet", "events [final].jsonl", "what?.csv", "a*b.parquet")
    ),
    read(PATHS, "a pattern in a folder with brackets", _pattern_in_brackets, "Unit of the times"),
    Case(
        PATHS,
        "log, table, dataset and artifact in folders with brackets",
        _in_brackets,
        "",
        repaired=True,
        leaves=("out [3]",),
        holds=lambda folder, _: bool(facta.load(folder / "out [3]" / "a")),
    ),
)

TWICE = "events that come twice"


def _beside_its_copy(folder: Path) -> list[str]:
    log = csv(folder / "logs" / "log.csv", rows()) if (folder / "logs").mkdir() is None else folder
    (folder / "logs" / "log.csv.gz").write_bytes(gzip.compress(log.read_bytes()))
    return prepare(folder, folder / "logs")


def _overlapping(folder: Path) -> list[str]:
    (folder / "logs").mkdir()
    csv(folder / "logs" / "all.csv", rows())
    csv(folder / "logs" / "november.csv", rows()[:20])
    return prepare(folder, folder / "logs")


def _other_compression(folder: Path) -> list[str]:
    (folder / "logs").mkdir()
    for name in ("zstd", "snappy"):
        pl.DataFrame(sound()).write_parquet(folder / "logs" / f"{name}.parquet", compression=name)  # type: ignore[arg-type]
    return prepare(folder, folder / "logs")


def _a_few(folder: Path) -> list[str]:
    (folder / "logs").mkdir()
    csv(folder / "logs" / "a.csv", rows(40)[:120])
    csv(folder / "logs" / "b.csv", rows(40)[118:])
    return prepare(folder, folder / "logs")


def _joined(folder: Path) -> list[str]:
    once = text(header="user_id,item_id").replace(f",{START}", ",")
    short = "\n".join(line.rpartition(",")[0] for line in text().split())
    (folder / "log.csv").write_text(f"{short}\n{short}\n")
    assert once
    return prepare(folder, folder / "log.csv")


DOUBLES = (
    Case(TWICE, "a log beside its compressed copy", _beside_its_copy, "are the same; their events would count twice"),
    Case(
        TWICE, "a part of a log beside the whole", _overlapping, "100% of the events of .*november.csv' are in another"
    ),
    Case(TWICE, "one log in two compressions", _other_compression, "are in another file of the log, too"),
    Case(TWICE, "a header among the events", _joined, "its own name as user id in 1 event: a header"),
    read(TWICE, "a few events at the edge", _a_few, "2 events are in two files", 242),
)

ENDS = "ends and beginnings of text files"
CUT = text().encode().rstrip(b"\n")
CUTS = (
    Case(ENDS, "a time cut short", content("log.csv", CUT[:-1]), r"last line \(49\) .* was cut off in '[0-9]{9}'"),
    Case(
        ENDS, "a line cut short", content("log.csv", CUT[:-12]), r"last line \(49\) .* was cut off after 2 of 3 columns"
    ),
    Case(ENDS, "a time cut short, compressed", content("log.csv.gz", gzip.compress(CUT[:-2])), "was cut off in"),
    read(ENDS, "no line break at the end", content("log.csv", CUT), "Unit of the times"),
    read(ENDS, "a blank line at the end", content("log.csv", CUT + b"\n\n"), "Skipped 1 blank line"),
    read(ENDS, "lines of separators at the end", content("log.csv", CUT + b"\n,,\n,,\n"), "Skipped 2 blank lines"),
    read(
        ENDS,
        "blank lines of Windows",
        content("log.csv", text("\r\n").encode() + b"\r\n  \r\n"),
        "Skipped 2 blank lines",
    ),
    read(
        ENDS,
        "a line that names the separator",
        content("log.csv", b"sep=;\n" + text().replace(",", ";").encode()),
        "Unit",
    ),
    Case(
        ENDS,
        "no header, some text",
        content("log.csv", text(header="1,2,1700000000,pv").replace(",16", ",9,pv,16").encode()),
        "holds values .*put a header",
    ),
    Case(ENDS, "no header, dates", content("log.csv", b"ann,shoe,2024-05-31\n" * 3), "holds values .*put a header"),
    Case(ENDS, "line breaks of old Macs", content("log.csv", text("\r").encode()), "line breaks of old Macs"),
    Case(ENDS, "UTF-16", content("log.csv", text().encode("utf-16")), "is UTF-16 text; save it as UTF-8"),
    Case(ENDS, "UTF-16 without a mark", content("log.csv", text().encode("utf-16-le")), "as UTF-16 text does"),
    Case(ENDS, "a workbook", content("log.csv", b"PK\x03\x04rest"), "an Excel workbook; unpack it, or save"),
    Case(
        ENDS,
        "a NUL byte",
        content("log.csv", text().replace("\n5,", "\n5\0,", 1).encode()),
        r"Line 32 of .* has a NUL byte",
    ),
    Case(
        ENDS,
        "latin-1",
        content("log.csv", text().replace("\n5,", "\n\xe95,", 1).encode("latin-1")),
        "line 32 has the byte 0xe9",
    ),
    read(ENDS, "a byte order mark", content("log.csv", b"\xef\xbb\xbf" + text().encode()), "Unit of the times"),
)

JSON = "JSON-lines that are none"


def objects(change: Callable[[list[str]], list[str]]) -> Callable[[Path], list[str]]:
    """The sound log as JSON-lines, its lines changed."""
    names = ("user_id", "item_id", "timestamp")
    said = [json.dumps(dict(zip(names, line, strict=True))) for line in rows()]
    return lambda folder: content("log.jsonl", "\n".join(change(said)).encode())(folder)


JSONS = (
    Case(
        JSON,
        "NaN",
        objects(lambda all_: [*all_[:20], '{"user_id": NaN}', *all_[20:]]),
        "Line 21 of .* has NaN, which is not JSON",
    ),
    Case(JSON, "an array", objects(lambda all_: ["[" + ", ".join(all_) + "]"]), "is a JSON array; .*one object a line"),
    Case(JSON, "an array over lines", objects(lambda all_: ["[", ",\n".join(all_), "]"]), "is a JSON array"),
    Case(
        JSON,
        "objects over lines",
        objects(lambda all_: [one.replace("{", "{\n") for one in all_]),
        "objects that span lines",
    ),
    Case(
        JSON,
        "a torn line",
        objects(lambda all_: [*all_, '{"user_id": 1, "item']),
        "Line 49 of .* not JSON .*was cut off",
    ),
    Case(JSON, "a byte order mark", objects(lambda all_: ["\ufeff" + all_[0], *all_[1:]]), "byte order mark"),
    Case(
        JSON,
        "single quotes",
        objects(lambda all_: [*all_[:5], "{'user_id': 1}", *all_[5:]]),
        "Line 6 of .* is not JSON",
    ),
)

FOLDERS = "folders"


def _days(*, hidden: bool = False) -> Callable[[Path], list[str]]:
    def arrange(folder: Path) -> list[str]:
        for day in (1, 2):
            place = folder / "logs" / f"day={day}"
            place.mkdir(parents=True)
            csv(place / "part.csv", [line for line in rows() if line[0] % 2 == day - 1])
            if hidden:
                (place / "._part.csv").write_bytes(b"\x00\x05\x16\x07\x00\x02")
                (place / "_SUCCESS.csv").write_bytes(b"")
                (place.parent / ".DS_Store").write_bytes(b"\0")
        return [*prepare(folder, folder / "logs"), "--field", "day:context"]

    return arrange


def _days_by_pattern(folder: Path) -> list[str]:
    _days()(folder)
    return [*prepare(folder, folder / "logs" / "*" / "*.csv"), "--field", "day:context"]


def _days_hold(folder: Path, answer: Answer) -> bool:
    dataset = facta.Dataset.open(folder / "out")
    return dataset.num_events == 48 and sorted(set(dataset.fields["day"].tolist())) == [1, 2]


def partitioned(name: str, arrange: Callable[[Path], Sequence[str]]) -> Case:
    return Case(FOLDERS, name, arrange, "Unit of the times", repaired=True, leaves=DATASET, holds=_days_hold)


PARTITIONS = (
    partitioned("files below, one folder a day", _days()),
    partitioned("the same by pattern", _days_by_pattern),
    partitioned("hidden files beside them", _days(hidden=True)),
    Case(
        FOLDERS,
        "a hidden file by name",
        lambda folder: content("._events.csv", b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")(folder),
        "the hidden companion that macOS writes",
    ),
)

FILES: tuple[Case, ...] = (*QUOTED, *PATTERNS, *DOUBLES, *CUTS, *JSONS, *PARTITIONS)
