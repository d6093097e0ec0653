"""Findings about a log before training: each says what was found, what it does to results, and how to mend it.

Letters: U users, E events, V items. Checks read a prepared dataset; a raw log is prepared in a temporary folder first.
"""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from facta import arrays
from facta.arrays import Bools, Ints
from facta.data.dataset.columns import bounds
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.ids import clean_ids
from facta.data.dataset.schema import Declared, SchemaConfig, check_given, recognise
from facta.data.dataset.times import Unit, check_unit, to_milliseconds
from facta.data.log.actions import Actions, find_actions
from facta.data.log.events import EventLog, Source, open_events
from facta.data.log.order import tied
from facta.data.log.prepare import prepare
from facta.data.log.repairs import Drop, problems
from facta.data.split.late import NO_TIME
from facta.errors import DataError, counted

Level = Literal["error", "warning", "note"]

_DAY_MS = 86_400_000
_YEAR_1995_MS = 788_918_400_000  # 1995-01-01 in ms: older times mostly come from a wrong unit
_RECENT_SHARE = 0.1  # share of the newest events, which are compared with all earlier ones
_SPOILED_SHARE = 0.05  # share of test targets: above the usual difference of two systems
_LEAST_DENSE_IDS = 20  # fewer ids than this may count 0, 1, 2, … by chance
_NO_ID = ("nan", "none", "null", "na", "n/a", "undefined", "unknown", "-1", "")


@dataclass(frozen=True)
class Finding:
    """One thing to know about a log."""

    name: str
    level: Level  # error: prepare refuses it; warning: results are wrong or not comparable; note: decide knowingly
    count: int  # number of events, users or ids concerned
    share: float  # of all of them
    what: str
    effect: str
    fix: str


def examine(
    source: Source,
    *,
    columns: Mapping[str, str] | None = None,
    fields: Declared | None = None,
    unit: Unit | None = None,
    now: int | None = None,
) -> list[Finding]:
    """Findings about a prepared dataset or a raw log, worst first; `now` in milliseconds defaults to the clock.

    `columns`, `fields` and `unit` say what a log means, as in `prepare`. An error of `prepare` is a finding too; the
    other checks then read the usable events. Raises DataError for a missing file, and for columns and units that do not
    exist.
    """
    check_unit(unit)
    check_given(columns or {})
    now = int(time.time() * 1000) if now is None else now
    if isinstance(source, Dataset):
        return _sorted(_of_dataset(source, now))
    if isinstance(source, (str, Path)):
        if (Path(source) / "manifest.json").exists():
            return _sorted(_of_dataset(Dataset.open(source), now))
        if not Path(source).exists() and not set("*?[") & set(str(source)):
            raise DataError(f"There is no file '{source}'.")
    schema = SchemaConfig(fields=fields)
    return _sorted(_raw(source, _Said(columns or {}, schema, unit), now))


def _sorted(findings: Iterator[Finding]) -> list[Finding]:
    order = ("error", "warning", "note")
    return sorted(findings, key=lambda finding: (order.index(finding.level), -finding.share))


class _Said(NamedTuple):
    """The user's declarations about a log."""

    columns: Mapping[str, str]
    schema: SchemaConfig
    unit: Unit | None


def _raw(source: Source, said: _Said, now: int) -> Iterator[Finding]:
    try:
        log = open_events(source, said.columns)
    except DataError as error:
        yield _unusable(error)
        return
    check_given(said.columns, log.columns)
    try:
        yield from _prepared(log, said, now, source)
    except DataError as error:
        yield _unusable(error)


def _of_dataset(dataset: Dataset, now: int) -> Iterator[Finding]:
    """Findings of a prepared dataset; of its fields only categories can be actions."""
    yield from _checked(dataset, now)
    if dataset.timestamp is not None:
        columns = {"user": _users(dataset), "item": np.asarray(dataset.item), "time": np.asarray(dataset.timestamp)}
        texts = {
            field.name: pl.Series(field.name, field.categories).gather(np.asarray(dataset.fields[field.name]))
            for field in dataset.manifest.fields
            if field.categories and field.undefined is None
        }
        yield from _line_per_action(find_actions(pl.DataFrame(columns), texts), "LOG")


