"""Protocols: the exact definition of an evaluation, with a printable id.

Two numbers are comparable if their protocol ids, stages and content hashes of the dataset are equal; everything that
could change a number is part of these. Common to all facta evaluations, and therefore not in the id: the full catalogue
is ranked (nothing is sampled), ties never favour the target, means are over users, and histories without trained items
get the popularity fallback, in evaluation as in `recommend`.
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
"""The total order of events in a dataset with times and without; the input row breaks ties."""


class ProtocolConfig(Config):
    """Held-out events, visible events, mask and ranked items of an evaluation.

    `split`: `loo-val` trains on targets up to a user's event n-2, validates on n-1 and tests on n; `loo-paper` trains
    up to n-1 and has no validation, and the best epoch must not be chosen on the test; `temporal` cuts all histories at
    two moments, each a share of all events ("80%") or a UTC time ("2003-01-01", "2003-01-01T12:00").

    `refit`: whether the tested model was trained on the validation events, too. Epochs and settings are always chosen
    on validation; with `yes` the model is then trained a second time, with these, on everything before the test.

    `targets`: the events that are asked for: `all`, or the successes of a feedback field ("buy"). All events stay
    visible. Leave-one-out then holds out each user's last two targets, and trains on nothing after the first of them.
    """

    split: Literal["loo-val", "loo-paper", "temporal"] = "loo-val"
    train_end: str | None = None  # temporal only: validation begins here
    validation_end: str | None = None  # temporal only: test begins here
    refit: Literal["no", "yes"] = "no"
    targets: str = "all"  # events that are asked for: `all`, or the successes of this feedback field
    ties: Ties = "in-order"  # earlier events of the target's own time: visible (in-order) or hidden (blind)
    state: State = "rolling"  # visible events: all before the request, or (temporal only) all before the cut
    mask: str = ALL  # never recommended: `nothing`, the last N visible events `window(N)`, or all of `history`
    rank: Literal["rated", "all", "trained"] = "rated"  # items with an event in the log, all, or with training events
    stride: int = Field(1, ge=1)  # events that a full window moves at a time, as in a live engine; 1: the newest N

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
            raise ConfigError(
                "ties=blind has no effect with state=frozen, which is cut at one moment for all users: use "
                "ties=in-order."
            )
        if self.split == "loo-paper" and self.refit == "yes":
            raise ConfigError(
                "Found refit=yes with loo-paper, which has no validation and trains up to n-1 already; use loo-val."
            )
        if self.split != "temporal" and self.state == "frozen":
            raise ConfigError(
                f"Found state=frozen for {self.split}, whose requests are right before each target: use "
                "state=rolling, or a temporal split."
            )
        return self

    @property
    def id(self) -> str:
        """The printable id: everything that changes a number, in one line."""
        what = f"ties={self.ties}/state={self.state}/mask={self.mask}/rank={self.rank}"
        moved = "" if self.stride == 1 else f"/stride={self.stride}"
        return f"{self._held_out}/targets={self.targets}/order=user,time,row/users=with-history/{what}{moved}"

    @property
    def feedback_id(self) -> str:
        """The id for predicted feedback of every held-out event, given its own time, context and item.

        A rolling state sees all earlier events, a frozen one those before the cut; both see the user's changing facts
        in force at the event. Events of users without history are predicted too; ties are in order.
        """
        return f"feedback/{self._held_out}/order=user,time,row/users=all/ties=in-order/state={self.state}"

    @property
    def held_out(self) -> tuple[str | None, ...]:
        """The settings that determine the held-out events; protocols that agree in them hold out the same ones."""
        targets = "all" if self.split == "temporal" else self.targets  # leave-one-out counts targets from the end
        return self.split, self.train_end, self.validation_end, targets

    @property
    def _held_out(self) -> str:
        """The part of an id on the held-out events and the training."""
        cuts = f"/train-end={self.train_end}/validation-end={self.validation_end}" if self.split == "temporal" else ""
        return f"{self.split}{cuts}/refit={self.refit}"

    @property
    def before_refit(self) -> ProtocolConfig:
        """The protocol of the first training, whose model has not seen the validation events."""
        return self.change(refit="no")

    @property
    def masked_events(self) -> int | None:
        """The number of newest visible events that are masked; None: all of them."""
        return masked_events(self.mask)

    def cut(self, dataset: Dataset) -> Split:
        """Training events and validation of a dataset; ProtocolError if this protocol is undefined for it."""
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
        """The end of an error message on a stage without events."""
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
        """[E] which events are asked for, by the feedback known at a moment (ms) or at
        the end of the log; None: all."""
        if self.targets == "all":
            return None
        moments = None if known_until is None else np.full(dataset.num_users, known_until, dtype=np.int64)
        return successes(dataset, self.targets, moments)

    def ranked_items(self, dataset: Dataset, split: Split) -> Ints:
        """[V'] rows of the ranked items, ascending; `split` is the result of `cut`.

        `trained`: the items that an artifact recommends, without those that only held-out events have.
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
    """80% -> 0.8; None for other texts."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%", text)
    return None if found is None else float(found[1]) / 100


def check_order(dataset: Dataset) -> None:
    """Refuse histories in another order: up to a quarter of all leave-one-out targets would differ."""
    if dataset.manifest.order not in ORDERS:
        raise ProtocolError(
            f"The dataset is in the order '{dataset.manifest.order}'; protocols are defined for '{ORDERS[0]}': "
            "prepare it again."
        )
