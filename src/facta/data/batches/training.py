"""From a dataset to batches: training rows with many targets, of next items or of feedback.

Letters: B rows, E input events, S targets, N the window (longest history of a row).

Every batch is a function of (dataset, rows, seed, epoch, step) alone: there is no iterator state, so a run resumes at
any position, another thread may build batches ahead, and processes may divide the steps of an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from facta import arrays, draws
from facta.arrays import Ints
from facta.data.batches import rows as shapes
from facta.data.batches.assembly import assemble
from facta.data.batches.rows import Rows
from facta.data.batches.spec import InputSpec
from facta.data.batches.stochastic_length import StochasticLengthConfig
from facta.data.dataset.dataset import Dataset
from facta.data.split.late import period_moments
from facta.data.split.splits import Split
from facta.data.split.visibility import OWN, Visibility
from facta.draws import Purpose
from facta.errors import ConfigError
from facta.types import SequenceBatch

LENGTH_JITTER = 0.25  # spread of log length within a batch: mixes users between epochs, costs about 12 % padding

Examples = Literal["user", "impression"]


class TrainingBatches:
    """The training rows of a split; a step holds about `batch_size` rows and always about the same number of events.

    Rows of similar length share a batch, which saves padding. Batches of equal numbers of events give every event the
    same weight over an epoch, whatever the length of its history.

    To predict the next item, a row is the newest N events of a user. To predict feedback (`spec.targets_are_inputs`),
    every training event is a target once an epoch: of one row per user ("user": generative training, Zhai et al. 2024,
    section 2.3), or of its own row ("impression": the paper's baseline). `since` [U]: the first place of each history
    whose event may be a target. `sees`: the visibility of events for targets (`data/split/visibility.py`).

    With `spec.cloze` a row is the newest N + 1 events. Each epoch masks some of them anew: these are the targets, and
    the others are the inputs.

    Stochastic Length keeps a target if the event that its prediction is read from is kept: its own event, or the newest
    event that it sees, since a request follows its newest event too. A row's only target is always kept.

    The feedback of a target is the feedback known when the training period ended (`data/split/late.py`).
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        *,
        window: int,
        batch_size: int,
        seed: int = 0,
        spec: InputSpec = InputSpec(),
        examples: Examples = "user",
        since: Ints | None = None,
        stochastic_length: StochasticLengthConfig | None = None,
        sees: Visibility = OWN,
    ) -> None:
        if batch_size < 1 or window < 1:
            raise ConfigError(f"Found batch_size {batch_size} and window {window}; both must be at least 1.")
        self.dataset, self.window, self.batch_size, self.seed, self.inputs = dataset, window, batch_size, seed, spec
        self.shortened = stochastic_length
        if spec.cloze is not None:
            _check_whole(stochastic_length, sees)
        self.rows = _training_rows(split, window, spec, examples, since)
        if sees is not OWN:
            rows = shapes.limited_windows if examples == "user" else shapes.one_row_per_limited_target
            self.rows = rows(dataset, *self.rows.targets, window, sees)
        self.known_until = period_moments(dataset, spec.fields, split.train_end, split.train_cut)
        self._order = lru_cache(maxsize=2)(self._draw_order)

    @property
    def events(self) -> int:
        """Targets in one epoch, before histories are shortened; with `spec.cloze` those that may be drawn."""
        return int((self.rows.last - self.rows.first).sum())

    def steps(self, epoch: int) -> int:
        """Batches in an epoch."""
        return len(self._order(epoch))

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        """The batch at a place in training."""
        rows = self.rows[self._order(epoch)[step]]
        key = draws.mix_int(self.seed, epoch, Purpose.EVENT)
        return assemble(
            self.dataset, rows, self.inputs, window=self.window, key=key, shortened=self.shortened,
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
        """[R] keys of the rows for random draws: functions of the user and of the row's end in its history."""
        user = torch.from_numpy(self.rows.user)
        alone = len(np.unique(self.rows.user)) == len(self.rows)
        return user if alone else draws.mix(user, torch.from_numpy(self.rows.end))

    def _draws(self, epoch: int, purpose: Purpose, place: Tensor) -> Tensor:
        return draws.mix(torch.tensor(draws.mix_int(self.seed, epoch, purpose)), place)


def prediction_batches(
    dataset: Dataset, rows: Rows, *, window: int, spec: InputSpec, events: int = 16_384
) -> Iterator[tuple[Ints, SequenceBatch]]:
    """(places in `rows`, batch) of all rows, by similar length, about `events` inputs a batch.

    Prefix entries and a target after the inputs count as inputs too: many users may have no events.
    """
    order, size = np.argsort(-rows.lengths, kind="stable"), _sizes(dataset, rows, spec)
    step = (arrays.offsets_of(size[order])[:-1] / events).astype(np.int64)
    for part in np.split(order, np.flatnonzero(np.diff(step)) + 1) if len(order) else []:
        yield part, assemble(dataset, rows[part], spec, window=window, key=0)


def _sizes(dataset: Dataset, rows: Rows, spec: InputSpec) -> Ints:
    """[R] inputs of each row, with those of its prefix and of a target after them."""
    size = rows.lengths + (rows.first >= rows.end) + len(spec.users)
    for name in spec.lists:
        offsets = dataset.user_facts[name].offsets
        assert offsets is not None
        size = size + np.diff(offsets.numpy())[rows.user]
    return size


def _check_whole(stochastic_length: StochasticLengthConfig | None, sees: Visibility) -> None:
    """Raises ConfigError for settings under which a masked event would not see its whole row."""
    if stochastic_length is not None:
        raise ConfigError(
            "Found training.stochastic_length beside model.cloze; both leave out events: set "
            "training.stochastic_length to null."
        )
    if sees is not OWN:
        raise ConfigError(f"Found {sees} for targets that see their whole row (model.cloze): leave `sees` out.")


def _training_rows(split: Split, window: int, spec: InputSpec, examples: Examples, since: Ints | None) -> Rows:
    last = split.train_end
    if not spec.targets_are_inputs:
        if examples != "user" or since is not None:
            raise ConfigError(
                "Found training.examples=impression for a next-item model; it is for models that predict feedback: "
                "use user."
            )
        return (shapes.last_window if spec.cloze is None else shapes.hidden_among)(last, window)
    first = np.zeros_like(last) if since is None else since
    user = np.flatnonzero(last > first)
    make = shapes.overlapping_windows if examples == "user" else shapes.one_row_per_target
    return make(user, first[user], last[user], window)