def _prepared(log: EventLog, said: _Said, now: int, source: Source) -> Iterator[Finding]:
    """The reasons for a refusal, the repairs, and the findings of the rest in its prepared form."""
    columns, schema, unit = said
    mapping = recognise(log.columns, columns)
    log = log.loaded(log.columns)
    frame = pl.DataFrame([log.column(name) for name in mapping.values()])
    broken = problems(frame, mapping, unit, log.text)
    yield from (_refused(what, int(bad.sum()), len(frame)) for what, bad in broken.items())
    with tempfile.TemporaryDirectory(prefix="facta-doctor-") as folder:
        drop: tuple[Drop, ...] = ("invalid",) if broken else ()
        dataset = prepare(log, Path(folder) / "log", columns=columns, fields=schema.fields, unit=unit, drop=drop)
        yield from (_repaired(note) for note in dataset.manifest.notes)
        yield from _checked(dataset, now)
    if "timestamp" in mapping:
        rest = {name: log.column(name) for name in log.columns if name not in mapping.values()}
        yield from _line_per_action(find_actions(_lines(frame, mapping, unit, log.text), rest), _command(source, said))


def _lines(frame: pl.DataFrame, mapping: Mapping[str, str], unit: Unit | None, text: bool) -> pl.DataFrame:
    """[n] user, item and time of lines as numbers, null where one has none."""
    ids = [clean_ids(frame[mapping[f"{what}_id"]], what, text=text).alias(what) for what in ("user", "item")]
    time = to_milliseconds(frame[mapping["timestamp"]], unit).milliseconds
    return pl.DataFrame([*(one.rank("dense") for one in ids), time.alias("time")])


def _command(source: Source, said: _Said) -> str:
    """The log as named on the command line; "LOG" for frames and other sources without a name."""
    paths = source if isinstance(source, (list, tuple)) else [source]
    if not all(isinstance(path, (str, Path)) for path in paths):
        return "LOG"
    options = [f"--column {shlex.quote(f'{role}={name}')}" for role, name in said.columns.items()]
    options += [] if said.unit is None else [f"--unit {said.unit}"]
    return " ".join([*(shlex.quote(str(path)) for path in paths), *options])


def _line_per_action(actions: Actions | None, log: str) -> Iterator[Finding]:
    """A finding about a log with a line for each action, in which a purchase is three events."""
    if actions is None:
        return
    first, *others = actions.names
    yield Finding(
        "a line per action", "warning", actions.pairs, actions.share,
        f"'{actions.column}' says '{first}', {' or '.join(repr(name) for name in others)}, and {actions.share:.1%} of "
        f"the pairs of a user and an item ({actions.pairs:,}) have several of them within half an hour: the log has a "
        "line for each action.",
        f"One purchase counts as several events ({actions.later:,} lines repeat the item before them): the next item "
        "is often the same item, and a model learns that and little else.",
        "Make one event of the lines of one visit, with a field and a time for each action: "
        f"`facta prepare {log} --pivot {shlex.quote(actions.column)} --out data/by-event`; "
        f'in Python facta.prepare(…, pivot="{actions.column}").',
    )  # fmt: skip


def _unusable(error: DataError) -> Finding:
    return _refused(str(error), 1, 1, "Correct the log or its declarations, then examine it again.")


def _refused(what: str, count: int, events: int, fix: str = "Correct them, or prepare with --drop invalid.") -> Finding:
    return Finding("refused", "error", count, count / events, what, "`facta prepare` stops here.", fix)


def _repaired(what: str) -> Finding:
    return Finding(
        "repair", "note", 0, 0.0, what, "The other events are used as described.", "Nothing, if that is meant."
    )


def _checked(dataset: Dataset, now: int) -> Iterator[Finding]:
    checks: tuple[Callable[[Dataset], Iterator[Finding]], ...] = (
        duplicates, ties, single_events, repeats, unseen_items, index_ids, missing_ids, crowding, drift,
        late_feedback,
    )  # fmt: skip
    yield from impossible_times(dataset, now)
    for check in checks:
        yield from check(dataset)


def impossible_times(dataset: Dataset, now: int) -> Iterator[Finding]:
    """Events of the future, and events of before 1995."""
    if dataset.timestamp is None:
        yield Finding(
            "no times", "note", dataset.num_events, 1.0, "The log has an order of events but no times.",
            "Time bias, temporal splits and time-decayed popularity are not possible.",
            "Give the time of each event as a column `timestamp`, if it is known.",
        )  # fmt: skip
        return
    late = int((dataset.timestamp > now + _DAY_MS).sum())
    if late:
        yield _events(
            dataset, "future times", "warning", late, "lie in the future.",
            "A temporal split tests on events that have not happened; time features reach values never seen in use.",
            "Check the unit (--unit) and the clock that wrote them, or remove these events.",
        )  # fmt: skip
    early = int((dataset.timestamp < _YEAR_1995_MS).sum())
    if early:
        yield _events(
            dataset, "times out of range", "warning", early, "lie before 1995.",
            "Gaps of decades swamp the time bias, and recency means nothing.",
            "Check the unit (--unit); 0 and 1970 usually stand for a missing time: remove these events.",
        )  # fmt: skip


