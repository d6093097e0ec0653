"""Requests: histories and candidates become the one batch type, the same in evaluation and for an artifact.

`request` takes encoded histories, `request_batch` (`dataset_requests.py`) the arrays of a dataset. Both make `Windows`,
and `batch_of` makes the batch of them.

Letters: B histories, E events in their windows, S candidates. Rows are catalogue rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from facta import arrays, jagged
from facta.arrays import Ints
from facta.data.batches.encoded import EncodedHistory
from facta.data.batches.entries import entries
from facta.data.batches.windows import window_start
from facta.data.dataset import series
from facta.data.dataset.schema import Field
from facta.data.split.late import ALWAYS, NEVER, shown
from facta.types import Events, Lists, SequenceBatch, Series, Targets


@dataclass(frozen=True)
class Asked:
    """The candidates of a request and their context; -1: any item."""

    rows: Ints  # [M]
    context: Mapping[str, int] = field(default_factory=dict)  # codes


@dataclass(frozen=True)
class Windows:
    """The windows of B histories, with all facts of their events that are known by the end of the log."""

    offsets: Ints  # [B+1]
    rows: Ints  # [E]
    times: Ints | None  # [E] ms
    next_time: Ints  # [E] ms of the next event of the log, unknown items included; NEVER: not known
    fields: Mapping[str, Ints] = field(default_factory=dict)  # [E] codes
    late: tuple[Field, ...] = ()  # fields with values that became known after their events
    known_at: Mapping[str, Ints] = field(default_factory=dict)  # [E] ms; ALWAYS: with the event
    user: Mapping[str, Tensor] = field(default_factory=dict)  # [B] codes
    lists: Lists | None = None
    series: series.Series | None = None  # of all people, those without a row here too; None: not read
    person: Ints | None = None  # [B] row of each history in `series`; None: in order


def request(
    histories: Sequence[EncodedHistory],
    at: Sequence[int] | None,
    window: int,
    asked: Sequence[Asked] | None = None,
    *,
    stride: int = 1,
) -> SequenceBatch:
    """One row per history: its window, and at the request's time its `asked` candidates or one target without an item.

    All histories have times, or none has (`at` None: then the model may not read times).
    """
    moments = None if at is None else np.array(at, dtype=np.int64)
    return batch_of(_windows(histories, window, stride, timed=at is not None), moments, asked)


def batch_of(windows: Windows, at: Ints | None, asked: Sequence[Asked] | None = None) -> SequenceBatch:
    """The batch of requests at `at` [B] ms. An event shows the feedback that was known at the next event; the newest
    event shows the feedback known at the request.
    """
    offsets, times = torch.from_numpy(windows.offsets), windows.times
    length = np.diff(windows.offsets)
    return SequenceBatch(
        offsets=offsets,
        events=Events(
            item=torch.from_numpy(windows.rows),
            time=None if times is None else torch.from_numpy(times),
            key=torch.zeros(len(windows.rows), dtype=torch.int64),
            fields={name: torch.from_numpy(codes) for name, codes in _shown(windows, at).items()},
        ),
        index=torch.from_numpy(arrays.places(windows.offsets)),
        next_time=None if at is None or times is None else torch.from_numpy(_successors(windows.offsets, times, at)),
        targets=_targets(asked or [Asked(np.array([-1]))] * len(length), at, length),
        user=windows.user,
        lists=windows.lists,
        series=_series(windows, at),
    )


def _shown(windows: Windows, at: Ints | None) -> Mapping[str, Ints]:
    """[E] codes as known at the next event; those of the newest event as known at the request."""
    if not windows.late:
        return windows.fields
    until = NEVER if at is None else np.repeat(at, np.diff(windows.offsets))
    return shown(windows.fields, windows.late, windows.known_at, np.minimum(windows.next_time, until))


def _successors(offsets: Ints, times: Ints, at: Ints) -> Ints:
    """[E] the time of the next event of the window; of the newest event, the time of the request."""
    found = np.append(times[1:], 0)[: len(times)]
    filled = np.diff(offsets) > 0
    found[offsets[1:][filled] - 1] = at[filled]
    return found


def _series(windows: Windows, at: Ints | None) -> Series | None:
    """Each person's changed facts before the request."""
    if windows.series is None:
        return None
    person = np.arange(len(windows.offsets) - 1) if windows.person is None else windows.person
    time = None if windows.times is None else torch.from_numpy(windows.times)
    return entries(windows.series, person, torch.from_numpy(windows.offsets), time, at, key=0)


