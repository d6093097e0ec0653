"""From a dataset to batches: training rows with many targets, feedback to be predicted, requests for an item.

Letters: B rows, E input events, S targets, N the window (longest history of a row).

Every batch is a function of (dataset, rows, seed, epoch, step) alone: there is no iterator state, so a run resumes
at any position, batches may be built ahead by another thread, and processes may divide the steps of an epoch among
themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from facta import arrays, draws, jagged
from facta.arrays import Ints
from facta.data.batches import rows as shapes
from facta.data.batches.entries import entries
from facta.data.batches.request import Asked, Windows, batch_of
from facta.data.batches.rows import Rows
from facta.data.batches.stochastic_length import StochasticLengthConfig, kept_events
from facta.data.batches.windows import window_start
from facta.data.dataset.codes import codes
from facta.data.dataset.dataset import Dataset
from facta.data.split.late import NEVER, known_at, known_codes, period_moments, waiting_on
from facta.data.split.splits import Requests, Split
from facta.data.split.visibility import OWN, Visibility
from facta.draws import Purpose
from facta.errors import ConfigError
from facta.types import Events, Lists, SequenceBatch, Series, Targets

LENGTH_JITTER = 0.25  # spread of log length within a batch: mixes users between epochs, costs about 12 % padding
Examples = Literal["user", "impression"]


@dataclass(frozen=True)
class Wants:
    """What a model reads beside items and times."""

    fields: tuple[str, ...] = ()  # context and feedback of events
    users: tuple[str, ...] = ()  # constant facts of users
    lists: tuple[str, ...] = ()  # earlier histories of users, without times
    series: bool = False  # facts of users that change
    own: bool = False  # it predicts feedback: of events among its inputs
    ahead: bool = False  # from what it has read before the event (and not where the event's own item is shown)
    told: tuple[str, ...] = ()  # context of the event that a request for its item says


def told(dataset: Dataset, requests: Requests, wants: Wants) -> dict[str, Ints]:
    """Field -> [Q] codes of the context that each request says: that of the event which is asked for. Nothing where
    requests are for several events. `dataset` is the one that was asked about, with all its events.
    """
    if requests.place is None:
        return {}
    event = dataset.offsets[requests.user] + requests.place
    return {name: known_codes(dataset, name, event, None) for name in wants.told}


def request_batch(
    dataset: Dataset,
    requests: Requests,
    rows: slice | Ints,
    window: int,
    wants: Wants = Wants(),
    *,
    stride: int = 1,
    context: Mapping[str, Ints] | None = None,
) -> SequenceBatch:
    """The retrieval requests `rows`: each sees the window of its visible events and has one target without an item.

    `context`: field -> [Q] codes that the requests say (`told`).
    """
    user, end = requests.user[rows], requests.end[rows]
    start = window_start(end, window, stride)
    first = np.asarray(dataset.offsets[user], dtype=np.int64) + start
    windows = _windows(dataset, user, first, end - start, wants)
    timed = requests.time is not None and dataset.timestamp is not None
    said = {name: column[rows].tolist() for name, column in (context or {}).items()}
    any_item = np.array([-1])
    asked = [Asked(any_item, dict(zip(said, codes, strict=True))) for codes in zip(*said.values(), strict=True)]
    return batch_of(windows, requests.time[rows] if timed else None, asked)  # type: ignore[index]


def _windows(dataset: Dataset, user: Ints, first: Ints, length: Ints, wants: Wants) -> Windows:
    """Events of users [B], from the places `first` [B] in the dataset on."""
    place, offsets = arrays.spans(first, length), arrays.offsets_of(length)
    stored = [one for one in dataset.manifest.fields if one.name in wants.fields]
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
        user=_facts(dataset, user, wants),
        lists=_lists(dataset, user, wants),
        series=dataset.series if wants.series else None,
        person=user,
    )


def _successors(dataset: Dataset, place: Ints, offsets: Ints) -> Ints:
    """[E] ms of the next event that is shown; NEVER of the newest one of each row."""
    found = np.full(len(place), NEVER)
    if dataset.timestamp is not None:
        found[:-1] = dataset.timestamp[place[1:]]
        found[offsets[1:][np.diff(offsets) > 0] - 1] = NEVER
    return found


class TrainingBatches:
    """The training rows of a split; a step holds about `batch_size` rows and always about the same number of events.

    Rows of similar length share a batch, so little is computed on padding; equal numbers of events a batch give every
    event the same weight over an epoch, whatever the length of its history.

    To predict the next item, a row is the newest N events of a user. To predict feedback (`wants.own`), every training
    event is a target once an epoch: of one row per user ("user": generative training, Zhai et al. 2024, section 2.3),
    or of a row of its own ("impression": what that paper compares it with). `since` [U]: the first place of each
    history whose event may be a target. `sees`: what each target sees of the events before it
    (`data/split/visibility.py`).

    Stochastic Length keeps a target if the event that its prediction is read from is kept: its own event, or the newest
    one that it sees. When a request is answered, nothing is missing in between. A row's only target stays.

    The feedback of a target is what was known of it when the training period ended (`data/split/late.py`).
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        *,
        window: int,
        batch_size: int,
        seed: int = 0,
        wants: Wants = Wants(),
        examples: Examples = "user",
        since: Ints | None = None,
        stochastic_length: StochasticLengthConfig | None = None,
        sees: Visibility = OWN,
    ) -> None:
        if batch_size < 1 or window < 1:
            raise ConfigError(f"Found batch_size {batch_size} and window {window}; both must be at least 1.")
        self.dataset, self.window, self.batch_size, self.seed, self.wants = dataset, window, batch_size, seed, wants
        self.shortened = stochastic_length
        self.rows = _training_rows(split, window, wants, examples, since)
        if sees is not OWN:
            rows = shapes.shared if examples == "user" else shapes.apart
            self.rows = rows(dataset, *self.rows.targets, window, sees)
        self.known_until = period_moments(dataset, wants.fields, split.train_end, split.train_cut)
        self._order = lru_cache(maxsize=2)(self._draw_order)

    @property
    def events(self) -> int:
        """Targets in one epoch, before histories are shortened."""
        return int((self.rows.last - self.rows.first).sum())

    def steps(self, epoch: int) -> int:
        """Batches in an epoch."""
        return len(self._order(epoch))

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        """The batch at a place in training."""
        rows = self.rows[self._order(epoch)[step]]
        key = draws.mix_int(self.seed, epoch, Purpose.EVENT)
        return _batch(
            self.dataset, rows, self.wants, window=self.window, key=key, shortened=self.shortened,
            known_until=self.known_until, step_key=draws.mix_int(self.seed, epoch, Purpose.STEP, step),
        )  # fmt: skip

    def _draw_order(self, epoch: int) -> list[Ints]:
        """Rows of each step: sorted by jittered log length, cut at equal numbers of events, the pieces shuffled."""
        length, count = np.maximum(self.rows.lengths, 1), len(self.rows)
        if not count:
            return []
        bits = draws.below(self._draws(epoch, Purpose.LENGTH, self._names()), 1 << 30).numpy()
        near = np.argsort(np.log(length) + LENGTH_JITTER * bits / (1 << 30), kind="stable")
        budget = max(self.batch_size * length.mean(), float(length.max()))
        step = (arrays.offsets_of(length[near])[:-1] / budget).astype(np.int64)
        pieces = np.split(near, np.flatnonzero(np.diff(step)) + 1)
        shuffle = np.argsort(self._draws(epoch, Purpose.SHUFFLE, torch.arange(len(pieces))).numpy(), kind="stable")
        return [pieces[place] for place in shuffle]

    def _names(self) -> Tensor:
        """[R] what rows are known by to random draws: their user, and where in its history they end."""
        user = torch.from_numpy(self.rows.user)
        alone = len(np.unique(self.rows.user)) == len(self.rows)
        return user if alone else draws.mix(user, torch.from_numpy(self.rows.end))

    def _draws(self, epoch: int, purpose: Purpose, place: Tensor) -> Tensor:
        return draws.mix(torch.tensor(draws.mix_int(self.seed, epoch, purpose)), place)


