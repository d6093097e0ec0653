"""Objective `next_item`: next-item prediction (NIP), also given the context of its event (Khrylchenko et al. 2025).

Letters: S' targets with a read-out state, D width, P query width, V catalogue items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from facta import draws, ops
from facta.config import Config
from facta.data.batches.negatives import NegativesConfig
from facta.data.dataset.schema import Field as Column
from facta.draws import Purpose
from facta.errors import ConfigError
from facta.objectives.items import Items
from facta.objectives.losses import AnyLoss, BinaryConfig, Contrast, SampledSoftmaxConfig, gbce_beta
from facta.objectives.objective import Objective
from facta.objectives.readout import ReadOut
from facta.ops.loss import sampled_loss
from facta.ops.sums import summed
from facta.similarity.inner import InnerProduct, InnerProductConfig
from facta.similarity.known import AnySimilarity
from facta.types import Events, Fact, LossSum, Negatives, SequenceBatch

FUSED = (SampledSoftmaxConfig, BinaryConfig)  # losses that have compiled kernels


class NextItemConfig(Config):
    """Loss, similarity and targets of the next item."""

    similarity: AnySimilarity = InnerProductConfig()
    loss: AnyLoss = SampledSoftmaxConfig()
    positive: str | None = Field(
        default=None, description="feedback field whose successes alone are targets; None: all events"
    )
    weight: float = Field(default=1.0, gt=0, description="weight of its loss beside those of feedback")
    late: tuple[Fact, ...] = Field(
        default=(),
        description="late facts of the next event beside the state: context, which recommend(context=) and "
        "evaluation then give",
    )
    hidden_context: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share of targets whose context is hidden in training, so that requests without context are "
        "trained too",
    )

    @property
    def negatives(self) -> NegativesConfig | None:
        """The negatives that the loss needs in each step; None: none."""
        return self.loss.drawn


class NextItem(Objective):
    """Items by similarity to the state, or to the output of two layers over state and late facts."""

    name = "next_item"
    fact: Fact = "item"

    def __init__(
        self,
        config: NextItemConfig,
        width: int,
        fields: Sequence[Column] = (),
        unseen: tuple[Fact, ...] = (),
    ) -> None:
        super().__init__()
        self.config, self.weight, self.late = config, config.weight, config.late
        if set(self.late) - set(unseen):
            raise ConfigError(
                f"Found next_item.late {', '.join(self.late)}; expected facts before the item that states of this "
                f"layout have not seen: {', '.join(unseen) or 'none'}."
            )
        self.context = tuple(field.name for field in fields if field.role == "context") if self.late else ()
        self.similarity = config.similarity.build(width)
        self.query = _Query(width, width * len(self.late)) if self.late else None
        self.success = None if config.positive is None else (config.positive, _success(config.positive, fields))

    def flops(self, items: int) -> float:
        """Operations of one target's scores in training, with all `items` or the drawn ones; without in-batch
        negatives.
        """
        drawn = self.config.negatives
        count = items if drawn is None else 1 + (0 if drawn.kind == "in-batch" else drawn.count)
        layers = [] if self.query is None else [p for p in self.query.parameters() if p.ndim == 2]
        return self.similarity.flops(count) + 2.0 * sum(p.numel() for p in layers)

    def late_source(self, batch: SequenceBatch) -> SequenceBatch:
        """The batch with the context of some targets hidden in training, since requests may lack it."""
        targets, share = batch.targets, self.config.hidden_context
        if not (self.training and self.context and share):
            return batch
        bits = draws.below(draws.mix(targets.events.key, Purpose.CONTEXT), 1 << 30)
        said = bits >= share * (1 << 30)
        fields = {name: targets.events.fields[name] * said for name in self.context}
        events = replace(targets.events, fields={**targets.events.fields, **fields})
        return replace(batch, targets=replace(targets, events=events))

    def target_weights(self, events: Events, weight: Tensor) -> dict[str, Tensor]:
        """Weights of the targets with success of `positive`."""
        if self.success is not None:
            name, codes = self.success
            weight = weight * torch.isin(events.fields[name], codes.to(weight.device))
        return {self.name: weight}

    def queries(self, read: ReadOut) -> Tensor:
        """[S', P]."""
        if self.query is None:
            return self.similarity.queries(read.states)
        assert read.late is not None
        return self.similarity.queries(self.query(read.states, read.late))

    def losses(
        self, read: ReadOut, items: Items | None = None, negatives: Negatives | None = None
    ) -> dict[str, LossSum]:
        """The loss over the table's items, width D."""
        assert items is not None
        weight = self.target_weights(read.events, read.weight)[self.name]
        found = self._loss(replace(read, weight=weight), items, _of_targets(negatives or Negatives(), read.target))
        return {self.name: LossSum(found.total * self.weight, found.weight)}

    def _loss(self, read: ReadOut, items: Items, given: Negatives) -> LossSum:
        queries = self.queries(read)
        own_draws = isinstance(self.config.loss, FUSED) and given.each > 0
        fused = own_draws and items.plain and isinstance(self.similarity, InnerProduct)
        kernels = ops.backend.native_for(queries) if fused and queries.dtype == torch.float32 else None
        if kernels is not None:
            return LossSum(self._fused(kernels, queries, items.vectors(None), read, given.each), summed(read.weight))
        similar, own = items.through(self.similarity.items), read.events
        return self.config.loss.total(
            Contrast(queries, similar, own.item, read.weight, given, own.key, self.similarity)
        )

    def _fused(self, kernels: str, queries: Tensor, vectors: Tensor, read: ReadOut, count: int) -> Tensor:
        """The losses by compiled kernels, with `count` draws per target."""
        assert isinstance(self.similarity, InnerProduct)
        loss = self.config.loss
        beta = gbce_beta(count, len(vectors), loss.t) if isinstance(loss, BinaryConfig) else 1.0
        return sampled_loss(
            kernels, queries, vectors, read.events.item, read.events.key, read.weight, negatives=count,
            cosine=self.similarity.cosine, binary=isinstance(loss, BinaryConfig), beta=beta,
        )  # fmt: skip


class _Query(nn.Module):
    """State [S', D] and late facts [S', L] -> [S', D]."""

    def __init__(self, width: int, late: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width + late, 2 * width)
        self.outer = nn.Linear(2 * width, width)

    def forward(self, states: Tensor, late: Tensor) -> Tensor:
        found: Tensor = self.outer(F.silu(self.inner(torch.cat([self.norm(states), late], dim=1))))
        return found


def _of_targets(negatives: Negatives, target: Tensor | None) -> Negatives:
    """Negatives of S targets -> negatives of the S' targets that are read."""
    if target is None or negatives.log_q_positive is None:
        return negatives
    return replace(negatives, log_q_positive=negatives.log_q_positive[target])


def _success(name: str, fields: Sequence[Column]) -> Tensor:
    """Codes of success of the field `positive`. Raises ConfigError."""
    codes = [field.positives for field in fields if field.name == name]
    if not codes or not codes[0]:
        raise ConfigError(
            f"next_item.positive is '{name}'; fields that say what success is: "
            f"{', '.join(field.name for field in fields if field.positives) or 'none'}."
        )
    return torch.tensor(codes[0], device="cpu")  # not stored in a file, so not on the meta device