def _targets(asked: Sequence[Asked], at: Ints | None, visible: Ints) -> Targets:
    """[S] the targets of rows with `visible` [B] events."""
    counts = np.array([len(one.rows) for one in asked], dtype=np.int64)
    total = int(counts.sum())

    def each(values: Sequence[int] | Ints) -> Tensor:
        return torch.from_numpy(np.repeat(np.asarray(values, dtype=np.int64), counts))

    return Targets(
        offsets=torch.from_numpy(arrays.offsets_of(counts)),
        events=Events(
            item=torch.from_numpy(np.concatenate([one.rows for one in asked])),
            time=None if at is None else each(at),
            key=torch.zeros(total, dtype=torch.int64),
            fields={name: each([one.context[name] for one in asked]) for name in asked[0].context},
        ),
        num_visible=each(visible),
        input_index=torch.full((total,), -1),
        weight=torch.ones(total),
    )


def _windows(histories: Sequence[EncodedHistory], window: int, stride: int, *, timed: bool) -> Windows:
    """The windows of encoded histories, copied: a history may grow while its batch is read."""
    spans = [slice(window_start(len(one), window, stride), len(one)) for one in histories]
    every = list(zip(histories, spans, strict=True))
    lengths = np.array([span.stop - span.start for span in spans], dtype=np.int64)
    late = {one.name: one for history in histories for one in history.late}
    names = {name for history in histories for name in history.known_at}
    first = histories[0]
    return Windows(
        offsets=arrays.offsets_of(lengths),
        rows=np.concatenate([one.rows[span] for one, span in every]),
        times=np.concatenate([_timed(one)[span] for one, span in every]) if timed else None,
        next_time=np.concatenate([_or(one.next_time, len(one), NEVER)[span] for one, span in every]),
        fields={name: np.concatenate([one.fields[name][span] for one, span in every]) for name in first.fields},
        late=tuple(late.values()),
        known_at={
            name: np.concatenate([_or(one.known_at.get(name), len(one), ALWAYS)[span] for one, span in every])
            for name in names
        },
        user={name: torch.tensor([history.user[name] for history in histories]) for name in first.user},
        lists=lists(histories),
        series=_joined([one.series for one in histories if one.series is not None]) if timed else None,
    )


def _timed(history: EncodedHistory) -> Ints:
    assert history.times is not None
    return history.times


def _or(column: Ints | None, count: int, value: int) -> Ints:
    """[n] the column, or one value for every event."""
    return np.full(count, value) if column is None else column


def _joined(each: Sequence[series.Series]) -> series.Series | None:
    """The entries of people, one after the other."""
    if not each:
        return None
    counts = np.array([len(one.time) for one in each])
    time, which, value = (np.concatenate([getattr(one, name) for one in each]) for name in ("time", "field", "value"))
    return series.Series(arrays.offsets_of(counts), time, which, value)


def lists(histories: Sequence[EncodedHistory]) -> Lists | None:
    """Earlier histories, list after list in each row."""
    names = list(histories[0].lists)
    if not names:
        return None
    rows = [history.lists[name] for history in histories for name in names]
    lengths = torch.tensor([len(one) for one in rows])
    return Lists(
        offsets=jagged.offsets_of(lengths.view(-1, len(names)).sum(dim=1)),
        which=torch.arange(len(names)).repeat(len(histories)).repeat_interleave(lengths),
        item=torch.from_numpy(np.concatenate(rows)),
    )
