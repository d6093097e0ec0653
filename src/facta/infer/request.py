"""Requests: a history given on the spot, or stored in a dataset, becomes the one batch type.

Letters: B histories, E events in their windows. Rows are catalogue rows of the artifact that is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from facta import jagged
from facta.arrays import Ints
from facta.data.histories import Dataset
from facta.data.times import Time, moment
from facta.errors import DataError
from facta.types import Events, SequenceBatch, Targets

ItemId = int | str
_STORED = np.dtype("datetime64[ms]")


@dataclass(frozen=True)
class History:
    """What one person did: item ids, oldest first, and when. Events of equal time keep their order."""

    items: Sequence[ItemId]
    times: Sequence[Time] | None = None


@dataclass(frozen=True)
class Known:
    """The part of a history that the catalogue knows."""

    rows: Ints  # [n]
    times: Ints | None  # [n] milliseconds
    unknown: int  # events dropped because their item is not in the catalogue


def history_of(dataset: Dataset, user: ItemId, *, until: Time | None = None) -> History:
    """The history of a user of a dataset, up to and including a moment; times are np.datetime64 of milliseconds, UTC.

    Raises DataError for an unknown user, and for a moment where the dataset has no times.
    """
    row = int(dataset.user_rows([user])[0])
    start, stop = int(dataset.offsets[row]), int(dataset.offsets[row + 1])
    if until is not None:
        stop = start + _events_until(dataset, start, stop, until)
    items = dataset.items["item_id"].gather(np.asarray(dataset.item[start:stop], dtype=np.int64)).to_list()
    if dataset.timestamp is None:
        return History(items)
    return History(items, list(np.asarray(dataset.timestamp[start:stop]).astype(_STORED)))


def _events_until(dataset: Dataset, start: int, stop: int, until: Time) -> int:
    if dataset.timestamp is None:
        raise DataError(
            f"Found the moment {until} for a history of '{dataset.path}', which has an order of events but no times; "
            "leave it out (until=, or --at)."
        )
    return int(np.searchsorted(dataset.timestamp[start:stop], moment(until), side="right"))


def from_text(ids: pl.Series, text: str, what: str) -> ItemId:
    """The id that a command line means by `text`: a whole number where `ids` are numbers. Raises DataError."""
    if ids.dtype == pl.String:
        return text
    try:
        return int(text)
    except ValueError:
        raise DataError(f"Found the {what} id '{text}'; {what} ids here are whole numbers, such as {ids[0]}.") from None


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


def known(history: History, rows_of: Callable[[Sequence[ItemId]], Ints]) -> Known:
    """Look a history up; items that the catalogue lacks are dropped and counted. `rows_of` gives -1 for those.

    Raises DataError for ids of another type, for what is no time, and where items and times differ in number.
    """
    _refuse_text(history.items)
    rows = rows_of(history.items)
    kept = rows >= 0
    times = None
    if history.times is not None:
        times = _moments(history.times)
        if len(times) != len(rows):
            raise DataError(f"Found {len(rows)} items and {len(times)} times in a history; expected one time per item.")
        order = np.argsort(times, kind="stable")
        rows, kept, times = rows[order], kept[order], times[order]
        times = times[kept]
    return Known(rows[kept], times, int((~kept).sum()))


def _moments(times: Sequence[Time]) -> Ints:
    """[n] milliseconds; those of a stored history at once: read one by one, each would cost microseconds."""
    if all(getattr(time, "dtype", None) == _STORED for time in times):
        stored = np.array(times, dtype=_STORED)
        if not np.isnat(stored).any():
            return stored.astype(np.int64)
    return np.array([moment(time) for time in times], dtype=np.int64)


def request(histories: Sequence[Known], at: Sequence[int] | None, window: int) -> SequenceBatch:
    """One row per history: its last `window` events, and one target aside without an item, at the request's time.

    Times are given for all histories or left out altogether (`at` None: nothing that reads time may be asked).
    """
    parts = [history.rows[-window:] for history in histories]
    offsets = jagged.offsets_of(torch.tensor([len(part) for part in parts], dtype=torch.int64))
    total, count = int(offsets[-1]), len(parts)
    asked = None if at is None else torch.tensor(list(at), dtype=torch.int64)
    times, next_time = (None, None) if at is None else _times(histories, at, window)
    return SequenceBatch(
        offsets=offsets,
        events=Events(
            item=torch.from_numpy(np.concatenate([*parts, np.zeros(0, dtype=np.int64)])),
            time=times,
            key=torch.zeros(total, dtype=torch.int64),
        ),
        index=jagged.places(offsets),
        next_time=next_time,
        targets=Targets(
            offsets=torch.arange(count + 1),
            events=Events(torch.full((count,), -1), asked, torch.zeros(count, dtype=torch.int64)),
            after=jagged.lengths(offsets),
            slot=torch.full((count,), -1),
            weight=torch.ones(count),
        ),
    )


def _times(histories: Sequence[Known], at: Sequence[int], window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[E] own times and [E] times of the successors; the newest event's successor is the request."""
    own, successor = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for history, asked in zip(histories, at, strict=True):
        assert history.times is not None
        own.append(history.times[-window:])
        successor.append(np.append(history.times, asked)[1:][-window:])
    return torch.from_numpy(np.concatenate(own)), torch.from_numpy(np.concatenate(successor))


def plain_value(value: Any) -> Any:
    """NumPy and torch scalars as Python values; nothing else is converted, so ids never pass through floats."""
    scalar = isinstance(value, np.generic) or (isinstance(value, torch.Tensor) and value.ndim == 0)
    return value.item() if scalar else value