def duplicates(dataset: Dataset) -> Iterator[Finding]:
    """Events equal in user, item, time and every field; without times a repetition may be meant: see `repeats`."""
    if dataset.timestamp is None:
        return
    among = np.flatnonzero(_tied(dataset))  # equal events have equal times
    columns = {"user": _users(dataset)[among], "time": dataset.timestamp[among], "item": dataset.item[among]}
    columns |= {f"field {name}": values[among] for name, values in dataset.fields.items()}
    count = len(among) - pl.DataFrame(columns).n_unique() if len(among) else 0
    if count:
        yield _events(
            dataset, "duplicates", "warning", count, "repeat another in every stored column.",
            "Repeated events train twice, and a test target that is already in the history is easy to guess.",
            "Prepare with --drop duplicates, unless people really do this twice within a moment.",
        )  # fmt: skip


def ties(dataset: Dataset) -> Iterator[Finding]:
    """Events of one user at one time: their order is the input's."""
    if dataset.timestamp is None:
        return
    same = _tied(dataset)
    count = int(same.sum())
    if not count:
        return
    ends = dataset.offsets[1:][np.diff(dataset.offsets) > 1]
    last = float((dataset.timestamp[ends - 1] == dataset.timestamp[ends - 2]).mean()) if len(ends) else 0.0
    yield _events(
        dataset, "tied times", "warning" if last > _SPOILED_SHARE else "note", count,
        f"share user and time with another; for {last:.1%} of the users the last two are tied.",
        "Events of a tie have the order of the input, so another sort of the same log has other test targets.",
        "Keep the input's order, use finer times if there are any, state the share, or evaluate with blind ties.",
    )  # fmt: skip


def single_events(dataset: Dataset) -> Iterator[Finding]:
    """Users with a single event."""
    count = int((np.diff(dataset.offsets) == 1).sum())
    if count:
        share = count / dataset.num_users
        yield Finding(
            "one-event users", "note", count, share, f"{share:.1%} of the users ({count:,}) have one event.",
            "They have nothing to be tested on in leave-one-out and teach a sequence model nothing.",
            "Nothing to mend; many of them suggest that user_id is a session or request id.",
        )  # fmt: skip


def repeats(dataset: Dataset) -> Iterator[Finding]:
    """Events whose item the user had before; the share among last events limits the test."""
    pairs = pl.DataFrame({"user": _users(dataset), "item": np.asarray(dataset.item)})
    again = ~pairs.to_struct("pair").is_first_distinct().to_numpy()
    ends = dataset.offsets[1:][np.diff(dataset.offsets) > 1] - 1
    last = float(again[ends].mean()) if len(ends) else 0.0
    if again.any():
        yield _events(
            dataset, "repeats", "warning" if last > _SPOILED_SHARE else "note", int(again.sum()),
            f"are of an item that their user had before, and so are {last:.1%} of the last ones.",
            f"A protocol that masks the history counts these targets as missed: no HR is above {1 - last:.2f}.",
            "Where people return to items, evaluate with nothing masked.",
        )  # fmt: skip


def unseen_items(dataset: Dataset) -> Iterator[Finding]:
    """Last events of items without training events, with the last two events of each user held out."""
    length = np.diff(dataset.offsets)
    ends = dataset.offsets[1:][length > 1] - 1
    if not len(ends):
        return
    held_out = np.zeros(dataset.num_events, dtype=np.bool_)
    held_out[ends] = True
    held_out[dataset.offsets[1:][length > 2] - 2] = True
    seen = np.bincount(dataset.item[~held_out], minlength=dataset.num_items) > 0
    count = int((~seen[dataset.item[ends]]).sum())
    if count:
        share = count / len(ends)
        yield Finding(
            "unseen items", "note" if share < 0.01 else "warning", count, share,
            f"{share:.1%} of the last events ({count:,}) are of items never seen in training.",
            "A model of ids can only guess them, so they cap every metric; to drop them quietly raises the numbers.",
            "Keep them, and report this share beside the result.",
        )  # fmt: skip


