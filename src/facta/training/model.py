"""The trainer's interface of a model and of its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor
from torch.nn import Parameter

from facta.data.batches.negatives import NegativesConfig
from facta.types import LossSum, Negatives, SequenceBatch


class Model(Protocol):
    """An `nn.Module` with losses. Its random draws (dropout) come from the keys of the batch, not torch's generator."""

    @property
    def negatives(self) -> NegativesConfig | None:
        """The negatives that the losses need in each step; None: none (full softmax)."""
        ...

    def __call__(self, batch: SequenceBatch, negatives: Negatives) -> dict[str, LossSum]:
        """Objective -> (Σ weight · loss, Σ weight) over the batch; weights do not depend on the parameters."""
        ...

    def loss_weights(self, batch: SequenceBatch, negatives: Negatives) -> dict[str, Tensor]:
        """Objective -> Σ weight as above, without gradients and without the losses."""
        ...

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """Group name -> parameters; every trained parameter is in exactly one group."""
        ...

    def state_dict(self, *, keep_vars: bool = ...) -> dict[str, Any]: ...

    def train(self, mode: bool = ...) -> Any: ...


class Batches(Protocol):
    """Training data by position: the same (epoch, step) always gives the same batch."""

    def steps(self, epoch: int) -> int:
        """Batches in this epoch."""
        ...

    def batch(self, epoch: int, step: int) -> SequenceBatch: ...


Validate = Callable[[int], Mapping[str, float]]
"""Epochs done -> metrics on the validation targets, by printed name (`NDCG@10`); empty if there is nothing to measure.
The model is in evaluation mode.
"""
