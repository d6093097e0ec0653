"""The stored histories of users as people write them: ids, times and values.

What answers requests for a dataset does not come this way: it reads codes (`data/batches/stored.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from facta.arguments import arguments, instance, unlike
from facta.arrays import Bools
from facta.data.batches.stored import check_timed, fact_of
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.ids import ItemId
from facta.data.dataset.raw import raw_values, value_in_series
from facta.data.dataset.schema import Field
from facta.data.dataset.times import Time, moment
from facta.data.split.late import ALWAYS, NEVER, before_value, known_at, waiting_on
from facta.infer.history import MILLISECONDS, History


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
        None if times is None else list(np.asarray(times[start:stop]).astype(MILLISECONDS)),
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


def _changes(dataset: Dataset, user: int, until: Time | None) -> tuple[tuple[Time, str, Any], ...]:
    """What changed of a user, up to and including a moment."""
    stored, fields = dataset.stored_series, dataset.manifest.series_fields
    if stored is None:
        return ()
    start, stop = int(stored.offsets[user]), int(stored.offsets[user + 1])
    if until is not None:
        stop = start + int(np.searchsorted(stored.time[start:stop], moment(until), side="right"))
    times = np.asarray(stored.time[start:stop]).astype(MILLISECONDS)
    which = [fields[place] for place in stored.field[start:stop]]
    values = [value_in_series(one, value) for one, value in zip(which, stored.value[start:stop], strict=True)]
    return tuple((time, one.name, value) for time, one, value in zip(times, which, values, strict=True))


def _events_until(dataset: Dataset, start: int, stop: int, until: Time) -> int:
    check_timed(dataset, until)
    assert dataset.timestamp is not None
    return int(np.searchsorted(dataset.timestamp[start:stop], moment(until), side="right"))
