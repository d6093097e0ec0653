"""From a log with a line for each action (view, cart, purchase of one item) to one line for each event.

The *first action* is the one that pairs of a user and an item mostly begin with: a view. Lines of one pair, in order of
time, belong to one event until

    the first action comes again, more than NEW_VISIT_AFTER_MS after the line before it, or
    another action comes more than NEW_EVENT_AFTER_MS after the line before it

So a second view within half an hour is the same visit, a purchase hours later is late feedback of that visit, and a
visit on the next day is another event. Of lines at one moment the first action comes first, then the order of the
input.

Letters: n lines, E events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from facta.data.dataset.ids import Ids, all_rows, clean_ids, refuse_missing
from facta.data.dataset.schema import FieldConfig
from facta.data.dataset.times import read_times
from facta.data.log.events import EventLog
from facta.data.log.files import Part
from facta.errors import ConfigError, DataError, counted

NEW_VISIT_AFTER_MS = 30 * 60_000  # ms
NEW_EVENT_AFTER_MS = 24 * 3_600_000  # ms
MOST_ACTIONS = 20  # different values; a column with more is a category or an id


class Pivoted(NamedTuple):
    """A log with one line for each event, and its fields of actions."""

    log: EventLog
    fields: dict[str, FieldConfig]


def check_pivot(name: str, columns: Sequence[str], mapping: Mapping[str, str], declared: Mapping[str, object]) -> None:
    """Raise DataError or ConfigError if a column cannot hold the actions of a log."""
    if name not in columns:
        raise ConfigError(f"There is no column '{name}' to pivot; the log has: {', '.join(columns)}.")
    if name in mapping.values():
        raise ConfigError(f"Found '{name}' to pivot, which is a user, item or time already; name that of the actions.")
    if "timestamp" not in mapping:
        raise ConfigError(
            f"Found '{name}' to pivot in a log without times, which say the lines of one event; name the column of "
            "times (--column timestamp=NAME)."
        )
    if name in declared:
        raise ConfigError(f"'{name}' becomes one field for each action; leave it out of the declared fields.")


def pivoted(
    log: EventLog, mapping: Mapping[str, str], name: str, unit: str | None, columns: Sequence[str] | None = None
) -> Pivoted:
    """One line for each event, in order of their first lines: the first line's values of `columns` (default: all), and
    for each action whether it happened, in a column named after it, and its first time, in a column `ACTION_at`.

    Actions are named by their text; numbers and truth values as `COLUMN_VALUE`. The first action gets no column if all
    events have it. Raises DataError for lines without user, item, time or action, for columns that hold no actions, and
    for a new column with the name of another.
    """
    actions, names = _actions(log.column(name))
    lines, rows = _ordered(log, mapping, actions, unit)
    events = rows.group_by("event").agg(pl.col("row").first()).sort("row")
    kept = [column for column in columns or log.columns if column != name]
    frame, notes = _first_lines(log, kept, rows, events, skip=list(mapping.values()))
    fields, new = {}, []
    raw = log.column(mapping["timestamp"])
    for code, action in enumerate(names):
        if (there := _first_of(rows, events, code)).null_count() or action != names[lines.first]:
            new += [there.is_not_null().alias(action), raw.gather(there).alias(f"{action}_at")]
            fields[action] = FieldConfig(time=f"{action}_at")
    _refuse_taken([column.name for column in new], log.columns)
    repeated = len(rows) - rows.n_unique(["event", "action"])
    said = [
        f"{counted(len(rows), 'line')} of '{name}' became {counted(len(events), 'event')}, each of which begins with "
        f"'{names[lines.first]}' where it has that; fields: {', '.join(fields) or 'none'}."
    ]
    if repeated:
        said.append(f"Actions that are repeated within their event: {counted(repeated, 'line')}; the first one counts.")
    part = Part("the log", "frame", frame.with_columns(new).lazy())
    return Pivoted(EventLog([part], log.names, [*log.notes, *said, *notes], text=log.text), fields)


class Lines(NamedTuple):
    """The lines of a log."""

    frame: pl.DataFrame  # [n] user, item (rows), time (ms), action (code)
    first: int  # code of the first action


def _actions(column: pl.Series) -> tuple[pl.Series, list[str]]:
    """([n] codes, names of the actions, sorted)."""
    name = column.name
    if not (column.dtype.is_integer() or column.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)):
        raise DataError(f"Column '{name}' has type {column.dtype}; expected actions: text or whole numbers.")
    text = column.cast(pl.String)
    missing = int((text.is_null() | (text.str.strip_chars() == "")).sum())
    if missing:
        raise DataError(f"Column '{name}' has {counted(missing, 'line')} without an action; write one, or remove them.")
    values = text.unique().sort()
    if not 2 <= len(values) <= MOST_ACTIONS:
        raise DataError(
            f"Column '{name}' has {counted(len(values), 'value')}; expected the actions of a log, "
            f"2 to {MOST_ACTIONS} of them, such as view and cart."
        )
    codes = text.replace_strict(values, pl.Series(range(len(values)), dtype=pl.UInt8), return_dtype=pl.UInt8)
    worded = column.dtype in (pl.String, pl.Categorical, pl.Enum)
    return codes.alias("action"), [value if worded else f"{name}_{value}" for value in values]


def _ordered(
    log: EventLog, mapping: Mapping[str, str], actions: pl.Series, unit: str | None
) -> tuple[Lines, pl.DataFrame]:
    """The lines of a log; [n] row, event and action in the order of events."""
    column = mapping["timestamp"]
    time = read_times(log.column(column), unit).milliseconds
    user, item = (_rows(log, mapping[f"{what}_id"], what) for what in ("user", "item"))
    frame = pl.DataFrame([user, item, time.alias("time"), actions])
    lines = Lines(frame, first_action(frame))
    return lines, with_events(frame, lines.first).select("row", "event", "action")


def _rows(log: EventLog, column: str, what: str) -> pl.Series:
    """[n] user or item ids of lines as numbers, equal for equal ids."""
    ids = clean_ids(log.column(column), what, text=log.text)
    refuse_missing(ids, column, what)
    return pl.Series(what, Ids(all_rows(ids), what).rows_known(ids))


def first_action(lines: pl.DataFrame) -> int:
    """The action with which most pairs of a user and an item begin; ties go to the one with more lines, then the first.

    If a pair has several actions at its first moment, each of them counts as its beginning.
    """
    begins = lines.filter(pl.col("time") == pl.col("time").min().over("user", "item"))
    pairs = begins.select("user", "item", "action").unique().group_by("action").agg(pairs=pl.len())
    counts = lines.group_by("action").agg(lines=pl.len()).join(pairs, on="action", how="left")
    best = counts.with_columns(pl.col("pairs").fill_null(0)).sort("pairs", "lines", -pl.col("action").cast(pl.Int16))
    return int(best["action"][-1])


def with_events(lines: pl.DataFrame, first: int) -> pl.DataFrame:
    """Lines [n] (user, item, time, action) in order of user, item and time, with `row` [n], their place in the input,
    and `event` [n], counted from 0."""
    again = pl.col("action") != first
    ordered = lines.with_row_index("row").sort("user", "item", "time", again, "row")
    same = (pl.col("user") == pl.col("user").shift()) & (pl.col("item") == pl.col("item").shift())
    window = pl.when(again).then(pl.lit(NEW_EVENT_AFTER_MS)).otherwise(pl.lit(NEW_VISIT_AFTER_MS))
    goes_on = same & (pl.col("time").diff() <= window)
    return ordered.with_columns(event=(~goes_on.fill_null(False)).cum_sum() - 1)


def _first_of(rows: pl.DataFrame, events: pl.DataFrame, code: int) -> pl.Series:
    """[E] the line of the first action with this code in each event; null: none."""
    firsts = rows.filter(pl.col("action") == code).group_by("event").agg(pl.col("row").first().alias("line"))
    return events.join(firsts, on="event", how="left", maintain_order="left")["line"]


def _first_lines(
    log: EventLog, columns: Sequence[str], rows: pl.DataFrame, events: pl.DataFrame, skip: Sequence[str]
) -> tuple[pl.DataFrame, list[str]]:
    """[E] the values of each event's first line; notes on columns whose lines differ, except those to `skip`."""
    kept, notes = [], []
    first = events.sort("event")["row"].gather(rows["event"])  # [n] the first line of each line's event
    for name in columns:
        column = log.column(name)
        kept.append(column.gather(events["row"]))
        if name not in skip:
            other = column.gather(rows["row"]).ne_missing(column.gather(first))
            if count := rows["event"].filter(other).n_unique():
                notes.append(f"'{name}' differs between the lines of {counted(count, 'event')}; the first line counts.")
    return pl.DataFrame(kept), notes


def _refuse_taken(new: Sequence[str], taken: Sequence[str]) -> None:
    twice = [name for name in new if name in taken or new.count(name) > 1]
    if twice:
        raise DataError(
            f"An action of the log needs the column '{twice[0]}', which there is already; rename that column, or the "
            "action."
        )
