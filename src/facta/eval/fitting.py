"""Data for fitting under a protocol: training events and validation, without access to the test."""

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
    """Training events and validation of a model. Parts are computed at first use and cached.

    `dataset` has the model's buckets. `protocol` defines the requests, mask and ranking of validation. `split` has the
    training and validation events; day by day it differs from that of the protocol.
    """

    dataset: Dataset
    protocol: ProtocolConfig
    split: Split

    @classmethod
    def of(cls, dataset: Dataset, protocol: ProtocolConfig, split: Split) -> Fitting:
        """A fitting with buckets of the training part, where none were declared."""
        return cls(of_training(dataset, split), protocol.before_refit, split)

    @property
    def refit(self) -> Fitting:
        """The fitting of a second training, on everything before the test, without validation."""
        return Fitting.of(self.dataset, self.protocol, self.split.refit)

    def sample(self, most: int) -> Fitting:
        """The fitting with at most `count` validation requests, evenly spaced."""
        return replace(self, split=replace(self.split, validation=self.split.validation.sample(most)))

    @cached_property
    def statistics(self) -> Statistics:
        """Statistics of the training events."""
        return Statistics(self.dataset, self.split)

    @cached_property
    def ranked_items(self) -> Ints:
        """[V'] rows of the items that are ranked, ascending."""
        return self.protocol.ranked_items(self.dataset, self.split)

    @property
    def held_out(self) -> HeldOut:
        """The validation events, for models of feedback."""
        return events_of_validation(self.dataset, self.split, self.protocol.state)