def index_ids(dataset: Dataset) -> Iterator[Finding]:
    """Consecutive ids: 0, 1, 2, … or 1, 2, 3, …"""
    for what, ids in (("user", dataset.users["user_id"]), ("item", dataset.items["item_id"])):
        if not ids.dtype.is_integer() or len(ids) < _LEAST_DENSE_IDS:
            continue
        low, high = bounds(ids) or (0, 0)
        if low in (0, 1) and high - low + 1 == len(ids):
            yield Finding(
                "ids like indexes", "note", len(ids), 1.0,
                f"All {len(ids):,} {what} ids count {low}, {low + 1}, … without a gap.",
                "They may be places in another table: a log indexed anew then gives the same numbers to other things.",
                "If they were made by a script, prepare from the original ids, or keep its table beside the dataset.",
            )  # fmt: skip


def missing_ids(dataset: Dataset) -> Iterator[Finding]:
    """Ids that stand for "no id"."""
    for what, ids in (("user", dataset.users["user_id"]), ("item", dataset.items["item_id"])):
        rows = np.flatnonzero(ids.cast(pl.String).str.to_lowercase().is_in(_NO_ID).to_numpy())
        events = np.isin(_users(dataset) if what == "user" else dataset.item, rows)
        if events.any():
            yield _events(
                dataset, "ids for nothing", "warning", int(events.sum()),
                f"have the {what} id {ids[int(rows[0])]!r}, which looks like a missing one.",
                f"Unrelated events become the history of one {what}.",
                "Remove these events before preparing.",
            )  # fmt: skip


def crowding(dataset: Dataset) -> Iterator[Finding]:
    """One user with a large part of all events."""
    length = np.diff(dataset.offsets)
    most, usual = int(length.max()), float(np.median(length))
    if dataset.num_users >= 100 and most > 0.05 * dataset.num_events and most > 100 * usual:
        user = dataset.users["user_id"][int(length.argmax())]
        yield _events(
            dataset, "crowded user", "warning", most, f"belong to one user, {user!r}.",
            "A robot, a shared account or a default id dominates training.",
            "Look at that user, and remove the events if they are not a person's.",
        )  # fmt: skip


def drift(dataset: Dataset) -> Iterator[Finding]:
    """Ids of the newest tenth of the events that no older event has."""
    if dataset.timestamp is None or dataset.num_events < 10:
        return
    cut = np.quantile(dataset.timestamp, 1 - _RECENT_SHARE, method="lower")
    new = np.asarray(dataset.timestamp) > cut
    if not new.any():
        return
    for what, rows in (("user", _users(dataset)), ("item", np.asarray(dataset.item))):
        known = np.bincount(rows[~new], minlength=dataset.num_users if what == "user" else dataset.num_items) > 0
        count = int((~known[rows[new]]).sum())
        share = count / int(new.sum())
        if share > 0.1:
            yield Finding(
                f"new {what}s", "warning" if share > 0.9 else "note", count, share,
                f"Of the newest events, {share:.1%} are of {what}s that appear in none before.",
                f"In a temporal split a model of ids knows nothing of these {what}s; leave-one-out hides it.",
                "Report both protocols; above 90 % look whether the ids were given anew at some time.",
            )  # fmt: skip


def late_feedback(dataset: Dataset) -> Iterator[Finding]:
    """Values of fields with a time that were given after the user's next event."""
    for field in dataset.manifest.fields:
        if field.late:
            count = round(field.late * int((dataset.delays[field.name] != NO_TIME).sum()))
            yield Finding(
                "late feedback", "warning", count, field.late,
                f"{field.late:.1%} of the values of '{field.name}' with a time ({count:,}) were given after the user's "
                "next event.",
                "Feedback arrived after the next event: models are not shown a value in its own event before it was "
                "given, so these are learned and predicted, but never read.",
                "Nothing to mend; where they should be read, prepare a log with a line for each action, which shows "
                "each at its own time (docs/data.md).",
            )  # fmt: skip


def _events(dataset: Dataset, name: str, level: Level, count: int, what: str, effect: str, fix: str) -> Finding:
    share = count / dataset.num_events
    return Finding(name, level, count, share, f"{counted(count, 'event')} ({share:.1%}) {what}", effect, fix)


def _users(dataset: Dataset) -> Ints:
    """[E] the user row of every event."""
    return arrays.rows(dataset.offsets)


def _tied(dataset: Dataset) -> Bools:
    assert dataset.timestamp is not None
    return tied(np.asarray(dataset.timestamp), dataset.offsets)
