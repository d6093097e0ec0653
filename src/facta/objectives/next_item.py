"""Objective `next_item`: which item comes next (NIP).

Letters: S' targets that have a state to read, D width, P query width, V catalogue items.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from facta import ops
from facta.config import Config
from facta.data.negatives import NegativesConfig
from facta.objectives.items import Items
from facta.objectives.losses import AnyLoss, BinaryConfig, Contrast, SampledSoftmaxConfig, gbce_beta
from facta.objectives.readout import ReadOut
from facta.ops.loss import sampled_loss
from facta.ops.sums import summed
from facta.similarity.inner import InnerProduct, InnerProductConfig
from facta.similarity.known import AnySimilarity
from facta.types import LossSum, Negatives

FUSED = (SampledSoftmaxConfig, BinaryConfig)  # losses that have compiled kernels


class NextItemConfig(Config):
    """How the next item is learned and scored."""

    similarity: AnySimilarity = InnerProductConfig()
    loss: AnyLoss = SampledSoftmaxConfig()
    positive: str | None = Field(
        default=None, description="feedback field: only events where it says success are targets; None: all events"
    )

    @property
    def negatives(self) -> NegativesConfig | None:
        """What the loss wants drawn for each step; None: nothing."""
        return self.loss.drawn


class NextItem(nn.Module):
    def __init__(self, config: NextItemConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.similarity = config.similarity.build(width)

    def flops(self, items: int) -> float:
        """Of one target's scores in training: of all `items` or of those drawn; in-batch ones are left out."""
        drawn = self.config.negatives
        count = items if drawn is None else 1 + (0 if drawn.kind == "in-batch" else drawn.count)
        return self.similarity.flops(count)

    def loss(self, read: ReadOut, items: Items, negatives: Negatives | None) -> LossSum:
        """Against the table's items, width D -> (Σ weight · loss, Σ weight)."""
        queries, given = self.similarity.queries(read.states), negatives or Negatives()
        fused = isinstance(self.similarity, InnerProduct) and isinstance(self.config.loss, FUSED) and given.each > 0
        kernels = ops.backend.native_for(queries) if fused and queries.dtype == torch.float32 else None
        if kernels is not None:
            return LossSum(self._fused(kernels, queries, items.vectors(None), read, given.each), summed(read.weight))
        similar, own = items.through(self.similarity.items), read.events
        return self.config.loss.total(
            Contrast(queries, similar, own.item, read.weight, given, own.key, self.similarity)
        )

    def _fused(self, kernels: str, queries: Tensor, vectors: Tensor, read: ReadOut, count: int) -> Tensor:
        """The same losses by compiled kernels, with `count` draws per target."""
        assert isinstance(self.similarity, InnerProduct)
        loss = self.config.loss
        beta = gbce_beta(count, len(vectors), loss.t) if isinstance(loss, BinaryConfig) else 1.0
        return sampled_loss(
            kernels, queries, vectors, read.events.item, read.events.key, read.weight, negatives=count,
            cosine=self.similarity.cosine, binary=isinstance(loss, BinaryConfig), beta=beta,
        )  # fmt: skip
