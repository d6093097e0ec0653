"""Objective `next_item`: which item comes next (NIP).

Letters: S' targets that have a state to read, D width, P query width, V catalogue items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from facta.config import Config
from facta.data.negatives import NegativesConfig
from facta.objectives.losses import (
    BCEConfig,
    GBCEConfig,
    LossConfig,
    SampledSoftmaxConfig,
    SoftmaxConfig,
    generalised_bce,
    sampled_softmax,
    softmax,
)
from facta.similarity.inner import InnerProduct, SimilarityConfig
from facta.types import Events, LossSum, Negatives


@dataclass(frozen=True)
class ReadOut:
    """The states read for S' targets, aligned with them."""

    states: Tensor  # [S', D]
    events: Events  # [S']
    weight: Tensor  # [S']


class NextItemConfig(Config):
    """How the next item is learned and scored."""

    similarity: SimilarityConfig = SimilarityConfig()
    loss: Annotated[LossConfig, Field(discriminator="kind")] = SampledSoftmaxConfig()

    @property
    def negatives(self) -> NegativesConfig | None:
        """What the loss wants drawn for each step; None: nothing."""
        return None if isinstance(self.loss, SoftmaxConfig) else self.loss.negatives


class NextItem(nn.Module):
    def __init__(self, config: NextItemConfig) -> None:
        super().__init__()
        self.config = config
        self.similarity = InnerProduct(config.similarity)

    def loss(self, read: ReadOut, vectors: Tensor, negatives: Negatives | None) -> LossSum:
        """Vectors [V, D] of the whole catalogue -> (Σ weight · loss, Σ weight)."""
        queries, items = self.similarity.queries(read.states), self.similarity.items(vectors)
        positive, keys, given = read.events.item, read.events.key, negatives or Negatives()
        match self.config.loss:
            case SoftmaxConfig():
                return softmax(queries, items, positive, read.weight)
            case SampledSoftmaxConfig():
                return sampled_softmax(queries, items, positive, read.weight, given, keys)
            case BCEConfig():
                return generalised_bce(queries, items, positive, read.weight, given, keys)
            case GBCEConfig(calibration=t):
                return generalised_bce(queries, items, positive, read.weight, given, keys, calibration=t)
