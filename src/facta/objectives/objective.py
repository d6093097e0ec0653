"""What an objective is: a fact that is predicted, the states that are read for it, and its losses and scores.

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
    """What is predicted: the layout says which states know all before it and no more."""
    late: tuple[Fact, ...] = ()
    """Facts of the target that are given beside the state, because the state has not seen them."""
    weight: float = 1.0
    """Of its losses beside those of other objectives."""
    without_state = False
    """Whether a target before which nothing is read is predicted, too, from a state of zeros."""

    def told(self, batch: SequenceBatch) -> SequenceBatch:
        """The batch from which late facts are taken: in training some of them may be hidden."""
        return batch

    @abstractmethod
    def target_weights(self, events: Events, weight: Tensor) -> dict[str, Tensor]:
        """Targets and their weights [S'] -> loss -> weight [S'] of each target in it. No parameter has a part in it."""

    @abstractmethod
    def losses(
        self, read: ReadOut, items: Items | None = None, negatives: Negatives | None = None
    ) -> dict[str, LossSum]:
        """Loss -> (Σ weight · loss, Σ weight); the first sum is multiplied by the objective's weight."""

    def scores(self, read: ReadOut) -> dict[str, Tensor]:
        """Score -> [S']; nothing of an objective whose scores are of the whole catalogue."""
        return {}

    @abstractmethod
    def flops(self, items: int) -> float:
        """Operations of one target's loss, with `items` in the catalogue; multiply and add count as two."""
