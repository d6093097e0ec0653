"""What fitting may know of a protocol on a dataset: training events and validation. Nothing here can ask the test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from facta.arrays import Ints
from facta.data.dataset.dataset import Dataset
from facta.data.split.buckets import of_training
from facta.data.split.splits import Split
from facta.data.split.statistics import Statistics
from facta.eval.held_out import HeldOut, events_of_validation
from facta.eval.protocol import ProtocolConfig


@dataclass(frozen=True, eq=False)
class Fitting:
    """What a model is fitted to and chosen by. A part is computed when it is first read, and kept.

    `dataset` has the buckets that the model reads. `protocol` says how validation is asked, masked and ranked. `split`
    says which events train and which validate; day by day it is not that of the protocol.
    """

    dataset: Dataset
    protocol: ProtocolConfig
    split: Split

    @classmethod
    def of(cls, dataset: Dataset, protocol: ProtocolConfig, split: Split) -> Fitting:
        """The dataset is read with buckets of the training part alone, where none were declared."""
        return cls(of_training(dataset, split), protocol.before_refit, split)

    @property
    def refit(self) -> Fitting:
        """The fitting of a second training, on everything before the test: nothing is left to validate on."""
        return Fitting.of(self.dataset, self.protocol, self.split.refit)

    def sample(self, most: int) -> Fitting:
        """The same with at most so many validation requests, evenly spread over their order."""
        return replace(self, split=replace(self.split, validation=self.split.validation.sample(most)))

    @cached_property
    def statistics(self) -> Statistics:
        """Of the training events."""
        return Statistics(self.dataset, self.split)

    @cached_property
    def ranked_items(self) -> Ints:
        """[V'] rows of the items that are ranked, ascending."""
        return self.protocol.ranked_items(self.dataset, self.split)

    @property
    def held_out(self) -> HeldOut:
        """The validation events, for models of feedback."""
        return events_of_validation(self.dataset, self.split, self.protocol.state)