def prediction_batches(
    dataset: Dataset, rows: Rows, *, window: int, wants: Wants, events: int = 16_384
) -> Iterator[tuple[Ints, SequenceBatch]]:
    """(places in `rows`, batch) of all rows, those of similar length together, about `events` inputs a batch.

    What is known of a user, and a target aside, are inputs too: of people without events there are many in a row.
    """
    order, size = np.argsort(-rows.lengths, kind="stable"), _sizes(dataset, rows, wants)
    step = (arrays.offsets_of(size[order])[:-1] / events).astype(np.int64)
    for part in np.split(order, np.flatnonzero(np.diff(step)) + 1) if len(order) else []:
        yield part, _batch(dataset, rows[part], wants, window=window, key=0)


def _sizes(dataset: Dataset, rows: Rows, wants: Wants) -> Ints:
    """[R] inputs of each row, of its user and of a target aside."""
    size = rows.lengths + (rows.first >= rows.end) + len(wants.users)
    for name in wants.lists:
        offsets = dataset.user_facts[name].offsets
        assert offsets is not None
        size = size + np.diff(offsets.numpy())[rows.user]
    return size


def _training_rows(split: Split, window: int, wants: Wants, examples: Examples, since: Ints | None) -> Rows:
    last = split.train_end
    if not wants.own:
        if examples != "user" or since is not None:
            raise ConfigError("Found impression-level examples of the next item; they are of models of feedback alone.")
        return shapes.newest(last, window)
    first = np.zeros_like(last) if since is None else since
    user = np.flatnonzero(last > first)
    make = shapes.tiles if examples == "user" else shapes.singles
    return make(user, first[user], last[user], window)


