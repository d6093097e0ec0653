"""Events and facts as a store keeps them, in the rows and codes of an artifact.

A store keeps what was posted, and an artifact knows items, fields and values of its own: what it does not know, or
cannot read, is undefined to it and no error. Another artifact may know it tomorrow.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facta.arrays import Ints
from facta.artifact.items import ItemLookup
from facta.data.batches.encoded import EncodedEvents, EncodedHistory
from facta.data.batches.spec import InputSpec
from facta.data.dataset.dataset import Fields
from facta.data.dataset.ids import ItemId
from facta.data.dataset.raw import raw_codes
from facta.data.dataset.schema import Field
from facta.errors import DataError, UnknownValueWarning
from facta.infer.history import History, encoded, encoded_events
from facta.store.protocol import Person, StoredEvent


@dataclass(frozen=True)
class Coding:
    """The catalogue and the fields of an artifact, and what its model reads of them."""

    items: ItemLookup
    fields: Fields
    inputs: InputSpec

    def history(self, person: Person) -> EncodedHistory:
        """All that is known of a person."""
        known = {one.name: one for one in self.fields.user_fields}
        facts = {name: _fact(known[name], value) for name, value in person.facts.items() if name in known}
        changing = {one.name: one for one in self.fields.series_fields}
        series = [
            (np.datetime64(time, "ms"), name, _one_readable(changing[name], value))
            for time, name, value in person.series
            if name in changing
        ]
        with _silent():
            given = self._given(person.events, facts, series)
            return encoded(given, self.rows_of, self.fields, self.inputs)

    def events(self, events: Sequence[StoredEvent]) -> EncodedEvents:
        """Events that come behind those of a history."""
        with _silent():
            return encoded_events(self._given(events), self.rows_of, self.fields, self.inputs)

    def _given(
        self, events: Sequence[StoredEvent], facts: Mapping[str, Any] | None = None, series: Sequence[Any] = ()
    ) -> History:
        timed = bool(events) and events[0].time is not None
        names = {name for event in events for name in event.values}
        late = {name for event in events for name in event.known_at}
        return History(
            items=[event.item for event in events],
            times=np.array([event.time for event in events], dtype="datetime64[ms]") if timed else None,  # type: ignore[arg-type]
            fields={
                one.name: _readable(one, [event.values.get(one.name) for event in events])
                for one in self.fields.fields
                if one.name in names and one.name in self.inputs.fields
            },
            user=facts or {},
            series=series,
            known_at={
                one.name: [_moment(event.known_at.get(one.name)) for event in events]
                for one in self.fields.fields
                if one.name in late and one.given_when is not None and timed
            },
        )

    def rows_of(self, ids: Sequence[ItemId]) -> Ints:
        """[n] catalogue rows; -1 for unknown ids, and for those of another type than the catalogue's."""
        same = [isinstance(one, str) == self.items.text_ids for one in ids]
        if all(same):
            return self.items.rows_of(ids)
        rows = np.full(len(ids), -1, dtype=np.int64)
        rows[same] = self.items.rows_of([one for one, known in zip(ids, same, strict=True) if known])
        return rows


def _moment(time: int | None) -> np.datetime64 | None:
    return None if time is None else np.datetime64(time, "ms")


def _readable(field: Field, values: list[Any]) -> list[Any]:
    """The values, with None for those that the field's codes cannot hold."""
    try:
        raw_codes(field, values)
    except DataError:
        return [_one_readable(field, value) for value in values]
    return values


def _fact(field: Field, value: Any) -> Any:
    """A constant fact; where it is a list of items, a list."""
    if field.kind == "items":
        return value if isinstance(value, list) else None
    return _one_readable(field, value)


def _one_readable(field: Field, value: Any) -> Any:
    try:
        raw_codes(field, [value])
    except DataError:
        return None
    return value


def _silent() -> warnings.catch_warnings[None]:
    """Whoever posts is told of unknown values; whoever reads them again and again is not."""
    return warnings.catch_warnings(action="ignore", category=UnknownValueWarning)
