"""Requests for the next item, of the users of a dataset: the arrays of the dataset become one batch.

Letters: B rows, E input events, Q requests, U users.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from facta import arrays
from facta.arrays import Ints
from facta.data.batches.facts import facts, lists
from facta.data.batches.request import Asked, Windows, batch_of
from facta.data.batches.spec import InputSpec
from facta.data.batches.windows import window_start
from facta.data.dataset.codes import codes
from facta.data.dataset.dataset import Dataset
from facta.data.split.late import NEVER, known_at, known_codes, waiting_on
from facta.data.split.splits import Requests
from facta.types import SequenceBatch


def told(dataset: Dataset, requests: Requests, spec: InputSpec) -> dict[str, Ints]:
    """Field -> [Q] codes of each request's context, taken from the event that it asks for; empty where requests ask for
    several events. `dataset`: the one that the requests are of, with all its events.
    """
    if requests.place is None:
        return {}
    event = dataset.offsets[requests.user] + requests.place
    return {name: known_codes(dataset, name, event, None) for name in spec.told}


def request_batch(
    dataset: Dataset,
    requests: Requests,
    rows: slice | Ints,
    window: int,
    spec: InputSpec = InputSpec(),
    *,
    stride: int = 1,
    context: Mapping[str, Ints] | None = None,
) -> SequenceBatch:
    """The retrieval requests `rows`: each has the window of its visible events and one target without an item.

    `context`: field -> [Q] codes of the requests (`told`).
    """
    user, end = requests.user[rows], requests.end[rows]
    start = window_start(end, window, stride)
    first = np.asarray(dataset.offsets[user], dtype=np.int64) + start
    windows = _windows(dataset, user, first, end - start, spec)
    timed = requests.time is not None and dataset.timestamp is not None
    said = {name: column[rows].tolist() for name, column in (context or {}).items()}
    any_item = np.array([-1])
    asked = [Asked(any_item, dict(zip(said, codes, strict=True))) for codes in zip(*said.values(), strict=True)]
    return batch_of(windows, requests.time[rows] if timed else None, asked)  # type: ignore[index]


def _windows(dataset: Dataset, user: Ints, first: Ints, length: Ints, spec: InputSpec) -> Windows:
    """Events of users [B], beginning at the places `first` [B] of the dataset."""
    place, offsets = arrays.spans(first, length), arrays.offsets_of(length)
    stored = [one for one in dataset.manifest.fields if one.name in spec.fields]
    late = tuple(one for one in stored if waiting_on(one))
    times = None if dataset.timestamp is None else np.asarray(dataset.timestamp[place], dtype=np.int64)
    return Windows(
        offsets=offsets,
        rows=dataset.item[place].astype(np.int64),
        times=times,
        next_time=_successors(dataset, place, offsets),
        fields={one.name: codes(one, dataset.fields[one.name][place]) for one in stored},
        late=late,
        known_at={name: known_at(dataset, name, place) for one in late for name in waiting_on(one)},
        user=facts(dataset, user, spec),
        lists=lists(dataset, user, spec),
        series=dataset.series if spec.series else None,
        person=user,
    )


def _successors(dataset: Dataset, place: Ints, offsets: Ints) -> Ints:
    """[E] ms of the next event of the row; NEVER for the newest one."""
    found = np.full(len(place), NEVER)
    if dataset.timestamp is not None:
        found[:-1] = dataset.timestamp[place[1:]]
        found[offsets[1:][np.diff(offsets) > 0] - 1] = NEVER
    return found
