"""Protocols: the exact definition of an evaluation, with a printable id.

Two numbers may stand side by side when their ids, their stages and the content hashes of their datasets are the same;
what could change a number is part of one of the three. What is the same for every facta evaluation, and therefore not
in the id: the full catalogue is ranked (nothing is sampled), a tie never favours the target, means are over users, and
a history that shows no trained item is answered as people are answered: with the most popular items.
"""

from __future__ import annotations

import re
from typing import Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from facta.arrays import Bools, Ints
from facta.config import Config
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.times import moment
from facta.data.split.late import successes
from facta.data.split.mask import ALL, is_mask, masked_events
from facta.data.split.splits import Split, State, Ties, cut_at_share, leave_one_out, temporal, training_events
from facta.errors import ConfigError, DataError, ProtocolError

Stage = Literal["validation", "test"]

ORDERS = ("user, timestamp, input row", "user, input row")
"""The total order of events in a prepared dataset, with times and without: the row of the input breaks every tie."""


class ProtocolConfig(Config):
    """What is held out, what the model may see, what is masked and what is ranked.

    `split`: `loo-val` trains on targets up to a user's event n-2, validates on n-1 and tests on n; `loo-paper` trains
    up to n-1 and has no validation, so its best epoch must not be read off the test; `temporal` cuts at two moments
    for everybody, each a share of all events ("80%") or a UTC time ("2003-01-01", "2003-01-01T12:00").

    `refit`: whether the tested model was trained on the validation events, too. With `yes` epochs and settings are
    chosen on validation as with `no`; then the model is trained a second time, with these, on everything before the
    test.

    `targets`: the events that are asked for, `all` or those where a feedback field says success ("buy"). All events
    stay visible. Leave-one-out then holds out each user's last two targets, and trains on nothing behind the first.
    """

    split: Literal["loo-val", "loo-paper", "temporal"] = "loo-val"
    train_end: str | None = None  # temporal only: validation begins here
    validation_end: str | None = None  # temporal only: test begins here
    refit: Literal["no", "yes"] = "no"
    targets: str = "all"  # what is asked for: `all` events, or those where this feedback field says success
    ties: Ties = "in-order"  # events of the target's own time: shown if earlier in the order, or hidden
    state: State = "rolling"  # what a request sees: all before it, or (temporal only) all before the cut
    mask: str = ALL  # never recommended: `nothing`, the last N visible events `window(N)`, or all of `history`
    rank: Literal["rated", "all", "trained"] = "rated"  # items with an event in the log, all, or what can be learned
    stride: int = Field(1, ge=1)  # how many events a full window moves at a time, as in a live engine; 1: the newest N

    @field_validator("mask")
    @classmethod
    def _known_mask(cls, mask: str) -> str:
        if not is_mask(mask):
            raise ConfigError(f"Found mask '{mask}'; expected nothing, history or window(N), as in window(200).")
        return mask

    @field_validator("train_end", "validation_end")
    @classmethod
    def _possible_share(cls, cut: str | None, info: ValidationInfo) -> str | None:
        share = None if cut is None else _share(cut)
        if share is not None and not 0 < share <= 1:
            raise ConfigError(
                f"Found the share '{cut}' as {info.field_name}; expected more than 0% and at most 100% of all events."
            )
        return cut

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        cuts = (self.train_end, self.validation_end)
        if self.split == "temporal" and None in cuts:
            raise ConfigError("A temporal protocol needs train_end and validation_end, as in 80% and 90%.")
        if self.split != "temporal" and cuts != (None, None):
            raise ConfigError(f"train_end and validation_end belong to temporal protocols; {self.split} has none.")
        if self.state == "frozen" and self.ties == "blind":
            raise ConfigError("A frozen state is cut at one moment for everybody: no event ties with it. Use in-order.")
        if self.split == "loo-paper" and self.refit == "yes":
            raise ConfigError(
                "Found refit=yes with loo-paper, which has no validation and trains up to n-1 already; use loo-val."
            )
        if self.split != "temporal" and self.state == "frozen":
            raise ConfigError(
                f"{self.split} asks right before each target: its state is rolling; frozen is temporal only."
            )
        return self

    @property
    def id(self) -> str:
        """Everything that changes a number, in one line."""
        what = f"ties={self.ties}/state={self.state}/mask={self.mask}/rank={self.rank}"
        moved = "" if self.stride == 1 else f"/stride={self.stride}"
        return f"{self._held_out}/targets={self.targets}/order=user,time,row/users=with-history/{what}{moved}"

    @property
    def feedback_id(self) -> str:
        """The same of predicted feedback: every held-out event, told its own time, context and item.

        Of the events before, a rolling state knows all and a frozen one those before the cut; of facts of the user that
        change, both know what was so at the event. Also events of users without history; ties in order.
        """
        return f"feedback/{self._held_out}/order=user,time,row/users=all/ties=in-order/state={self.state}"

    @property
    def held_out(self) -> tuple[str | None, ...]:
        """What decides which events are held out: protocols that agree in it hold out the same ones."""
        targets = "all" if self.split == "temporal" else self.targets  # leave-one-out counts targets from the end
        return self.split, self.train_end, self.validation_end, targets

    @property
    def _held_out(self) -> str:
        """The part of an id that says which events are held out, and from which training."""
        cuts = f"/train-end={self.train_end}/validation-end={self.validation_end}" if self.split == "temporal" else ""
        return f"{self.split}{cuts}/refit={self.refit}"

    @property
    def before_refit(self) -> ProtocolConfig:
        """The protocol of the first training, whose model has not seen the validation events."""
        return self.change(refit="no")

    @property
    def masked_events(self) -> int | None:
        """How many of the newest visible events are masked; None: all of them."""
        return masked_events(self.mask)

    def cut(self, dataset: Dataset) -> Split:
        """What fitting may know of a dataset; `ProtocolError` where this protocol is undefined for it."""
        if self.split != "temporal":
            targets = self.targets_of(dataset)
            return leave_one_out(dataset, validation=self.split == "loo-val", ties=self.ties, targets=targets)
        validation_from, test_from = self.cuts(dataset)
        if validation_from > test_from:
            raise ProtocolError(
                f"train_end {self.train_end} lies after validation_end {self.validation_end}; training must end first."
            )
        return temporal(
            dataset,
            validation_from=validation_from,
            test_from=test_from,
            state=self.state,
            ties=self.ties,
            targets=self.targets_of(dataset, known_until=test_from),
        )

    def advice(self, dataset: Dataset) -> str:
        """The end of a sentence about a stage in which nothing happens."""
        if self.split == "loo-paper":
            return "; use loo-val."
        if self.split == "loo-val" or dataset.timestamp is None or not dataset.num_events:
            return "; use a longer log."
        first, last = (np.datetime64(int(end), "ms") for end in (dataset.timestamp.min(), dataset.timestamp.max()))
        return f", whose events lie between {first} and {last} (UTC); use cuts between these, or a longer log."

    def cuts(self, dataset: Dataset) -> tuple[int, int]:
        """When validation and test begin, in milliseconds."""
        assert self.train_end is not None and self.validation_end is not None
        return _moment(dataset, self.train_end), _moment(dataset, self.validation_end)

    def targets_of(self, dataset: Dataset, known_until: int | None = None) -> Bools | None:
        """[E] which events are asked for, as known at a moment (ms) or at the end of the log; None: all."""
        if self.targets == "all":
            return None
        moments = None if known_until is None else np.full(dataset.num_users, known_until, dtype=np.int64)
        return successes(dataset, self.targets, moments)

    def ranked_items(self, dataset: Dataset, split: Split) -> Ints:
        """[V'] rows of the items that are ranked, ascending; `split` is what `cut` gives.

        `trained` is what an artifact recommends: an item that only held-out events show is no answer there.
        """
        if self.rank == "all":
            return np.arange(dataset.num_items)
        events = dataset.item
        if self.rank == "trained":
            events = events[training_events(dataset, split.refit if self.refit == "yes" else split)]
        return np.flatnonzero(np.bincount(events, minlength=dataset.num_items)).astype(np.int64)


def _moment(dataset: Dataset, text: str) -> int:
    """A share of all events, or a UTC time, as milliseconds."""
    share = _share(text)
    if share is not None:
        return cut_at_share(dataset, share)
    try:
        return moment(text)
    except DataError as error:
        raise ConfigError(
            f"Found the cut '{text}'; expected a share such as 80% or a time such as 2003-01-01."
        ) from error


def _share(text: str) -> float | None:
    """80% -> 0.8; None for what is no share."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%", text)
    return None if found is None else float(found[1]) / 100


def check_order(dataset: Dataset) -> None:
    """Refuse histories in another order: up to a quarter of all leave-one-out targets would be others."""
    if dataset.manifest.order not in ORDERS:
        raise ProtocolError(
            f"The dataset is in the order '{dataset.manifest.order}'; protocols are defined for '{ORDERS[0]}': "
            "prepare it again."
        )
