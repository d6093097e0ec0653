"""Late feedback: values that become known after their event, and what stands for them until then.

A field with a declared time (`"buy": {"time": "bought_at"}`) is stored with the delay of every value. At a moment m

    a value with the delay d of an event at time t is known if d = 0 or t + d < m
    until then the event shows the value of events to which nothing has happened (`Field.before`)
    a value without a time is known with its event

All later predictions read an event in one form: with the values known at the user's next event (for the newest event,
at the request). A value that becomes known later is never shown: decision 010 says what that loses, and which form of a
log loses less.

Training uses the values known when its period ended, like a log that was exported then. Otherwise the labels of its
newest events would come from the time of the test (leakage).

Letters: n events, U users.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.arrays import AnyInts, Bools, Ints
from facta.data.dataset.codes import codes, defined
from facta.data.dataset.columns import condition
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.raw import raw_values
from facta.data.dataset.schema import Field, FieldConfig
from facta.data.dataset.times import Unit, to_milliseconds
from facta.data.split.splits import Split, period_end, training_events
from facta.errors import ConfigError, DataError, counted

ALWAYS, NEVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max
NO_TIME = -1  # in place of a delay

Array = npt.NDArray[Any]


def known_at(dataset: Dataset, name: str, places: Ints) -> Ints:
    """[n] places of events -> [n] ms when a late field's value became known; ALWAYS: with its event."""
    assert dataset.timestamp is not None
    delay = np.asarray(dataset.delays[name][places], dtype=np.int64)
    return np.where(delay > 0, np.asarray(dataset.timestamp[places], dtype=np.int64) + delay, ALWAYS)


def known_codes(dataset: Dataset, name: str, places: Ints, moment: Ints | None) -> Ints:
    """[n] places of events -> [n] codes of a field, as known at `moment` [n] ms; None: at the end of the log."""
    field = next(one for one in dataset.manifest.fields if one.name == name)
    found = codes(field, dataset.fields[name][places])
    return found if moment is None else as_known(field, found, lambda one: known_at(dataset, one, places) >= moment)


def successes(dataset: Dataset, name: str, moment: Ints | None = None) -> Bools:
    """[E] whether a feedback field says success, as known of each user at `moment` [U] ms; None: at the end of the log.

    Raises ConfigError for a field without success.
    """
    field = next((one for one in dataset.manifest.fields if one.name == name and one.positives), None)
    if field is None:
        known = ", ".join(one.name for one in dataset.manifest.fields if one.positives)
        raise ConfigError(f"Found the field '{name}'; feedback fields that say what success is: {known or 'none'}.")
    when = None if moment is None else np.repeat(moment, np.diff(dataset.offsets))
    return np.isin(known_codes(dataset, name, np.arange(dataset.num_events), when), field.positives)


def learned_events(dataset: Dataset, split: Split, positive: str | None) -> Ints:
    """[E'] places of the training events, or of those with success of a field, as known when training ended."""
    events = training_events(dataset, split)
    if positive is None:
        return events
    moments = period_moments(dataset, [positive], split.train_end, split.train_cut)
    return events[successes(dataset, positive, moments)[events]]


def as_known(field: Field, found: Ints, hidden: Callable[[str], Bools]) -> Ints:
    """[n] codes -> [n] codes as known; `hidden`: which values [n] of a field are not known yet.

    A field whose `undefined` reads another one with a time is undefined until the other one is known.
    """
    if field.given_when is not None:
        found = np.where(hidden(field.name), before_code(field), found)
    for other in field.waits_for or ():
        found = np.where(hidden(other), 0, found)
    return found


def shown(
    fields: Mapping[str, Ints], late: Sequence[Field], times: Mapping[str, Ints], moment: Ints
) -> dict[str, Ints]:
    """Field -> [n] codes of events -> the codes as known at `moment` [n] ms. `times`: field -> [n] ms when its values
    became known; fields without an entry are known with their events.
    """
    every = np.full(len(moment), ALWAYS)

    def hidden(name: str) -> Bools:
        return times.get(name, every) >= moment

    return {**fields, **{one.name: as_known(one, fields[one.name], hidden) for one in late}}


