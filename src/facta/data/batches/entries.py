"""Series entries of rows: which changes of a user's facts lie between the events of a row.

Letters: B rows, E input events, A entries, F fields.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from facta import arrays, draws
from facta.arrays import Bools, Ints
from facta.data.dataset import series
from facta.errors import DataError
from facta.types import Series

SPAN_MS = 1 << 42  # milliseconds of the longest log: 139 years


def entries(
    stored: series.Series, user: Ints, offsets: Tensor, time: Tensor | None, until: Ints | None, key: int
) -> Series:
    """The entries of users [B] known before `until` [B] ms: those between the row's events (at `time` [E]), and for
    each field the entry in force when the row begins. A change at the instant of an event comes after the event.

    Raises DataError where there are no times.
    """
    if time is None or until is None:
        raise DataError("The model reads changing facts of users (series) and needs times; these histories have none.")
    count = np.diff(stored.offsets)[user]
    at, row = arrays.spans(np.asarray(stored.offsets)[user], count), np.repeat(np.arange(len(user)), count)
    known = np.asarray(stored.time)[at] < until[row]
    at, row = at[known], row[known]
    after = _events_until(row, np.asarray(stored.time)[at], offsets.numpy(), time.numpy())
    kept = (after > 0) | _newest(row, np.asarray(stored.field)[at], after == 0)
    at, row, after = at[kept], row[kept], after[kept]
    return Series(
        offsets=torch.from_numpy(arrays.offsets_of(np.bincount(row, minlength=len(user)))),
        field=torch.from_numpy(stored.field[at].astype(np.int64)),
        value=torch.from_numpy(stored.value[at].astype(np.int64)),
        time=torch.from_numpy(np.asarray(stored.time)[at]),
        after=torch.from_numpy(after),
        key=draws.mix(draws.mix(torch.from_numpy(user[row]), key), torch.from_numpy(at)),
    )


def _events_until(row: Ints, time: Ints, offsets: Ints, events: Ints) -> Ints:
    """[A] how many events of its row are no later than each entry."""
    start = min(events.min(initial=0), time.min(initial=0))
    of_events = arrays.rows(offsets) * SPAN_MS + (events - start)  # ascending: rows, and in each the order of time
    found: Ints = np.searchsorted(of_events, row * SPAN_MS + (time - start), side="right") - offsets[row]
    return found


def _newest(row: Ints, field: Ints, among: Bools) -> Bools:
    """[A] which of some entries are the last of their row and field; entries are in order of time."""
    last = np.zeros(len(row), dtype=bool)
    place = np.flatnonzero(among)[::-1]
    fields = int(field.max(initial=0)) + 1
    first_seen = np.unique(row[place] * fields + field[place], return_index=True)[1]
    last[place[first_seen]] = True
    return last
