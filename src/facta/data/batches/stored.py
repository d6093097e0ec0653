"""The histories of a dataset's users in rows and codes: of an artifact, or of the dataset itself.

Equals `encoded(history_of(dataset, user, until=…), …)` (`infer/history.py`), but reads the arrays alone: no id, time or
value becomes a Python object.

Letters: B users asked, E events of these users, V items of the dataset, n values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from facta import arrays
from facta.arrays import Ints
from facta.data.batches.encoded import EncodedEvents, EncodedHistory
from facta.data.batches.spec import InputSpec
from facta.data.dataset.codes import codes, defined
from facta.data.dataset.dataset import Dataset, Fields
from facta.data.dataset.ids import ItemId
from facta.data.dataset.raw import coded, raw_values, refuse_unknown, value_in_series
from facta.data.dataset.schema import Field
from facta.data.dataset.series import Series, changes
from facta.data.dataset.times import Time, moment
from facta.data.split.late import ALWAYS, NEVER, before_value, known_at, waiting_on
from facta.errors import DataError

RowsOf = Callable[[Sequence[ItemId]], Ints]
"""Catalogue rows of item ids; -1 for unknown ones."""


def encoded_history(
    dataset: Dataset, user: int, until: Time | None = None, spec: InputSpec = InputSpec()
) -> EncodedHistory:
    """The history of the user in a row, up to and including a moment, in the rows and codes of the dataset itself."""
    return StoredHistories(dataset, None, dataset.manifest, spec).encoded(np.array([user]), until)[0]


class StoredHistories:
    """Histories of a dataset's users, encoded for an artifact. `rows_of` None: its catalogue is the dataset's.

    The dataset may be another log than the artifact's: items are matched by their ids and values by what they mean.
    Raises DataError for ids of another type and for fields that the artifact's data does not have.
    """

    def __init__(self, dataset: Dataset, rows_of: RowsOf | None, schema: Fields, spec: InputSpec) -> None:
        _check_fields(dataset, schema, spec)
        self._dataset, self._rows_of, self._spec = dataset, rows_of, spec
        self._rows = None if rows_of is None else rows_of(dataset.items["item_id"].to_list())  # [V]
        self._schema = schema
        self._fields = {one.name: one for one in schema.fields if one.name in spec.fields}
        self._stored = {one.name: one for one in dataset.manifest.fields}
        self.facts = {one.name: one for one in schema.user_fields}
        self._changing = _changing(dataset, schema) if spec.series else None

    def encoded(self, users: Ints, until: Time | None = None) -> list[EncodedHistory]:
        """[B] rows of users -> their histories, up to and including a moment. Raises DataError as `history_of`."""
        start, count = self._events(users, until)
        place, stored_times = arrays.spans(start, count), self._dataset.timestamp
        rows = self._known(np.asarray(self._dataset.item[place], dtype=np.int64))
        times = None if stored_times is None else np.asarray(stored_times[place], dtype=np.int64)
        fields = {name: self._codes(name, place, until) for name in self._fields}
        later = self._known_at(place, until)
        facts, lists, series = self._user_facts(users), self.lists(users), self._series(users, until)
        return [
            EncodedHistory(
                EncodedEvents(
                    rows[span],
                    None if times is None else times[span],
                    {name: column[span] for name, column in fields.items()},
                    {name: column[span] for name, column in later.items()},
                ),
                self._schema.fields,
                user={name: column[row] for name, column in facts.items()},
                lists={name: column[row] for name, column in lists.items()},
                series=None if series is None else series[row],
            )
            for row, span in enumerate(slice(*pair) for pair in pairwise(arrays.offsets_of(count)))
        ]

    def _known(self, rows: Ints) -> Ints:
        """[n] rows of the dataset -> [n] catalogue rows; -1 for items that the catalogue lacks."""
        return rows if self._rows is None else self._rows[rows]

    def _events(self, users: Ints, until: Time | None) -> tuple[Ints, Ints]:
        """[B], [B]: where the events of each user begin in the dataset, and how many are visible."""
        start = np.asarray(self._dataset.offsets[users], dtype=np.int64)
        count = np.asarray(self._dataset.offsets[users + 1], dtype=np.int64) - start
        if until is None:
            return start, count
        check_timed(self._dataset, until)
        assert self._dataset.timestamp is not None
        visible = self._dataset.timestamp[arrays.spans(start, count)] <= moment(until)
        return start, np.diff(arrays.offsets_of(visible)[arrays.offsets_of(count)])

    def _codes(self, name: str, place: Ints, until: Time | None) -> Ints:
        """[E] codes of a field, as known at a moment (inclusive); undefined where the dataset lacks the field."""
        ours, theirs = self._fields[name], self._stored.get(name)
        if theirs is None:
            return np.zeros(len(place), dtype=np.int64)
        found = translated(theirs, ours, np.asarray(self._dataset.fields[name][place]))
        if until is None:
            return found
        for other in waiting_on(theirs):
            before = coded(ours, [before_value(theirs)], "the histories of a dataset")[0] if other == name else 0
            found = np.where(known_at(self._dataset, other, place) > moment(until), before, found)
        return found

    def _known_at(self, place: Ints, until: Time | None) -> dict[str, Ints]:
        """Field with a time -> [E] ms when its values became known; ALWAYS: with the event, or after `until`."""
        found = {name: known_at(self._dataset, name, place) for name in self._dataset.delays if self._fields}
        last = NEVER if until is None else moment(until)
        return {name: np.where(column > last, ALWAYS, column) for name, column in found.items()}

    def _user_facts(self, users: Ints) -> dict[str, list[int]]:
        """Name -> [B] codes."""
        stored = {one.name: one for one in self._dataset.manifest.user_fields}
        found = {}
        for name in self._spec.users:
            ours, theirs = self.facts[name], stored.get(name)
            if theirs is not None and theirs.coding == ours.coding:
                found[name] = self._dataset.user_facts[name].values[torch.from_numpy(users)].tolist()
                continue
            values = [None if theirs is None else fact_of(self._dataset, theirs, user) for user in users.tolist()]
            found[name] = coded(ours, values, "facts of a user").tolist()
        return found

    def lists(self, users: Ints) -> dict[str, list[Ints]]:
        """Name -> [B] catalogue rows of earlier items; -1 for items that the catalogue lacks."""
        found: dict[str, list[Ints]] = {}
        stored = {one.name: one for one in self._dataset.manifest.user_fields}
        for name in self._spec.lists:
            theirs = stored.get(name)
            if theirs is None or theirs.kind != "items":
                assert self._rows_of is not None  # a dataset's own lists are lists of items
                given = [None if theirs is None else fact_of(self._dataset, theirs, user) for user in users.tolist()]
                found[name] = [self._rows_of(ids or []) for ids in given]
                continue
            listed = self._dataset.user_facts[name]
            assert listed.offsets is not None
            offsets, items = listed.offsets.numpy(), listed.values.numpy()  # rows + 1
            found[name] = [self._known(items[offsets[user] : offsets[user + 1]] - 1) for user in users.tolist()]
        return found

    def _series(self, users: Ints, until: Time | None) -> list[Series] | None:
        """[B] changed facts of each user up to a moment (inclusive)."""
        if self._changing is None:
            return None
        stored = self._dataset.stored_series
        if stored is None:
            none = np.zeros(0, dtype=np.int64)
            return [Series(np.zeros(2, dtype=np.int64), none, none, none)] * len(users)
        start = np.asarray(stored.offsets[users], dtype=np.int64)
        count = np.asarray(stored.offsets[users + 1], dtype=np.int64) - start
        place, row = arrays.spans(start, count), np.repeat(np.arange(len(users)), count)
        time = np.asarray(stored.time[place], dtype=np.int64)
        visible = np.ones(len(time), dtype=bool) if until is None else time <= moment(until)
        place, row, time = place[visible], row[visible], time[visible]
        field, value = self._changing(np.asarray(stored.field[place]), np.asarray(stored.value[place]))
        kept = changes(row, field, value)
        row, time, field, value = row[kept], time[kept], field[kept], value[kept]
        ends = arrays.offsets_of(np.bincount(row, minlength=len(users)))
        spans = [slice(*pair) for pair in pairwise(ends)]
        return [Series(np.array([0, span.stop - span.start]), time[span], field[span], value[span]) for span in spans]


def translated(theirs: Field, ours: Field, stored: npt.NDArray[Any]) -> Ints:
    """[n] stored values of a dataset's field -> [n] codes of the artifact's field of that name.

    Raises DataError for values of another type than the artifact's.
    """
    if theirs.coding == ours.coding and theirs.dtype == ours.dtype:
        return codes(theirs, stored)
    if theirs.kind == ours.kind == "numeric":
        width = np.float32 if ours.dtype == "float32" else np.float64
        numbers = np.where(defined(theirs, stored), stored, np.nan).astype(width)
        return codes(ours, np.where(np.isinf(numbers), np.nan, numbers))
    distinct, which = np.unique(stored, return_inverse=True)  # each distinct value is read once
    return coded(ours, raw_values(theirs, distinct), "the histories of a dataset")[which]


def _check_fields(dataset: Dataset, schema: Fields, spec: InputSpec) -> None:
    """Refuse fields, late fields, user facts and series that the artifact reads and its data did not have."""
    manifest = dataset.manifest
    if spec.fields:
        refuse_unknown([one.name for one in manifest.fields], schema.fields, "fields of a history")
        timed = [one for one in schema.fields if one.given_when is not None]
        refuse_unknown(dataset.delays, timed, "fields of a history that say when they became known")
    if spec.users or spec.lists:
        refuse_unknown([one.name for one in manifest.user_fields], schema.user_fields, "facts of a user")
    if spec.series and dataset.series is not None:
        refuse_unknown([one.name for one in manifest.series_fields], schema.series_fields, "changing facts of a user")


def _changing(dataset: Dataset, schema: Fields) -> Callable[[Ints, npt.NDArray[Any]], tuple[Ints, Ints]]:
    """Translates a dataset's fields and series into the artifact's."""
    ours = {one.name: (place, one) for place, one in enumerate(schema.series_fields)}
    fields = [(*ours[one.name], one) for one in dataset.manifest.series_fields]
    place_of = np.array([place for place, _, _ in fields], dtype=np.int64)

    def code_of(place: int, value: npt.NDArray[Any]) -> Ints:
        _, one, theirs = fields[place]
        if theirs.coding == one.coding:  # numbers are stored as they are, all else in codes
            return codes(one, value) if one.kind == "numeric" and value.dtype.kind == "f" else value.astype(np.int64)
        distinct, which = np.unique(value, return_inverse=True)
        return coded(one, [value_in_series(theirs, stored) for stored in distinct], "a series")[which]

    def change(field: Ints, value: npt.NDArray[Any]) -> tuple[Ints, Ints]:
        found = np.zeros(len(value), dtype=np.int64)
        for place in range(len(fields)):
            found[field == place] = code_of(place, value[field == place])
        return place_of[field], found

    return change


def fact_of(dataset: Dataset, one: Field, user: int) -> Any:
    """A fact of a user: the value of the user table, or ids of items."""
    if one.kind != "items":
        return dataset.users[one.name][user]
    listed = dataset.user_facts[one.name]
    assert listed.offsets is not None
    rows = listed.values[listed.offsets[user] : listed.offsets[user + 1]] - 1
    return dataset.items["item_id"].gather(rows.numpy()).to_list()


def check_timed(dataset: Dataset, until: Time) -> None:
    """Raises DataError for a moment where the dataset has no times."""
    if dataset.timestamp is None:
        raise DataError(
            f"Found the moment {until} for a history of '{dataset.path}', which has an order of events but no times; "
            "leave it out (until=, or --at)."
        )
