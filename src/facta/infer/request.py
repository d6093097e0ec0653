"""Requests: what is asked of histories becomes the one batch type.

Letters: B histories, E events in their windows, S candidates. Rows are catalogue rows of the artifact that is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from facta import arrays, jagged
from facta.arrays import Ints
from facta.data import series
from facta.data.entries import entries
from facta.infer.history import Known
from facta.types import Events, Lists, SequenceBatch, Series, Targets


@dataclass(frozen=True)
class Asked:
    """What is asked of a history: how each candidate, or any item (-1), would do in a context."""

    rows: Ints  # [M]
    context: Mapping[str, int] = field(default_factory=dict)  # codes


def request(
    histories: Sequence[Known], at: Sequence[int] | None, window: int, asked: Sequence[Asked] | None = None
) -> SequenceBatch:
    """One row per history: its last `window` events, and targets aside at the request's time: what is `asked` of each,
    or one without an item.

    Times are given for all histories or left out altogether (`at` None: nothing that reads time may be asked). Events
    show the feedback that was known at their next event, the newest ones what is known at the request.
    """
    parts = [_newest(history.rows, window) for history in histories]
    offsets = jagged.offsets_of(torch.tensor([len(part) for part in parts], dtype=torch.int64))
    times, next_time = (None, None) if at is None else _times(histories, at, window)
    first = histories[0]
    moments: Sequence[int | None] = [None] * len(histories) if at is None else at
    codes = [history.codes(moment) for history, moment in zip(histories, moments, strict=True)]
    return SequenceBatch(
        offsets=offsets,
        events=Events(
            item=torch.from_numpy(np.concatenate(parts)),
            time=times,
            key=torch.zeros(int(offsets[-1]), dtype=torch.int64),
            fields={
                name: torch.from_numpy(np.concatenate([_newest(one[name], window) for one in codes]))
                for name in first.fields
            },
        ),
        index=jagged.places(offsets),
        next_time=next_time,
        targets=_targets(asked or [Asked(np.array([-1]))] * len(parts), at, jagged.lengths(offsets)),
        user={name: torch.tensor([history.user[name] for history in histories]) for name in first.user},
        lists=_lists(histories),
        series=_series(histories, offsets, times, at),
    )


def _series(
    histories: Sequence[Known], offsets: Tensor, times: Tensor | None, at: Sequence[int] | None
) -> Series | None:
    """What changed of each person before the request."""
    each = [history.series for history in histories if history.series is not None]
    if not each or times is None or at is None:
        return None
    counts = np.array([len(one.time) for one in each])
    time, field, value = (np.concatenate([getattr(one, name) for one in each]) for name in ("time", "field", "value"))
    given = series.Series(arrays.offsets_of(counts), time, field, value)
    return entries(given, np.arange(len(each)), offsets, times, np.array(at, dtype=np.int64), key=0)


def _lists(histories: Sequence[Known]) -> Lists | None:
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


def _targets(asked: Sequence[Asked], at: Sequence[int] | None, visible: Tensor) -> Targets:
    """[S] all that is asked of rows with `visible` [B] events."""
    counts = torch.tensor([len(one.rows) for one in asked], dtype=torch.int64)
    total = int(counts.sum())

    def each(values: Sequence[int] | Tensor) -> Tensor:
        return torch.repeat_interleave(torch.as_tensor(values, dtype=torch.int64), counts)

    return Targets(
        offsets=jagged.offsets_of(counts),
        events=Events(
            item=torch.from_numpy(np.concatenate([one.rows for one in asked])),
            time=None if at is None else each(at),
            key=torch.zeros(total, dtype=torch.int64),
            fields={name: each([one.context[name] for one in asked]) for name in asked[0].context},
        ),
        after=each(visible),
        slot=torch.full((total,), -1),
        weight=torch.ones(total),
    )


def _newest(values: Ints, window: int) -> Ints:
    return values[max(len(values) - window, 0) :]


def _times(histories: Sequence[Known], at: Sequence[int], window: int) -> tuple[Tensor, Tensor]:
    """[E] own times and [E] times of the successors; the newest event's successor is the request."""
    own, successor = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for history, asked in zip(histories, at, strict=True):
        assert history.times is not None
        own.append(_newest(history.times, window))
        successor.append(_newest(np.append(history.times, asked)[1:], window))
    return torch.from_numpy(np.concatenate(own)), torch.from_numpy(np.concatenate(successor))
