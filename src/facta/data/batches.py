"""From a dataset to batches: training rows with a target behind every event, requests with one open target each.

Letters: B rows, E input events, S targets, U users, N the window (longest history of a row).

Every batch is a function of (dataset, split, seed, epoch, step) alone: there is no iterator state, so a run resumes
at any position, batches may be built ahead by another thread, and processes may divide the steps of an epoch among
themselves.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from facta import arrays, draws, jagged
from facta.arrays import Ints
from facta.data.histories import Dataset
from facta.data.splits import Requests, Split
from facta.draws import Purpose
from facta.errors import ConfigError
from facta.types import Events, SequenceBatch, Targets

LENGTH_JITTER = 0.25  # spread of log length within a batch: mixes users between epochs, costs about 12 % padding


def request_batch(dataset: Dataset, requests: Requests, rows: slice | Ints, window: int) -> SequenceBatch:
    """The retrieval requests `rows`: each sees the last `window` of its visible events and has one target without an
    item.
    """
    user, end = requests.user[rows], requests.end[rows]
    timed = requests.time is not None and dataset.timestamp is not None
    time = torch.from_numpy(requests.time[rows]) if timed else None  # type: ignore[index]
    count = len(user)
    target = Events(item=torch.full((count,), -1), time=time, key=torch.zeros(count, dtype=torch.int64))
    inputs = _inputs(dataset, user, np.maximum(end - window, 0), end, key=0)
    return SequenceBatch(
        offsets=inputs.offsets,
        events=_events(dataset, inputs.place, inputs.key),
        index=inputs.index,
        next_time=_next_time(dataset, inputs, time),
        targets=Targets(
            offsets=torch.arange(count + 1),
            events=target,
            after=jagged.lengths(inputs.offsets),
            slot=torch.full((count,), -1),
            weight=torch.ones(count),
        ),
    )


class TrainingBatches:
    """The training rows of a split; a step holds about `batch_size` users and always about the same number of events.

    A row's inputs are the last N events before its newest training event, its targets the events that follow each of
    them; all targets but the newest are in-line. Users of similar history length share a batch, so little is computed
    on padding; equal numbers of events a batch give every event the same weight over an epoch, whatever the length of
    its history.
    """

    def __init__(self, dataset: Dataset, split: Split, *, window: int, batch_size: int, seed: int = 0) -> None:
        if batch_size < 1 or window < 1:
            raise ConfigError(f"Found batch_size {batch_size} and window {window}; both must be at least 1.")
        self.dataset, self.split, self.window, self.batch_size, self.seed = dataset, split, window, batch_size, seed
        self.users: Ints = np.flatnonzero(split.train_end >= 2)  # [U'] with something to learn from
        self._length = np.minimum(split.train_end[self.users] - 1, window)
        self._order = lru_cache(maxsize=2)(self._draw_order)

    @property
    def events(self) -> int:
        """Targets in one epoch."""
        return int(self._length.sum())

    def steps(self, epoch: int) -> int:
        """Batches in an epoch."""
        return len(self._order(epoch))

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        """The batch at a place in training."""
        users = self._order(epoch)[step]
        end = self.split.train_end[users] - 1  # the newest training event is a target only
        key = draws.mix_int(self.seed, epoch, Purpose.EVENT)
        inputs = _inputs(self.dataset, users, np.maximum(end - self.window, 0), end, key)
        events = _events(self.dataset, inputs.place, inputs.key)
        successors = _events(self.dataset, inputs.place + 1, draws.mix(inputs.key, Purpose.TARGET))
        return SequenceBatch(
            offsets=inputs.offsets,
            events=events,
            index=inputs.index,
            next_time=successors.time,
            targets=Targets(
                offsets=inputs.offsets,
                events=successors,
                after=jagged.places(inputs.offsets) + 1,
                slot=_inline_slots(inputs),
                weight=torch.ones(len(inputs.place)),
            ),
            key=draws.mix_int(self.seed, epoch, Purpose.STEP, step),
        )

    def _draw_order(self, epoch: int) -> list[Ints]:
        """Users of each step: sorted by jittered log length, cut at equal numbers of events, the pieces shuffled."""
        if not len(self.users):
            return []
        bits = draws.below(self._draws(epoch, Purpose.LENGTH, torch.from_numpy(self.users)), 1 << 30).numpy()
        near = np.argsort(np.log(self._length) + LENGTH_JITTER * bits / (1 << 30), kind="stable")
        budget = max(self.batch_size * self._length.mean(), float(self._length.max()))
        step = (arrays.offsets_of(self._length[near])[:-1] / budget).astype(np.int64)
        pieces = np.split(self.users[near], np.flatnonzero(np.diff(step)) + 1)
        shuffle = np.argsort(self._draws(epoch, Purpose.SHUFFLE, torch.arange(len(pieces))).numpy(), kind="stable")
        return [pieces[place] for place in shuffle]

    def _draws(self, epoch: int, purpose: Purpose, place: Tensor) -> Tensor:
        return draws.mix(torch.tensor(draws.mix_int(self.seed, epoch, purpose)), place)


class _Inputs:
    """Events [start, end) of each user's history: where they lie in the dataset, in the window, and their keys."""

    def __init__(self, offsets: Tensor, place: Tensor, index: Tensor, key: Tensor) -> None:
        self.offsets, self.place, self.index, self.key = offsets, place, index, key


def _inputs(dataset: Dataset, user: Ints, start: Ints, end: Ints, key: int) -> _Inputs:
    users, first = torch.from_numpy(user), torch.from_numpy(start)
    length = torch.from_numpy(end) - first
    offsets = jagged.offsets_of(length)
    index = jagged.places(offsets)
    place = index + torch.repeat_interleave(torch.from_numpy(dataset.offsets[user]) + first, length)
    in_history = index + torch.repeat_interleave(first, length)
    keys = draws.mix(torch.repeat_interleave(draws.mix(users, key), length), in_history)
    return _Inputs(offsets, place, index, keys)


def _events(dataset: Dataset, place: Tensor, key: Tensor) -> Events:
    at = place.numpy()
    return Events(
        item=torch.from_numpy(dataset.item[at].astype(np.int64)),
        time=None if dataset.timestamp is None else torch.from_numpy(np.asarray(dataset.timestamp[at])),
        key=key,
    )


def _inline_slots(inputs: _Inputs) -> Tensor:
    """The successor of input i is input i + 1 of the row; the newest input's successor is aside."""
    slot = jagged.places(inputs.offsets) + 1
    newest = inputs.offsets[1:] - 1
    slot[newest[jagged.lengths(inputs.offsets) > 0]] = -1
    return slot


def _next_time(dataset: Dataset, inputs: _Inputs, request_time: Tensor | None) -> Tensor | None:
    """[E] time of each event's successor; the newest one's successor is the request."""
    if dataset.timestamp is None or request_time is None:
        return None
    successor = np.minimum(inputs.place.numpy() + 1, dataset.num_events - 1)
    time = torch.from_numpy(np.asarray(dataset.timestamp[successor], dtype=np.int64))
    filled = jagged.lengths(inputs.offsets) > 0
    time[inputs.offsets[1:][filled] - 1] = request_time[filled]
    return time
