"""Rows of a dataset become one batch: inputs, targets, and the facts that are known at the time of each.

Letters: B rows, E input events, S targets, N the window (longest history of a row).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from facta import draws, jagged
from facta.arrays import Ints
from facta.data.batches.cloze import hidden_events
from facta.data.batches.entries import entries
from facta.data.batches.facts import facts, lists
from facta.data.batches.rows import Rows
from facta.data.batches.spec import InputSpec
from facta.data.batches.stochastic_length import StochasticLengthConfig, kept_events
from facta.data.dataset.dataset import Dataset
from facta.data.split.late import known_codes
from facta.draws import Purpose
from facta.types import Events, SequenceBatch, Series, Targets


def assemble(
    dataset: Dataset,
    rows: Rows,
    spec: InputSpec,
    *,
    window: int,
    key: int,
    step_key: int = 0,
    shortened: StochasticLengthConfig | None = None,
    known_until: Ints | None = None,
) -> SequenceBatch:
    """Rows with targets among their inputs, after them, or masked within them (`spec.cloze`).

    `known_until` [U] ms: the feedback of targets is what was known then.
    """
    inputs = _inputs(dataset, rows.user, rows.start, rows.end, key)
    first, last = (torch.from_numpy(places - rows.start) for places in (rows.first, rows.last))
    offsets = jagged.offsets_of(last - first)
    row = jagged.rows(offsets)
    place = jagged.places(offsets) + first[row]  # [S] from the row's start
    length = jagged.lengths(inputs.offsets)[row]
    seen = torch.from_numpy(rows.sees.events(dataset, *rows.targets) - rows.start[row.numpy()])
    seen = seen.clamp_min(0).minimum(length)  # [S] inputs
    visible, slot = seen, torch.where(place < length, place, -1)
    whole, kept = len(inputs.place), None
    if spec.cloze is not None:  # so far every event of the row is both a target and an input
        kept = ~hidden_events(inputs.offsets, inputs.key, _names(rows, key), spec.cloze)
        predicted = ~kept
    elif shortened is not None:
        kept = _kept(dataset, rows, inputs, key, shortened, window)
        at_own = (slot == seen) & (spec.targets_are_inputs and not spec.reads_token_before)
        read = inputs.offsets[row] + torch.where(at_own, seen, (seen - 1).clamp_min(0))
        read = torch.where(length > 0, read, whole)  # a target without inputs reads no event, and stays
        kept[read[(last - first == 1)[row]]] = True
        predicted = kept[read]
    if kept is not None:
        row, place, seen, offsets = (
            row[predicted],
            place[predicted],
            seen[predicted],
            _counted(row[predicted], len(rows)),
        )
        visible, slot = _ranks(inputs, kept, row, place, seen)
        inputs = inputs.only(kept[:whole])
    start = torch.from_numpy(dataset.offsets[rows.user] + rows.start)
    target = start[row] + place
    before = place + torch.from_numpy(rows.start)[row] - 1  # of the event just before the target
    keys = _keys(torch.from_numpy(rows.user)[row], before, key)
    next_time = _successor_time(dataset, rows, inputs)
    labelled = None if known_until is None else torch.from_numpy(known_until[rows.user])[row]
    events = _events(dataset, inputs.place, inputs.key, spec, _seen_until(rows, inputs, next_time))
    asked = _events(dataset, target, draws.mix(keys, Purpose.TARGET), spec, labelled)
    until = None if asked.time is None else rows.sees.changes_before(asked.time.numpy())
    hidden = None if until is None else torch.from_numpy(until)
    changes = _last_of(offsets, asked.time if hidden is None else hidden)
    return SequenceBatch(
        offsets=inputs.offsets,
        events=events,
        index=inputs.index,
        next_time=next_time,
        targets=Targets(
            offsets=offsets,
            events=asked,
            num_visible=visible,
            input_index=slot,
            weight=torch.ones(len(target)),
            sees=seen,
            until=hidden,
            index=None if spec.cloze is None else place,
        ),
        key=step_key,
        user=facts(dataset, rows.user, spec),
        lists=lists(dataset, rows.user, spec),
        series=_series(dataset, rows.user, inputs.offsets, events, changes, key, spec),
        dropped=0 if shortened is None else whole - len(inputs.place),
    )


class _Inputs:
    """Events [start, end) of each user's history: their places in the dataset and in the window, and their keys."""

    def __init__(self, offsets: Tensor, place: Tensor, index: Tensor, key: Tensor) -> None:
        self.offsets, self.place, self.index, self.key = offsets, place, index, key

    def only(self, kept: Tensor) -> _Inputs:
        """The events of a mask [E]. Their `index` keeps its gaps."""
        counts = _counted(jagged.rows(self.offsets)[kept], len(self.offsets) - 1)
        return _Inputs(counts, self.place[kept], self.index[kept], self.key[kept])


