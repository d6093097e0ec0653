"""The histories of a dataset into a store: what a model was trained on is what the service begins with.

The id of an event is its place in its user's history, so whoever imports twice, or goes on after an interruption, adds
nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from facta.store.protocol import Entry, EventStore, Post, StoredEvent, UserId

if TYPE_CHECKING:
    from facta.data.dataset.dataset import Dataset

Progress = Callable[[int, int], None]
"""Called with (events done, events in all)."""

_BATCH = 10_000  # events of a commit
_TELLERS = 32  # threads that tell facts of users: they share commits


class Imported(NamedTuple):
    events: int  # new ones
    duplicates: int  # events that the store had already
    users: int  # of whom facts were told


def import_dataset(dataset: Dataset, store: EventStore, progress: Progress | None = None) -> Imported:
    """Append all events of a dataset, and tell the facts of its users. Values are those that the dataset keeps; what is
    undefined is left out.

    Raises ConflictError where the store has other events under the same ids: it is another log's.
    """
    events = duplicates = 0
    for posts in _batches(dataset):
        appended = store.append(posts)
        events += appended.accepted
        duplicates += appended.duplicates
        if progress is not None:
            progress(events + duplicates, dataset.num_events)
    told = _facts(dataset)
    with ThreadPoolExecutor(_TELLERS) as pool:
        users = sum(1 for _ in pool.map(lambda one: store.tell(*one), told))
    return Imported(events, duplicates, users)


def _batches(dataset: Dataset) -> Iterator[list[Post]]:
    """The events of a dataset in its order: by user and time."""
    import numpy as np
    import polars as pl

    from facta.arrays import rows

    manifest = dataset.manifest
    given = {one.name: one.given_when for one in manifest.fields if one.given_when is not None}
    user, item, *_ = dataset.events.collect_schema().names()
    times = [pl.selectors.datetime().dt.epoch("ms")]
    place = np.arange(dataset.num_events) - np.asarray(dataset.offsets)[rows(np.asarray(dataset.offsets))]
    for start in range(0, dataset.num_events, _BATCH):
        part = dataset.events.slice(start, _BATCH).with_columns(times).collect()
        clock = part[part.columns[2]].to_list() if manifest.has_time else [None] * part.height
        fields = {one.name: part[one.name].to_list() for one in manifest.fields}
        known = {name: part[column].to_list() for name, column in given.items()}
        numbers = place[start : start + _BATCH].tolist()
        yield [
            (who, StoredEvent(f"import-{numbers[n]}", what, clock[n], _there(fields, n), _there(known, n)))
            for n, (who, what) in enumerate(zip(part[user].to_list(), part[item].to_list(), strict=True))
        ]


def _there(columns: dict[str, list[Any]], place: int) -> dict[str, Any]:
    """The values of one event that are defined."""
    return {name: values[place] for name, values in columns.items() if values[place] is not None}


def _facts(dataset: Dataset) -> Iterator[tuple[UserId, dict[str, Any], list[Entry]]]:
    """Of each user of whom anything is known: constant and changing facts."""
    from facta.data.batches.stored import fact_of
    from facta.data.dataset.raw import value_in_series

    manifest, stored = dataset.manifest, dataset.stored_series
    if not manifest.user_fields and stored is None:
        return
    for row, user in enumerate(dataset.users["user_id"].to_list()):
        facts = {one.name: fact_of(dataset, one, row) for one in manifest.user_fields}
        series: list[Entry] = []
        if stored is not None:
            at = slice(int(stored.offsets[row]), int(stored.offsets[row + 1]))
            for time, which, value in zip(stored.time[at], stored.field[at], stored.value[at], strict=True):
                one = manifest.series_fields[which]
                series.append((int(time), one.name, value_in_series(one, value)))
        yield user, {name: fact for name, fact in facts.items() if fact is not None}, series
