"""A log with a line for each action becomes one of events: the table written out by hand, and plain loops."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import facta
from facta.cli import app
from facta.data.dataset.schema import recognise
from facta.data.log.events import open_events
from facta.data.log.pivot import MOST_ACTIONS, NEW_EVENT_AFTER_MS, NEW_VISIT_AFTER_MS, pivoted
from facta.data.log.resources import estimate_resources
from facta.errors import ConfigError, DataError

START = 1_700_000_000
MINUTE, HOUR, DAY = 60, 3600, 86_400
NAMES = ("user_id", "item_id", "timestamp", "event_type", "price")
# As a shop writes it: users between each other, a purchase before its view in the file, everything unsorted.
LINES = [
    ("u", 1, 0, "view", 9.0),
    ("v", 2, 10, "view", 5.0),
    ("u", 1, 5 * HOUR, "purchase", 8.0),  # of the cart in the morning, late
    ("u", 1, 20, "view", 9.0),  # looks again: the same visit
    ("u", 2, 25, "view", 5.0),
    ("u", 1, MINUTE, "cart", 9.0),
    ("v", 2, 10, "cart", 5.0),  # the same second as its view
    ("u", 1, 2 * DAY, "view", 9.5),  # a visit of its own
    ("v", 3, 100, "purchase", 7.0),  # the second of the view after it, which comes first all the same
    ("v", 3, 100, "view", 7.0),
    ("w", 1, 50, "cart", 9.0),  # from a list of wishes: nobody saw a view
    ("u", 2, 25 + 29 * MINUTE, "view", 5.0),
    ("u", 2, 25 + 58 * MINUTE, "view", 5.0),  # 29 minutes after the last one: still looking
    ("u", 2, 25 + 89 * MINUTE, "view", 5.0),  # 31 minutes after it: a new visit
]
# user, item, time of the event, price, cart, its time, purchase, its time, view, its time; in order of first lines
EVENTS = [
    ("u", 1, 0, 9.0, True, MINUTE, True, 5 * HOUR, True, 0),
    ("v", 2, 10, 5.0, True, 10, False, None, True, 10),
    ("u", 2, 25, 5.0, False, None, False, None, True, 25),
    ("u", 1, 2 * DAY, 9.5, False, None, False, None, True, 2 * DAY),
    ("v", 3, 100, 7.0, False, None, True, 100, True, 100),
    ("w", 1, 50, 9.0, True, 50, False, None, False, None),
    ("u", 2, 25 + 89 * MINUTE, 5.0, False, None, False, None, True, 25 + 89 * MINUTE),
]


def log(lines: list[tuple[Any, ...]] = LINES) -> pl.DataFrame:
    return pl.DataFrame(lines, schema=NAMES, orient="row").with_columns(pl.col("timestamp") + START)


def made(source: Any, name: str = "event_type", **options: Any) -> pl.DataFrame:
    opened = open_events(source)
    found, _ = pivoted(opened, recognise(opened.columns), name, None, **options)
    return pl.DataFrame([found.column(column) for column in found.columns])


def plain(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Times since START, in the columns of EVENTS."""
    times = [name for name in frame.columns if name == "timestamp" or name.endswith("_at")]
    return frame.with_columns(pl.col(times) - START).rows()


def test_the_table_is_the_one_written_out_by_hand() -> None:
    frame = made(log())
    assert frame.columns == [
        *("user_id", "item_id", "timestamp", "price"),
        *("cart", "cart_at", "purchase", "purchase_at", "view", "view_at"),
    ]
    assert plain(frame) == EVENTS


def test_the_first_action_has_no_field_where_every_event_has_it() -> None:
    without_wishes = [line for line in LINES if line[0] != "w"]
    frame = made(log(without_wishes))
    assert "view" not in frame.columns and "view_at" not in frame.columns
    assert plain(frame) == [event[:8] for event in EVENTS if event[0] != "w"]


