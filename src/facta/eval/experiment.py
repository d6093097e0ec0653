"""A protocol on a dataset: the data for fitting, and the requests of each stage.

Test requests are made only here, so code that fits or chooses does not import this file. It gets `Experiment.fitting`,
which has no access to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from facta.arrays import Ints
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import Requests, Split, TestRequests, leave_one_out_test, temporal_test
from facta.errors import ConfigError, ProtocolError
from facta.eval.fitting import Fitting
from facta.eval.held_out import HeldOut, events_of_test, events_of_validation
from facta.eval.protocol import ProtocolConfig, Stage


@dataclass(frozen=True, eq=False)
class Experiment:
    """Everything that an evaluation needs beside a model. Parts are computed at first use and cached.

    `dataset` has the buckets that the measured model was fitted with.
    """

    dataset: Dataset
    protocol: ProtocolConfig

    @cached_property
    def split(self) -> Split:
        """Training events and validation. Raises ProtocolError if the protocol is undefined for the dataset."""
        return self.protocol.cut(self.dataset)

    @cached_property
    def fitting(self) -> Fitting:
        """The data for fitting; under refit=yes, of the first training."""
        return Fitting.of(self.dataset, self.protocol, self.split)

    @cached_property
    def test(self) -> TestRequests:
        """The test requests, for use after everything has been chosen."""
        targets = self.protocol.targets_of(self.dataset)
        if self.protocol.split != "temporal":
            return leave_one_out_test(self.dataset, ties=self.protocol.ties, targets=targets)
        _, test_from = self.protocol.cuts(self.dataset)
        state, ties = self.protocol.state, self.protocol.ties
        return temporal_test(self.dataset, test_from=test_from, state=state, ties=ties, targets=targets)

    @cached_property
    def ranked_items(self) -> Ints:
        """[V'] rows of the items that are ranked, ascending."""
        return self.protocol.ranked_items(self.dataset, self.split)

    def read_by(self, fitting: Fitting) -> Experiment:
        """The experiment for a model of `fitting`, on the fitting's dataset, which may have other buckets."""
        return self if fitting.dataset is self.dataset else Experiment(fitting.dataset, self.protocol)

    def requests(self, stage: Stage) -> Requests:
        """The requests of a stage. Raises ConfigError for an unknown stage, ProtocolError for one without requests."""
        _check_stage(stage)
        requests: Requests = self.split.validation if stage == "validation" else self.test
        if len(requests) == 0:
            raise ProtocolError(
                f"The protocol {self.protocol.id} has no {stage} request on this dataset"
                f"{self.protocol.advice(self.dataset)}"
            )
        return requests

    def held_out(self, stage: Stage) -> HeldOut:
        """The events of a stage, for models of feedback. Raises ConfigError for an unknown stage."""
        _check_stage(stage)
        of = events_of_validation if stage == "validation" else events_of_test
        return of(self.dataset, self.split, self.protocol.state)


def _check_stage(stage: str) -> None:
    if stage not in get_args(Stage):
        raise ConfigError(f"Found the stage '{stage}'; expected one of: {', '.join(get_args(Stage))}.")
