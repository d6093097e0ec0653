"""The interface of an objective: the predicted fact, its read-out, losses and scores.

A model adds up the losses of all its objectives, each multiplied by the objective's weight.

Letters: S targets of a batch, S' targets read, D width, V catalogue items.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from facta.objectives.items import Items
from facta.objectives.readout import ReadOut
from facta.types import Events, Fact, LossSum, Negatives, SequenceBatch


class Objective(nn.Module):
    """The base of all objectives."""

    name: str
    fact: Fact
    """The predicted fact; the layout finds the states that have seen all earlier facts and no more."""
    late: tuple[Fact, ...] = ()
    """Late facts of the target, which the state has not seen, given beside it."""
    weight: float = 1.0
    """Factor of its losses beside those of other objectives."""
    without_state = False
    """Whether targets without a state to read are predicted from a state of zeros."""

    def late_source(self, batch: SequenceBatch) -> SequenceBatch:
        """The batch that late facts are taken from; in training some facts may be hidden."""
        return batch

    @abstractmethod
    def target_weights(self, events: Events, weight: Tensor) -> dict[str, Tensor]:
        """Targets and their weights [S'] -> loss -> weight [S'] of each target. Weights do not depend on parameters."""

    @abstractmethod
    def losses(
        self, read: ReadOut, items: Items | None = None, negatives: Negatives | None = None
    ) -> dict[str, LossSum]:
        """Loss -> (Σ weight · loss, Σ weight); the first sum is multiplied by the objective's weight."""

    def scores(self, read: ReadOut) -> dict[str, Tensor]:
        """Score -> [S']; empty for an objective that scores the whole catalogue."""
        return {}

    @abstractmethod
    def flops(self, items: int) -> float:
        """Operations of one target's loss, with `items` in the catalogue; multiply and add count as two."""