def _batch(
    dataset: Dataset,
    rows: Rows,
    wants: Wants,
    *,
    window: int,
    key: int,
    step_key: int = 0,
    shortened: StochasticLengthConfig | None = None,
    known_until: Ints | None = None,
) -> SequenceBatch:
    """Rows with targets among their inputs, or behind them; `known_until` [U]: of the feedback of targets."""
    inputs = _inputs(dataset, rows.user, rows.start, rows.end, key)
    first, last = (torch.from_numpy(places - rows.start) for places in (rows.first, rows.last))
    offsets = jagged.offsets_of(last - first)
    row = jagged.rows(offsets)
    place = jagged.places(offsets) + first[row]  # [S] counted from the row's start
    length = jagged.lengths(inputs.offsets)[row]
    seen = torch.from_numpy(rows.sees.events(dataset, *rows.targets) - rows.start[row.numpy()])
    seen = seen.clamp_min(0).minimum(length)  # [S] inputs
    visible, slot = seen, torch.where(place < length, place, -1)
    whole = len(inputs.place)
    if shortened is not None:
        kept = _kept(dataset, rows, inputs, key, shortened, window)
        at_own = (slot == seen) & (wants.own and not wants.ahead)
        read = inputs.offsets[row] + torch.where(at_own, seen, (seen - 1).clamp_min(0))
        read = torch.where(length > 0, read, whole)  # a row without inputs loses none
        kept[read[(last - first == 1)[row]]] = True
        predicted = kept[read]
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
    before = place + torch.from_numpy(rows.start)[row] - 1  # of the event that it follows
    keys = _keys(torch.from_numpy(rows.user)[row], before, key)
    next_time = _successor_time(dataset, rows, inputs)
    labelled = None if known_until is None else torch.from_numpy(known_until[rows.user])[row]
    events = _events(dataset, inputs.place, inputs.key, wants, _seen_until(rows, inputs, next_time))
    asked = _events(dataset, target, draws.mix(keys, Purpose.TARGET), wants, labelled)
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
            after=visible,
            slot=slot,
            weight=torch.ones(len(target)),
            sees=seen,
            until=hidden,
        ),
        key=step_key,
        user=_facts(dataset, rows.user, wants),
        lists=_lists(dataset, rows.user, wants),
        series=_series(dataset, rows.user, inputs.offsets, events, changes, key, wants),
        dropped=whole - len(inputs.place),
    )


class _Inputs:
    """Events [start, end) of each user's history: where they lie in the dataset, in the window, and their keys."""

    def __init__(self, offsets: Tensor, place: Tensor, index: Tensor, key: Tensor) -> None:
        self.offsets, self.place, self.index, self.key = offsets, place, index, key

    def only(self, kept: Tensor) -> _Inputs:
        """Those of a mask [E]; their index keeps its gaps."""
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