def _inputs(dataset: Dataset, user: Ints, start: Ints, end: Ints, key: int) -> _Inputs:
    users, first = torch.from_numpy(user), torch.from_numpy(start)
    length = torch.from_numpy(end) - first
    offsets = jagged.offsets_of(length)
    index = jagged.places(offsets)
    place = index + torch.repeat_interleave(torch.from_numpy(dataset.offsets[user]) + first, length)
    in_history = index + torch.repeat_interleave(first, length)
    return _Inputs(offsets, place, index, _keys(torch.repeat_interleave(users, length), in_history, key))


def _keys(user: Tensor, place: Tensor, key: int) -> Tensor:
    return draws.mix(draws.mix(user, key), place)


def _events(dataset: Dataset, place: Tensor, key: Tensor, spec: InputSpec, known_until: Tensor | None) -> Events:
    """Events at given places, with the feedback known at `known_until` [E] ms (None: at the end of the log)."""
    at, moment = place.numpy(), None if known_until is None else known_until.numpy()
    return Events(
        item=torch.from_numpy(dataset.item[at].astype(np.int64)),
        time=None if dataset.timestamp is None else torch.from_numpy(np.asarray(dataset.timestamp[at])),
        key=key,
        fields={name: torch.from_numpy(known_codes(dataset, name, at, moment)) for name in spec.fields},
    )


def _seen_until(rows: Rows, inputs: _Inputs, next_time: Tensor | None) -> Tensor | None:
    """[E] when each input is read for the first time: at the next event, or at the moment of the row's state."""
    moment = rows.sees.moment(rows.user)
    if moment is None or next_time is None:
        return next_time
    return next_time.minimum(torch.from_numpy(moment)[jagged.rows(inputs.offsets)])


def _series(
    dataset: Dataset, user: Ints, offsets: Tensor, events: Events, until: Tensor | None, key: int, spec: InputSpec
) -> Series | None:
    """What changed before `until` [B], for a model that reads it."""
    if not spec.series or dataset.series is None:
        return None
    return entries(dataset.series, user, offsets, events.time, None if until is None else until.numpy(), key)


def _last_of(offsets: Tensor, times: Tensor | None) -> Tensor | None:
    """[B] the time of each row's last target, from times [S]; 0 for a row without targets."""
    if times is None:
        return None
    last = times.new_zeros(len(offsets) - 1)
    filled = jagged.lengths(offsets) > 0
    last[filled] = times[offsets[1:][filled] - 1]
    return last


def _kept(
    dataset: Dataset, rows: Rows, inputs: _Inputs, key: int, config: StochasticLengthConfig, window: int
) -> Tensor:
    """[E+1] the inputs that Stochastic Length keeps; the last entry, for targets that read no input, is always true."""
    time = None if dataset.timestamp is None else torch.from_numpy(np.asarray(dataset.timestamp[inputs.place.numpy()]))
    kept = torch.zeros(len(inputs.place) + 1, dtype=torch.bool)
    kept[kept_events(inputs.offsets, time, _names(rows, key), config, window)] = True
    kept[-1] = True
    return kept


def _names(rows: Rows, key: int) -> Tensor:
    """[B] keys of the rows."""
    return draws.mix(draws.mix(torch.from_numpy(rows.user), key), torch.from_numpy(rows.end))


def _ranks(inputs: _Inputs, kept: Tensor, row: Tensor, place: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """[S] of each target: how many of its `seen` inputs are kept, and its own place among the kept ones (-1: none)."""
    before = torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.cumsum(0)])
    first, length = inputs.offsets[row], jagged.lengths(inputs.offsets)[row]
    own = first + place.minimum(length)
    inside = (place < length) & kept[own]
    return before[first + seen] - before[first], torch.where(inside, before[own] - before[first], -1)


def _counted(row: Tensor, count: int) -> Tensor:
    """[n] ascending rows -> [B+1] offsets."""
    return jagged.offsets_of(torch.bincount(row, minlength=count))


def _successor_time(dataset: Dataset, rows: Rows, inputs: _Inputs) -> Tensor | None:
    """[E] time of the true successor, at most that of the row's last target: later events may not be known.

    The newest input is followed by the first target, also across a gap: the events between them are not known. Where
    targets may not see the successor's time, the event's own time stands for it.
    """
    if dataset.timestamp is None:
        return None
    if rows.sees.own_times:
        return torch.from_numpy(np.asarray(dataset.timestamp[inputs.place.numpy()], dtype=np.int64))
    row = jagged.rows(inputs.offsets)
    start, newest = torch.from_numpy(dataset.offsets[rows.user])[row], torch.from_numpy(rows.end - 1)[row]
    first, last = torch.from_numpy(rows.first)[row], torch.from_numpy(np.maximum(rows.last, 1) - 1)[row]
    place = inputs.place - start
    successor = torch.where(place == newest, torch.maximum(place + 1, first), place + 1)
    known = (start + torch.minimum(successor, last)).numpy()
    return torch.from_numpy(np.asarray(dataset.timestamp[known], dtype=np.int64))
