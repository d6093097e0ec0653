"""A history as people write it, and its way into rows and codes.

Letters: n events of a history. Rows are catalogue rows of the artifact that is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from facta.arguments import unlike
from facta.arrays import Ints, offsets_of
from facta.data.batches.encoded import EncodedEvents, EncodedHistory
from facta.data.batches.spec import InputSpec
from facta.data.batches.stored import RowsOf
from facta.data.dataset.dataset import Fields
from facta.data.dataset.ids import ItemId, plain_value
from facta.data.dataset.raw import coded, refuse_unknown
from facta.data.dataset.schema import Field
from facta.data.dataset.series import Series, changes
from facta.data.dataset.times import Time, moment
from facta.data.split.late import ALWAYS
from facta.errors import DataError

MILLISECONDS = np.dtype("datetime64[ms]")


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


def encoded(
    history: History, rows_of: RowsOf, schema: Fields = Fields(), spec: InputSpec = InputSpec()
) -> EncodedHistory:
    """Look a history up, once: in the order of time, in rows and codes. `rows_of` gives -1 for unknown ids.

    Of the fields of the schema, those that the model wants are coded. Raises DataError for ids or values of another
    type, for what is no time, for fields that the schema lacks, and where items and times differ in number.
    """
    return EncodedHistory(
        encoded_events(history, rows_of, schema, spec),
        schema.fields,
        user=_user_codes(history, schema, spec),
        lists={name: _listed(history.user.get(name) or [], rows_of) for name in spec.lists},
        series=_series(history, schema.series_fields) if spec.series else None,
    )


def encoded_events(history: History, rows_of: RowsOf, schema: Fields, spec: InputSpec) -> EncodedEvents:
    """Its events alone."""
    _refuse_text(history.items)
    rows = rows_of(history.items)
    times = _event_times(history, len(rows))
    order = np.arange(len(rows)) if times is None else np.argsort(times, kind="stable")
    fields, later = _event_codes(history, len(rows), schema, spec), _known_times(history, len(rows), schema, spec)
    return EncodedEvents(
        rows=rows[order],
        times=None if times is None else times[order],
        fields={name: codes[order] for name, codes in fields.items()},
        known_at={name: _since(times, values)[order] for name, values in later.items()},
    )


def _event_times(history: History, events: int) -> Ints | None:
    """[n] milliseconds; None where none are given."""
    if history.times is None:
        return None
    if not isinstance(history.times, Iterable) or isinstance(history.times, (str, bytes)):
        raise unlike("the times", history.times, "a list with the time of each item")
    times = _moments(history.times)
    if len(times) != events:
        raise DataError(f"Found {events} items and {len(times)} times in a history; expected one time per item.")
    return times


def _known_times(history: History, events: int, schema: Fields, spec: InputSpec) -> dict[str, Ints]:
    """[n] when the values of fields with a time became known, in ms; nothing of fields for which none is given."""
    if not spec.fields:
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


def _listed(ids: Any, rows_of: RowsOf) -> Ints:
    _refuse_text(ids)
    return rows_of(ids)


def _event_codes(history: History, events: int, schema: Fields, spec: InputSpec) -> dict[str, Ints]:
    """[n] of every wanted field; undefined where the history does not give it."""
    if spec.fields:  # else nothing is read
        refuse_unknown(history.fields, schema.fields, "fields of a history")
    found = {}
    for one in schema.fields:
        values = history.fields.get(one.name)
        if one.name not in spec.fields:
            continue
        if values is not None and len(values) != events:
            raise DataError(
                f"Found {events} items and {len(values)} values of '{one.name}' in a history; expected one per item."
            )
        found[one.name] = np.zeros(events, dtype=np.int64) if values is None else coded(one, values, "a history")
    return found


def _user_codes(history: History, schema: Fields, spec: InputSpec) -> dict[str, int]:
    if spec.users or spec.lists:
        refuse_unknown(history.user, schema.user_fields, "facts of a user")
    return _one_each(history.user, [one for one in schema.user_fields if one.name in spec.users], "facts of a user")


def context_codes(context: Mapping[str, Any], schema: Fields, spec: InputSpec) -> dict[str, int]:
    """The context of a request, in codes. Raises DataError for what is no context field, and for other types."""
    known = [one for one in schema.fields if one.role == "context"]
    refuse_unknown(context, known, "context of a request")
    return _one_each(context, [one for one in known if one.name in spec.fields], "the context of a request")


def _one_each(given: Mapping[str, Any], fields: Sequence[Field], where: str) -> dict[str, int]:
    return {one.name: int(coded(one, [given.get(one.name)], where)[0]) for one in fields}


def _moments(times: Sequence[Time]) -> Ints:
    """[n] milliseconds; those of a stored history at once: read one by one, each would cost microseconds."""
    if all(getattr(time, "dtype", None) == MILLISECONDS for time in times):
        stored = np.array(times, dtype=MILLISECONDS)
        if not np.isnat(stored).any():
            return stored.astype(np.int64)
    return np.array([moment(time) for time in times], dtype=np.int64)