def test_files_in_any_form_give_the_same_events(tmp_path: Path) -> None:
    log()[:5].write_csv(tmp_path / "a.csv")
    log()[5:].write_csv(tmp_path / "b.csv")
    assert plain(made([tmp_path / "a.csv", tmp_path / "b.csv"]).cast({"item_id": pl.Int64})) == EVENTS
    log()[:5].write_parquet(tmp_path / "a.parquet")
    log()[5:].write_parquet(tmp_path / "b.parquet")
    assert plain(made([tmp_path / "a.parquet", tmp_path / "b.parquet"])) == EVENTS
    one, two = (
        facta.prepare([tmp_path / f"{name}.{kind}" for name in "ab"], tmp_path / kind, pivot="event_type")
        for kind in ("csv", "parquet")
    )
    assert one.manifest.content_hash == two.manifest.content_hash


def test_prepare_makes_fields_that_know_when_they_were_given(tmp_path: Path) -> None:
    dataset = facta.prepare(log(), tmp_path / "log", pivot="event_type")
    fields = {field.name: field for field in dataset.manifest.fields}
    assert list(fields) == ["price", "cart", "purchase", "view"]
    assert {fields[name].given_when for name in ("cart", "purchase", "view")} == {"cart_at", "purchase_at", "view_at"}
    assert [(fields[name].kind, fields[name].role) for name in ("cart", "view")] == [("binary", "feedback")] * 2
    ids = dataset.users["user_id"].to_list(), dataset.items["item_id"].to_list()
    users = np.repeat(ids[0], np.diff(dataset.offsets))
    found = list(
        zip(
            users.tolist(),
            [ids[1][row] for row in dataset.item],
            (np.asarray(dataset.timestamp) // 1000 - START).tolist(),
            dataset.fields["purchase"].tolist(),
            (np.asarray(dataset.delays["purchase"]) // 1000).tolist(),
            strict=True,
        )
    )
    bought = {event[:3]: event[7] - event[2] if event[6] else -1 for event in EVENTS}
    assert {event[:3]: event[4] if event[3] else -1 for event in found} == bought
    assert fields["purchase"].late == 0.5 and fields["purchase"].before == 0.0  # of the two, one after the next event
    notes = " ".join(dataset.manifest.notes)
    assert "14 lines of 'event_type' became 7 events" in notes and "repeated within their event: 3 lines" in notes
    assert "'price' differs between the lines of 1 event; the first line counts." in notes


def slowly(lines: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The definition: (user, item, {action: first line}) of every event, lines as (user, item, seconds, action)."""
    pairs: dict[tuple[Any, Any], list[int]] = {}
    for row, line in enumerate(lines):
        pairs.setdefault(line[:2], []).append(row)
    actions = sorted({line[3] for line in lines})
    starts = {
        name: sum(
            any(lines[row][3] == name and lines[row][2] == min(lines[other][2] for other in rows) for row in rows)
            for rows in pairs.values()
        )
        for name in actions
    }
    amount = {name: sum(line[3] == name for line in lines) for name in actions}
    first = min(actions, key=lambda name: (-starts[name], -amount[name], name))
    events: list[tuple[int, Any, Any, dict[str, int]]] = []
    for (user, item), rows in pairs.items():
        before = None
        for row in sorted(rows, key=lambda row: (lines[row][2], lines[row][3] != first, row)):
            time, action = lines[row][2:4]
            window = NEW_VISIT_AFTER_MS if action == first else NEW_EVENT_AFTER_MS
            if before is None or (time - before) * 1000 > window:
                events.append((row, user, item, {}))
            events[-1][3].setdefault(action, row)
            before = time
    return [event[1:] for event in sorted(events)]


@pytest.mark.parametrize("seed", range(12))
def test_random_logs_equal_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, step = 300, [1, 5 * MINUTE, 2 * HOUR][seed % 3]  # many ties, and gaps around both windows
    lines = [
        (f"u{rng.integers(5)}", int(rng.integers(4)), int(rng.integers(400)) * step, "abcd"[rng.integers(4)], float(k))
        for k in range(n)
    ]
    frame = made(log(lines))
    expected = slowly(lines)
    assert len(frame) == len(expected)
    for found, (user, item, actions) in zip(frame.iter_rows(named=True), expected, strict=True):
        first = min(actions.values(), key=lambda row: (lines[row][2], row))
        assert (found["user_id"], found["item_id"], found["timestamp"] - START) == (user, item, lines[first][2])
        for name in "abcd":
            time = None if name not in actions else START + lines[actions[name]][2]
            if name in frame.columns:
                assert (found[name], found[f"{name}_at"]) == (name in actions, time)
            else:
                assert name in actions  # the first action, which all events have


def test_numbers_name_their_column(tmp_path: Path) -> None:
    numbers = {"view": 1, "cart": 3, "purchase": 4}
    coded = log().with_columns(pl.col("event_type").replace_strict(numbers).alias("behavior_type")).drop("event_type")
    frame = made(coded, "behavior_type")
    assert frame.columns[4:] == [f"behavior_type_{code}{end}" for code in (1, 3, 4) for end in ("", "_at")]
    assert frame["behavior_type_4"].sum() == 2


def test_declared_meaning_of_an_action_is_added_to_its_time(tmp_path: Path) -> None:
    said = {"purchase": {"undefined": "cart = false"}, "price": "context"}
    dataset = facta.prepare(log(), tmp_path / "log", pivot="event_type", fields=said)
    fields = {field.name: field for field in dataset.manifest.fields}
    assert list(fields) == ["purchase", "price", "cart", "view"]
    assert fields["purchase"].given_when == "purchase_at" and fields["purchase"].waits_for == ("cart",)
    assert fields["price"].role == "context"


def test_ids_written_in_two_ways_are_one_pair(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        f"user_id,item_id,timestamp,action\n7,1,{START},view\n7.0,1,{START + 5},buy\n8,,{START},view\n"
    )
    with pytest.raises(DataError, match=r"has 1 event without item id; .*--drop invalid"):
        facta.prepare(tmp_path / "log.csv", tmp_path / "log", pivot="action")
    dataset = facta.prepare(tmp_path / "log.csv", tmp_path / "log", pivot="action", drop=["invalid"])
    assert (dataset.num_events, dataset.fields["buy"].tolist()) == (1, [1])
    assert not (tmp_path / "log" / "histories" / "field-action.npy").exists()


REFUSED: dict[str, tuple[pl.DataFrame, str, str]] = {
    "absent": (log(), "action", "There is no column 'action' to pivot; the log has: user_id"),
    "an id": (log(), "item_id", "'item_id' to pivot, which is a user, item or time already"),
    "no times": (log().drop("timestamp"), "event_type", "in a log without times"),
    "one value": (log(LINES[:2]), "event_type", "has 1 value; expected the actions"),
    "many values": (
        log([("u", 1, k, f"action {k}", 1.0) for k in range(MOST_ACTIONS + 1)]), "event_type", "has 21 values",
    ),
    "no action": (log([*LINES, ("u", 1, 0, None, 1.0), ("u", 1, 0, " ", 1.0)]), "event_type", "has 2 lines without an"),
    "a price": (log(), "price", "has type Float64; expected actions"),
    "a taken name": (log([*LINES, ("u", 1, 0, "price", 1.0)]), "event_type", "needs the column 'price', which there"),
    "a time of two centuries": (
        log([*LINES, ("u", 1, -START - 9, "view", 1.0)]), "event_type", "before 1973 .*--drop invalid",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_log_of_actions_is_a_sentence(name: str, tmp_path: Path) -> None:
    frame, column, sentence = REFUSED[name]
    with pytest.raises((DataError, ConfigError), match=sentence):
        facta.prepare(frame, tmp_path / "log", pivot=column)
    assert list(tmp_path.iterdir()) == []


def test_the_pivoted_column_is_no_field_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'event_type' becomes one field for each action"):
        facta.prepare(log(), tmp_path / "log", pivot="event_type", fields=["event_type"])
    with pytest.raises(DataError, match="There is no column 'wish' to keep as a field"):
        facta.prepare(log(), tmp_path / "log", pivot="event_type", fields=["wish"])


def test_the_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^\$ facta (prepare \S+ --pivot \S+ --out \S+)$", page, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    log().write_parquet("actions.parquet")
    app(shlex.split(command), standalone_mode=False)
    dataset = facta.Dataset.open("data/visits")
    again = facta.prepare(log(), tmp_path / "again", pivot="event_type")
    assert dataset.manifest.content_hash == again.manifest.content_hash


def test_memory_that_lines_need_is_said(tmp_path: Path) -> None:
    opened = open_events(log())
    need = [estimate_resources(opened, NAMES, tmp_path, drop=(), pivot=pivot).memory for pivot in (False, True)]
    assert need[1] > need[0]
