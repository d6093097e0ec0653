"""Histories: given on the spot, or stored in a dataset; looked up in the catalogue and the fields of an artifact.

Letters: n events of a history. Rows are catalogue rows of the artifact that is asked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from facta.arguments import arguments, instance, unlike
from facta.arrays import Bools, Ints, offsets_of
from facta.data.batches import Wants
from facta.data.histories import Dataset, Fields
from facta.data.ids import ItemId, plain_value
from facta.data.late import ALWAYS, NEVER, as_known, before_value, known_at, waiting_on
from facta.data.raw import raw_codes, raw_of_codes, raw_values
from facta.data.schema import Field
from facta.data.series import Series, changes
from facta.data.times import Time, moment
from facta.errors import DataError, UnknownValueWarning

_STORED = np.dtype("datetime64[ms]")


@dataclass(frozen=True)
class History:
    """What one person did: item ids, oldest first, and when. Events of equal time keep their order.

    Values are as in the log, of a category its text; None, and all that is not given, is undefined. `known_at` says of
    fields with a time when each value became known; None, and all that is not given: with its event.
    """

    items: Sequence[ItemId]
    times: Sequence[Time] | None = None
    fields: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # context and feedback, a value for each event
    user: Mapping[str, Any] = field(default_factory=dict)  # constant facts of the person; lists of item ids, of items
    series: Sequence[tuple[Time, str, Any]] = ()  # facts of the person that change: when, which, its new value
    known_at: Mapping[str, Sequence[Time | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """The part of a history that the catalogue knows."""

    rows: Ints  # [n]
    times: Ints | None  # [n] milliseconds
    unknown: int  # events dropped because their item is not in the catalogue
    fields: Mapping[str, Ints] = field(default_factory=dict)  # [n] codes of what the model reads
    user: Mapping[str, int] = field(default_factory=dict)
    lists: Mapping[str, Ints] = field(default_factory=dict)  # rows of earlier histories; -1: not in the catalogue
    series: Series | None = None  # of this one person; None: not read
    late: tuple[Field, ...] = ()  # fields with values that became known after their events
    known_at: Mapping[str, Ints] = field(default_factory=dict)  # [n] ms; ALWAYS: with the event
    next_time: Ints | None = None  # [n] ms of the next event, also of an unknown item; NEVER: there is none

    def codes(self, at: int | None) -> Mapping[str, Ints]:
        """Field -> [n] codes that the events show in a request at a moment; None: all that is given is known."""
        if not self.late:
            return self.fields
        assert self.next_time is not None
        moment = np.minimum(self.next_time, NEVER if at is None else at)
        every = np.full(len(self.rows), ALWAYS)

        def hidden(name: str) -> Bools:
            return self.known_at.get(name, every) >= moment

        return {**self.fields, **{one.name: as_known(one, self.fields[one.name], hidden) for one in self.late}}


@arguments(dataset=instance("a facta.Dataset", Dataset))
def history_of(dataset: Dataset, user: ItemId, *, until: Time | None = None) -> History:
    """The history of a user of a dataset, up to and including a moment, with all that is known of events and user then.

    Times are np.datetime64 of milliseconds, UTC. The work grows with the length of the history, not with the dataset;
    the first call also reads the ids of all users.

    Raises DataError for an unknown user, and for a moment where the dataset has no times.
    """
    return histories_of(dataset, [user], until=until)[0]


@arguments(dataset=instance("a facta.Dataset", Dataset))
def histories_of(dataset: Dataset, users: Iterable[ItemId] | pl.Series, *, until: Time | None = None) -> list[History]:
    """The histories of many users, in their order; everything else as in `history_of`."""
    if not isinstance(users, Iterable) or isinstance(users, (str, bytes)):
        raise unlike("users", users, "a list of user ids")
    return [_stored(dataset, row, until) for row in dataset.user_rows(users).tolist()]


def _stored(dataset: Dataset, row: int, until: Time | None) -> History:
    start, stop = int(dataset.offsets[row]), int(dataset.offsets[row + 1])
    if until is not None:
        stop = start + _events_until(dataset, start, stop, until)
    ids, rows = dataset.items["item_id"], np.asarray(dataset.item[start:stop], dtype=np.int64)
    times = dataset.timestamp
    return History(
        ids.gather(rows).to_list(),
        None if times is None else list(np.asarray(times[start:stop]).astype(_STORED)),
        {one.name: _known_values(dataset, one, start, stop, until) for one in dataset.manifest.fields},
        {one.name: fact_of(dataset, one, row) for one in dataset.manifest.user_fields},
        _changes(dataset, row, until),
        {name: _known_at(dataset, name, start, stop, until) for name in dataset.delays},
    )


def _known_values(dataset: Dataset, one: Field, start: int, stop: int, until: Time | None) -> list[Any]:
    """The values of a field, as they are known up to and including a moment."""
    values, places = raw_values(one, dataset.fields[one.name][start:stop]), np.arange(start, stop)
    if until is None:
        return values

    def hidden(name: str) -> Bools:
        return known_at(dataset, name, places) > moment(until)

    for name in waiting_on(one):
        before = before_value(one) if name == one.name else None
        values = [before if late else value for late, value in zip(hidden(name), values, strict=True)]
    return values


def _known_at(dataset: Dataset, name: str, start: int, stop: int, until: Time | None) -> list[Time | None]:
    """When the values of a field with a time became known; None for those that are known with their events, or later
    than `until`.
    """
    found = known_at(dataset, name, np.arange(start, stop))
    last = NEVER if until is None else moment(until)
    return [None if time == ALWAYS or time > last else np.datetime64(int(time), "ms") for time in found]


def fact_of(dataset: Dataset, one: Field, user: int) -> Any:
    """What is known of a user: the value of the user table, or ids of items."""
    if one.kind != "items":
        return dataset.users[one.name][user]
    listed = dataset.user_facts[one.name]
    assert listed.offsets is not None
    rows = listed.values[listed.offsets[user] : listed.offsets[user + 1]] - 1
    return dataset.items["item_id"].gather(rows.numpy()).to_list()


def _changes(dataset: Dataset, user: int, until: Time | None) -> tuple[tuple[Time, str, Any], ...]:
    """What changed of a user, up to and including a moment."""
    stored, fields = dataset.stored_series, dataset.manifest.series_fields
    if stored is None:
        return ()
    start, stop = int(stored.offsets[user]), int(stored.offsets[user + 1])
    if until is not None:
        stop = start + int(np.searchsorted(stored.time[start:stop], moment(until), side="right"))
    times = np.asarray(stored.time[start:stop]).astype(_STORED)
    which = [fields[place] for place in stored.field[start:stop]]
    values = [value_in_series(one, value) for one, value in zip(which, stored.value[start:stop], strict=True)]
    return tuple((time, one.name, value) for time, one, value in zip(times, which, values, strict=True))


def value_in_series(one: Field, stored: np.generic) -> Any:
    """A stored value of a series as a log has it."""
    if one.kind == "numeric" and stored.dtype.kind == "f":
        return None if np.isnan(stored) else stored.item()
    return raw_of_codes(one, np.array([stored], dtype=np.int64))[0]


def _events_until(dataset: Dataset, start: int, stop: int, until: Time) -> int:
    check_timed(dataset, until)
    assert dataset.timestamp is not None
    return int(np.searchsorted(dataset.timestamp[start:stop], moment(until), side="right"))


def check_timed(dataset: Dataset, until: Time) -> None:
    """Raises DataError where a moment means nothing to a dataset."""
    if dataset.timestamp is None:
        raise DataError(
            f"Found the moment {until} for a history of '{dataset.path}', which has an order of events but no times; "
            "leave it out (until=, or --at)."
        )


def as_histories(history: History | Iterable[Any]) -> list[History]:
    """One history or many, given as History objects or as plain item ids: always a list of histories.

    Raises DataError for a text, whose letters are no ids, and for ids beside histories.
    """
    if isinstance(history, History):
        return [history]
    _refuse_text(history)
    entries = [plain_value(entry) for entry in history]
    many = [
        isinstance(entry, History) or (not isinstance(entry, (str, bytes)) and isinstance(entry, Iterable))
        for entry in entries
    ]
    if not any(many):
        return [History(entries)]
    if not all(many):
        raise DataError("Found item ids and histories side by side; expected one history (ids) or a list of histories.")
    return [
        entry if isinstance(entry, History) else History([plain_value(item) for item in entry]) for entry in entries
    ]


def _refuse_text(items: Any) -> None:
    if isinstance(items, (str, bytes)):
        raise DataError(f"Found the history {items!r}; expected a list of item ids, as in [{items!r}].")
    if not isinstance(items, Iterable):
        raise unlike("the history", items, "a list of item ids or a facta.History")


def known(
    history: History, rows_of: Callable[[Sequence[ItemId]], Ints], schema: Fields = Fields(), wants: Wants = Wants()
) -> Known:
    """Look a history up; items that the catalogue lacks are dropped and counted. `rows_of` gives -1 for those.

    Of the fields of the schema, those that the model wants are coded. Raises DataError for ids or values of another
    type, for what is no time, for fields that the schema lacks, and where items and times differ in number.
    """
    _refuse_text(history.items)
    rows = rows_of(history.items)
    fields, user = _event_codes(history, len(rows), schema, wants), _user_codes(history, schema, wants)
    later = _known_times(history, len(rows), schema, wants)
    order, times = np.arange(len(rows)), None
    if history.times is not None:
        if not isinstance(history.times, Iterable) or isinstance(history.times, (str, bytes)):
            raise unlike("the times", history.times, "a list with the time of each item")
        times = _moments(history.times)
        if len(times) != len(rows):
            raise DataError(f"Found {len(rows)} items and {len(times)} times in a history; expected one time per item.")
        order = np.argsort(times, kind="stable")
    next_time = None if times is None else np.append(times[order], NEVER)[1:]
    kept = rows[order] >= 0
    order = order[kept]
    if times is None and not len(order):
        times = np.zeros(0, dtype=np.int64)  # of no event
    return Known(
        rows=rows[order],
        times=None if times is None else times[order],
        unknown=len(rows) - len(order),
        fields={name: codes[order] for name, codes in fields.items()},
        user=user,
        lists={name: _listed(history.user.get(name) or [], rows_of) for name in wants.lists},
        series=_series(history, schema.series_fields) if wants.series else None,
        late=tuple(one for one in schema.fields if one.name in fields and later.keys() & waiting_on(one)),
        known_at={name: _since(times, values)[order] for name, values in later.items()},
        next_time=None if next_time is None else next_time[kept],
    )


def _known_times(history: History, events: int, schema: Fields, wants: Wants) -> dict[str, Ints]:
    """[n] when the values of fields with a time became known, in ms; nothing of fields for which none is given."""
    if not wants.fields:
        return {}
    timed = [one for one in schema.fields if one.given_when is not None]
    refuse_unknown(history.known_at, timed, "fields of a history that say when they became known")
    found = {}
    for name, given in history.known_at.items():
        if len(given) != events:
            raise DataError(
                f"Found {events} items and {len(given)} times of '{name}' in a history; expected one per item, or None."
            )
        if all(time is None for time in given):
            continue
        if history.times is None:
            raise DataError(f"Found times of '{name}' in a history without times; give the time of each event, too.")
        there = np.array([time is not None for time in given])
        found[name] = np.full(events, ALWAYS)
        found[name][there] = _moments([time for time in given if time is not None])
    return found


def _since(times: Ints | None, known: Ints) -> Ints:
    """[n] when values became known; ALWAYS for those that were given at or before their events."""
    assert times is not None
    return np.where(known <= times, ALWAYS, known)


def _series(history: History, fields: Sequence[Field]) -> Series:
    """Its entries in the order of time, the codes of their values; what changes nothing is left out, as in a log."""
    for entry in history.series:
        if not isinstance(entry, Sequence) or len(entry) != 3:
            raise DataError(f"Found {entry!r} in the series of a history; expected (time, name, new value).")
    refuse_unknown({name: None for _, name, _ in history.series}, fields, "changing facts of a user")
    place = {one.name: number for number, one in enumerate(fields)}
    time = _moments([when for when, _, _ in history.series])
    which = np.array([place[name] for _, name, _ in history.series], dtype=np.int64)
    values = [coded(fields[place[name]], [new], "a series")[0] for _, name, new in history.series]
    value = np.array(values, dtype=np.int64)
    order = np.argsort(time, kind="stable")
    order = order[changes(np.zeros_like(order), which[order], value[order])]
    return Series(offsets_of(np.array([len(order)])), time[order], which[order], value[order])


def _listed(ids: Any, rows_of: Callable[[Sequence[ItemId]], Ints]) -> Ints:
    _refuse_text(ids)
    return rows_of(ids)


def _event_codes(history: History, events: int, schema: Fields, wants: Wants) -> dict[str, Ints]:
    """[n] of every wanted field; undefined where the history does not give it."""
    if wants.fields:  # else nothing is read
        refuse_unknown(history.fields, schema.fields, "fields of a history")
    found = {}
    for one in schema.fields:
        values = history.fields.get(one.name)
        if one.name not in wants.fields:
            continue
        if values is not None and len(values) != events:
            raise DataError(
                f"Found {events} items and {len(values)} values of '{one.name}' in a history; expected one per item."
            )
        found[one.name] = np.zeros(events, dtype=np.int64) if values is None else coded(one, values, "a history")
    return found


def _user_codes(history: History, schema: Fields, wants: Wants) -> dict[str, int]:
    if wants.users or wants.lists:
        refuse_unknown(history.user, schema.user_fields, "facts of a user")
    return _one_each(history.user, [one for one in schema.user_fields if one.name in wants.users], "facts of a user")


def context_codes(context: Mapping[str, Any], schema: Fields, wants: Wants) -> dict[str, int]:
    """The context of a request, in codes. Raises DataError for what is no context field, and for other types."""
    known = [one for one in schema.fields if one.role == "context"]
    refuse_unknown(context, known, "context of a request")
    return _one_each(context, [one for one in known if one.name in wants.fields], "the context of a request")


def _one_each(given: Mapping[str, Any], fields: Sequence[Field], where: str) -> dict[str, int]:
    return {one.name: int(coded(one, [given.get(one.name)], where)[0]) for one in fields}


def coded(one: Field, values: Sequence[Any], where: str) -> Ints:
    """[n] codes of values. Warns of a value that the field does not know: it is read as undefined."""
    found = raw_codes(one, values)
    for place in np.flatnonzero(found == 0).tolist():
        if (value := plain_value(values[place])) is not None and value == value:  # NaN is undefined on purpose
            known = [str(value) for value in one.categories or one.levels or ()]
            warnings.warn(
                f"Found {one.name}={value} in {where}; no event of this artifact's data has it, so it is read as "
                f"undefined. Known: {', '.join(known[:8])}{', …' if len(known) > 8 else ''}.",
                UnknownValueWarning,
                stacklevel=2,
            )
            break
    return found


def refuse_unknown(given: Iterable[str], known: Sequence[Field], what: str) -> None:
    names = [one.name for one in known]
    for name in given:
        if name not in names:
            raise DataError(
                f"Found '{name}' among the {what}; the data that this artifact was trained on has: "
                f"{', '.join(names) or 'none'}."
            )


def _moments(times: Sequence[Time]) -> Ints:
    """[n] milliseconds; those of a stored history at once: read one by one, each would cost microseconds."""
    if all(getattr(time, "dtype", None) == _STORED for time in times):
        stored = np.array(times, dtype=_STORED)
        if not np.isnat(stored).any():
            return stored.astype(np.int64)
    return np.array([moment(time) for time in times], dtype=np.int64)
