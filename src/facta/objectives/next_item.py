"""Objective `next_item`: which item comes next (NIP).

Letters: S' targets that have a state to read, D width, P query width, V catalogue items.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from facta import ops
from facta.config import Config
from facta.data.negatives import NegativesConfig
from facta.objectives.items import Items
from facta.objectives.losses import (
    BCEConfig,
    GBCEConfig,
    LossConfig,
    SampledSoftmaxConfig,
    SoftmaxConfig,
    gbce_beta,
    generalised_bce,
    sampled_softmax,
    softmax,
)
from facta.objectives.readout import ReadOut
from facta.ops.loss import sampled_loss
from facta.ops.sums import summed
from facta.similarity.inner import InnerProduct, SimilarityConfig
from facta.types import LossSum, Negatives


class NextItemConfig(Config):
    """How the next item is learned and scored."""

    similarity: SimilarityConfig = SimilarityConfig()
    loss: Annotated[LossConfig, Field(discriminator="kind")] = SampledSoftmaxConfig()
    positive: str | None = Field(
        default=None, description="feedback field: only events where it says success are targets; None: all events"
    )

    @property
    def negatives(self) -> NegativesConfig | None:
        """What the loss wants drawn for each step; None: nothing."""
        return None if isinstance(self.loss, SoftmaxConfig) else self.loss.negatives


class NextItem(nn.Module):
    def __init__(self, config: NextItemConfig) -> None:
        super().__init__()
        self.config = config
        self.similarity = InnerProduct(config.similarity)

    def loss(self, read: ReadOut, items: Items, negatives: Negatives | None) -> LossSum:
        """Against the table's items, width D -> (Σ weight · loss, Σ weight)."""
        queries, given = self.similarity.queries(read.states), negatives or Negatives()
        if given.each and queries.dtype == torch.float32 and (kernels := ops.backend.native_for(queries)) is not None:
            return LossSum(self._fused(kernels, queries, items.vectors(None), read, given.each), summed(read.weight))
        similar, positive, keys = items.through(self.similarity.items), read.events.item, read.events.key
        match self.config.loss:
            case SoftmaxConfig():
                return softmax(queries, similar.vectors(None), positive, read.weight)
            case SampledSoftmaxConfig():
                return sampled_softmax(queries, similar, positive, read.weight, given, keys)
            case BCEConfig():
                return generalised_bce(queries, similar, positive, read.weight, given, keys)
            case GBCEConfig(calibration=t):
                return generalised_bce(queries, similar, positive, read.weight, given, keys, calibration=t)

    def _fused(self, kernels: str, queries: Tensor, vectors: Tensor, read: ReadOut, count: int) -> Tensor:
        """The same losses by compiled kernels, with `count` draws per target."""
        binary = not isinstance(self.config.loss, SampledSoftmaxConfig)
        calibration = self.config.loss.calibration if isinstance(self.config.loss, GBCEConfig) else 0.0
        return sampled_loss(
            kernels, queries, vectors, read.events.item, read.events.key, read.weight, negatives=count,
            cosine=self.similarity.cosine, binary=binary, beta=gbce_beta(count, len(vectors), calibration),
        )  # fmt: skip