def _events(dataset: Dataset, place: Tensor, key: Tensor, wants: Wants, known_until: Tensor | None) -> Events:
    """Events in given places, with the feedback that is known at `known_until` [E] ms; None: at the end of the log."""
    at, moment = place.numpy(), None if known_until is None else known_until.numpy()
    return Events(
        item=torch.from_numpy(dataset.item[at].astype(np.int64)),
        time=None if dataset.timestamp is None else torch.from_numpy(np.asarray(dataset.timestamp[at])),
        key=key,
        fields={name: torch.from_numpy(known_codes(dataset, name, at, moment)) for name in wants.fields},
    )


def _seen_until(rows: Rows, inputs: _Inputs, next_time: Tensor | None) -> Tensor | None:
    """[E] when each input is read for the first time: at the next event, or at the moment of the row's state."""
    moment = rows.sees.moment(rows.user)
    if moment is None or next_time is None:
        return next_time
    return next_time.minimum(torch.from_numpy(moment)[jagged.rows(inputs.offsets)])


def _facts(dataset: Dataset, user: Ints, wants: Wants) -> dict[str, Tensor]:
    """[B] constant facts of the users, in codes."""
    return {name: dataset.user_facts[name].values[torch.from_numpy(user)] for name in wants.users}


def _lists(dataset: Dataset, user: Ints, wants: Wants) -> Lists | None:
    """Earlier histories of the users, list after list in each row."""
    if not wants.lists:
        return None
    users, parts = torch.from_numpy(user), [dataset.user_facts[name] for name in wants.lists]
    lengths = torch.stack([jagged.lengths(part.offsets)[users] for part in parts if part.offsets is not None], dim=1)
    first = torch.stack([part.offsets[users] for part in parts if part.offsets is not None], dim=1)
    at = jagged.spans(first.flatten(), lengths.flatten())
    which = torch.arange(len(parts)).repeat(len(users)).repeat_interleave(lengths.flatten())
    rows = torch.empty_like(at)
    for number, part in enumerate(parts):
        own = which == number
        rows[own] = part.values[at[own]] - 1
    return Lists(jagged.offsets_of(lengths.sum(dim=1)), which, rows)


def _series(
    dataset: Dataset, user: Ints, offsets: Tensor, events: Events, until: Tensor | None, key: int, wants: Wants
) -> Series | None:
    """What changed before `until` [B], for a model that reads it."""
    if not wants.series or dataset.series is None:
        return None
    return entries(dataset.series, user, offsets, events.time, None if until is None else until.numpy(), key)


def _last_of(offsets: Tensor, times: Tensor | None) -> Tensor | None:
    """[B] the time [S] of each row's last target; nothing is known before a row that has none."""
    if times is None:
        return None
    last = times.new_zeros(len(offsets) - 1)
    filled = jagged.lengths(offsets) > 0
    last[filled] = times[offsets[1:][filled] - 1]
    return last


def _kept(
    dataset: Dataset, rows: Rows, inputs: _Inputs, key: int, config: StochasticLengthConfig, window: int
) -> Tensor:
    """[E+1] which inputs stay; behind them one that always does."""
    time = None if dataset.timestamp is None else torch.from_numpy(np.asarray(dataset.timestamp[inputs.place.numpy()]))
    names = draws.mix(draws.mix(torch.from_numpy(rows.user), key), torch.from_numpy(rows.end))
    kept = torch.zeros(len(inputs.place) + 1, dtype=torch.bool)
    kept[kept_events(inputs.offsets, time, names, config, window)] = True
    kept[-1] = True
    return kept


def _ranks(inputs: _Inputs, kept: Tensor, row: Tensor, place: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """[S] kept ones of the `seen` inputs of each target, and its own place among all kept ones; -1: it is none."""
    before = torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.cumsum(0)])
    first, length = inputs.offsets[row], jagged.lengths(inputs.offsets)[row]
    own = first + place.minimum(length)
    inside = (place < length) & kept[own]
    return before[first + seen] - before[first], torch.where(inside, before[own] - before[first], -1)


def _counted(row: Tensor, count: int) -> Tensor:
    """[n] ascending rows -> [B+1] offsets."""
    return jagged.offsets_of(torch.bincount(row, minlength=count))


def _successor_time(dataset: Dataset, rows: Rows, inputs: _Inputs) -> Tensor | None:
    """[E] time of the true successor; nothing is read behind the last target, whose successor may not be known.

    A target behind a gap follows the newest input: what came between them is not known either. Where the successor may
    be hidden from those who see an event, it is the event's own time.
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
