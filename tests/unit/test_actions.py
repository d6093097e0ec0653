"""A log with a line for each action is recognised by its values, and logs that only repeat items are not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import facta
from facta.cli import app
from facta.data.log.doctor import Finding, examine

START, DAY = 1_700_000_000, 86_400
NAMES = ("user_id", "item_id", "timestamp", "action")


def shop(
    *, carts: float = 0.3, users: int = 60, seed: int = 0, words: tuple[str, ...] = ("view", "cart", "buy")
) -> pl.DataFrame:
    """Visits of a shop: a view, then by chance a cart within a minute, then by chance a purchase."""
    rng = np.random.default_rng(seed)
    lines: list[tuple[int, int, int, str]] = []
    for user in range(users):
        for place in range(12):
            time, item = START + place * DAY // 3 + int(rng.integers(3600)), int(rng.integers(40))
            lines.append((user, item, time, words[0]))
            if rng.random() < carts:
                lines.append((user, item, time + 20, words[1]))
                if rng.random() < 0.4:
                    lines.append((user, item, time + 90, words[2]))
    return pl.DataFrame(lines, schema=NAMES, orient="row").sample(fraction=1.0, shuffle=True, seed=seed)


def found(source: object, **options: object) -> Finding | None:
    findings = {one.name: one for one in examine(source, **options)}  # type: ignore[arg-type]
    return findings.get("a line per action")


def by_hand(frame: pl.DataFrame, first: str) -> tuple[int, int]:
    """(pairs with several actions in one run, pairs), by plain loops."""
    lines = sorted(frame.select("user_id", "item_id", "timestamp", frame.columns[3]).rows(), key=lambda line: line[:3])
    several, pairs, run, before = set(), set(), set(), None
    for user, item, time, action in lines:
        if before is None or before[:2] != (user, item) or time - before[2] > 1800:
            run = set()
        run.add(action)
        pairs.add((user, item))
        if len(run) > 1:
            several.add((user, item))
        before = (user, item, time)
    return len(several), len(pairs)


@pytest.mark.parametrize("name", ["action", "event_type", "Behavior-Type", "what"])
def test_a_line_per_action_is_found_and_counted(name: str) -> None:
    frame = shop().rename({"action": name})
    finding = found(frame)
    several, pairs = by_hand(frame, "view")
    assert finding is not None
    assert (finding.level, finding.count, finding.share) == ("warning", several, several / pairs)
    assert f"'{name}' says 'view', 'buy' or 'cart', and {several / pairs:.1%} of the pairs" in finding.what
    assert f"`facta prepare LOG --pivot {name} --out data/by-event`" in finding.fix


def test_rare_carts_are_found_where_the_column_says_what_it_holds() -> None:
    rare = shop(carts=0.03)
    assert found(rare) is not None
    assert found(rare.rename({"action": "what"})) is None


def test_numbers_of_a_column_named_so_are_actions() -> None:
    codes = {"view": 1, "cart": 2, "buy": 4}
    numbers = shop().with_columns(pl.col("action").replace_strict(codes)).rename({"action": "behavior_type"})
    assert found(numbers) is not None
    assert found(numbers.rename({"behavior_type": "stars"})) is None


def repeats(label: str, *, loops: int, seed: int = 1) -> pl.DataFrame:
    """Music: people hear a track several times in a row; `label` says what the text column holds."""
    rng = np.random.default_rng(seed)
    lines = []
    for user in range(60):
        time = START
        for _ in range(12):
            item, time = int(rng.integers(40)), time + DAY // 3
            for again in range(int(rng.integers(1, loops + 1))):
                values = {
                    "one": "play",
                    "of the item": ["rock", "pop", "jazz"][item % 3],
                    "by chance": ["heard", "skipped"][int(rng.random() < 0.3)],
                    "device": ["phone", "car"][user % 2],
                }
                lines.append((user, item, time + 200 * again, values[label]))
    return pl.DataFrame(lines, schema=("user_id", "item_id", "timestamp", "text"), orient="row")


@pytest.mark.parametrize("loops", [1, 2, 6])
@pytest.mark.parametrize("label", ["one", "of the item", "by chance", "device"])
def test_logs_that_repeat_items_are_none(label: str, loops: int) -> None:
    log = repeats(label, loops=loops)
    assert found(log) is None
    if label != "by chance":
        assert found(log.rename({"text": "event_type"})) is None
    dates = log.with_columns(pl.col("timestamp") // DAY * DAY)  # many lines at one moment
    assert found(dates) is None


def test_visits_of_other_days_and_one_action_a_visit_are_none() -> None:
    assert found(shop(carts=0.0).with_columns(action=pl.Series(["view", "cart"] * 360))) is None
    apart = shop().with_columns(timestamp=pl.int_range(pl.len()) * DAY // 20 + START)
    assert found(apart) is None


def test_prepared_data_is_looked_at_too_and_the_command_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shop().rename({"user_id": "who", "action": "event_type"}).write_csv("my log.csv")
    columns = {"user_id": "who"}
    finding = found("my log.csv", columns=columns, unit="s")
    assert finding is not None
    command = re.search(r"`facta (prepare .*?)`", finding.fix)
    assert command is not None and "'my log.csv' --column user_id=who --unit s --pivot event_type" in command[1]
    app(shlex.split(command[1]), standalone_mode=False)
    assert found("data/by-event") is None
    events = facta.Dataset.open("data/by-event")
    assert events.num_events == 720 and {field.name for field in events.manifest.fields} == {"cart", "buy"}
    lines = facta.prepare("my log.csv", "data/lines", columns=columns)
    again = found(lines)
    assert again is not None and (again.count, again.share) == (finding.count, finding.share)


def test_broken_lines_do_not_hide_it(tmp_path: Path) -> None:
    broken = shop().with_columns(item_id=pl.when(pl.int_range(pl.len()) % 50 > 0).then("item_id"))
    names = {one.name for one in examine(broken)}
    assert {"refused", "a line per action"} <= names
