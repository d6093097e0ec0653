"""Negatives: which items a loss contrasts with each target's own. Drawn here, handed to the model.

Per-target draws are functions of the target's key (`Negatives.each`, carried out where the loss is computed); shared
draws are functions of (seed, epoch, step). In-batch rows are the items of the batch's targets.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from facta import draws
from facta.config import Config
from facta.errors import ConfigError
from facta.types import Negatives, SequenceBatch

COUNT = 128  # the HSTU paper's


class NegativesConfig(Config):
    """What a sampled loss is contrasted with.

    `uniform`: `count` items for every target, drawn uniformly with replacement (the HSTU paper's local negatives).
    `in-batch`: all distinct items of the batch's targets. `mixed`: those and `count` uniform items shared by all
    targets. `log_q` corrects shared negatives for how often they are sampled (Yi et al. 2019).
    """

    kind: Literal["uniform", "in-batch", "mixed"] = "uniform"
    count: int = Field(default=COUNT, ge=1, description="uniform draws: per target (uniform) or per step (mixed)")
    log_q: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.log_q and self.kind == "uniform":
            raise ConfigError("negatives.log_q corrects shared negatives; uniform ones need none: set it to false.")
        if self.kind == "in-batch" and self.count != COUNT:
            raise ConfigError("negatives.count is of uniform draws, and in-batch has none: leave it out, or use mixed.")
        return self


def draw(config: NegativesConfig, batch: SequenceBatch, counts: Tensor, key: int) -> Negatives:
    """Negatives for one step. `counts` [V]: training events of each item; `key`: of (seed, epoch, step)."""
    if config.kind == "uniform":
        return Negatives(each=config.count)
    rows = torch.unique(batch.targets.events.item)
    if config.kind == "mixed":
        place = torch.arange(config.count)
        rows = torch.cat([rows, draws.below(draws.mix(torch.tensor(key), place), counts.numel())])
    if not config.log_q:
        return Negatives(shared=rows)
    log_q = _log_inclusion(config, counts, batch.targets.events.item.numel())
    return Negatives(shared=rows, log_q=log_q[rows], log_q_positive=log_q[batch.targets.events.item])


def _log_inclusion(config: NegativesConfig, counts: Tensor, targets: int) -> Tensor:
    """[V] log of the expected number of times that an item is among the shared rows.

    In-batch rows are distinct, so an item of share p is present with probability 1 - (1 - p)^S, not S·p; uniform
    draws add count / V each.
    """
    share = counts.double() / counts.sum().clamp_min(1)
    expected = -torch.expm1(targets * torch.log1p(-share.clamp(max=1 - 1e-12)))
    if config.kind == "mixed":
        expected = expected + config.count / counts.numel()
    return expected.clamp_min(1e-12).log().float()