def before_code(field: Field) -> int:
    """The code that an event shows until the value of its field is known."""
    if field.before is None:
        return 0
    return int(codes(field, np.array([field.before], dtype=field.dtype))[0])


def before_value(field: Field) -> Any:
    """The same value as people write it; None: undefined."""
    return None if field.before is None else raw_values(field, np.array([field.before], dtype=field.dtype))[0]


def waiting_on(field: Field) -> tuple[str, ...]:
    """The fields with a time that a value depends on: the field itself, then those of its condition."""
    return (*([] if field.given_when is None else [field.name]), *(field.waits_for or ()))


def period_moments(dataset: Dataset, names: Collection[str], ends: Ints, cut: int | None) -> Ints | None:
    """[U] ms: the end of a period with the first `ends` [U] events of every user, at most `cut` where that is given.

    None if all values of the fields are known with their events: then the moment makes no difference.
    """
    late = any(waiting_on(field) for field in dataset.manifest.fields if field.name in names)
    return period_end(dataset, ends, cut) if late else None


def given_times(column: pl.Series, unit: Unit | None, field: str) -> Ints:
    """[n] when values were given, in ms; ALWAYS where the column is missing, or 0 as some logs write it.

    Raises DataError for other values that are no times.
    """
    if column.dtype.is_numeric():
        column = column.set((column == 0).fill_null(False), None)
    if column.null_count() == len(column):
        return np.full(len(column), ALWAYS)
    present = column.drop_nulls()
    found = to_milliseconds(present, unit)
    if found.bad:
        raise DataError(f"{found.why}, which says when '{field}' was given; correct them, or leave them empty.")
    times = np.full(len(column), ALWAYS)
    times[column.is_not_null().to_numpy()] = found.milliseconds.to_numpy()
    return times


def delays(given: AnyInts, time: AnyInts, known: Bools) -> Array:
    """[n] ms from each event until its value was given, in the smallest type; NO_TIME where there is no time or value.

    A value that was given at or before its event is known with it.
    """
    timed = known & (given != ALWAYS)
    found = np.where(timed, np.maximum(np.where(timed, given, 0) - np.where(timed, time, 0), 0), NO_TIME)
    small = np.int32 if found.max(initial=0) <= np.iinfo(np.int32).max else np.int64
    return found.astype(small)


def shown_before(field: Field, values: Array, timed: Bools, possible: Bools) -> tuple[float | None, str]:
    """(stored value that an event shows until its own is known, or None for "undefined"; a note where it is a choice).

    `timed` [n]: values with a time; `possible` [n]: the declared condition does not make the value undefined. An event
    to which nothing has happened yet must look like the events without a time, to which nothing ever happens. Where
    these do not agree, it is "no" of a binary field and otherwise their most frequent value; "undefined" where there
    are none.
    """
    among = possible & ~timed
    there = defined(field, values) & among
    missing = int((among & ~there).sum())
    found, counts = np.unique(values[there], return_counts=True)
    if not len(found) or (len(found) == 1 and not missing):
        return (float(found[0]) if len(found) else None), ""
    common = found[counts.argmax()] if 2 * counts.max() > counts.sum() + missing else None
    choice = found[0] if field.kind == "binary" and found[0] == 0 else None if field.kind == "binary" else common
    others = int(counts.sum()) + missing - (missing if choice is None else int(counts[found == choice].sum()))
    said = "undefined" if choice is None else _said(field, choice)
    return None if choice is None else float(choice), (
        f"Until it is known, '{field.name}' is shown as {said}; {counted(others, 'event')} without a time "
        f"{'has' if others == 1 else 'have'} another value or none, which counts as known with the event."
    )


def _said(field: Field, value: float) -> str:
    return repr(field.categories[int(value)]) if field.categories else f"{value:g}"


def waits_for(name: str, fields: Mapping[str, FieldConfig]) -> tuple[str, ...] | None:
    """The other fields with a time whose column, or column of times, the `undefined` of a field reads; None if none."""
    said = fields[name].undefined
    columns = [] if said is None else condition(name, said).meta.root_names()
    timed = {other: one for other, one in fields.items() if one.time is not None and other != name}
    return tuple(other for other, one in timed.items() if other in columns or one.time in columns) or None
