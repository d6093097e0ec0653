"""Negatives: which items a loss contrasts with each target's own. Drawn here, handed to the model.

Per-target draws are functions of the target's key (`Negatives.each`, carried out where the loss is computed); shared
draws are functions of (seed, epoch, step). In-batch rows are the items of the batch's targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from facta import draws
from facta.config import Config
from facta.errors import ConfigError
from facta.types import Negatives, SequenceBatch

COUNT = 128  # the HSTU paper's
Correction = Literal["none", "negatives", "all"]


class NegativesConfig(Config):
    """Which negatives a sampled loss gets.

    `uniform`: `count` items for every target, drawn uniformly with replacement (the HSTU paper's local negatives).
    `in-batch`: all distinct items of the batch's targets. `mixed`: those and `count` uniform items shared by all
    targets.

    `correction` (logQ) of shared negatives, which makes the expected gradient of a sampled softmax that of the full
    one: `negatives` lowers the logit of each negative by the log of its expected number of appearances; `all` lowers
    the positive's logit likewise (Yi et al. 2019). `all` is biased where the positive is nearly certain: the positive
    is among the logits of every step, so its sampling probability is 1.
    """

    kind: Literal["uniform", "in-batch", "mixed"] = "uniform"
    count: int = Field(default=COUNT, ge=1, description="uniform draws: per target (uniform) or per step (mixed)")
    correction: Correction = "none"

    @model_validator(mode="before")
    @classmethod
    def _log_q(cls, values: Any) -> Any:
        """`log_q` of older recipes and artifacts: true is what `negatives` is now."""
        if not isinstance(values, Mapping) or "log_q" not in values:
            return values
        others = {key: value for key, value in values.items() if key != "log_q"}
        if not isinstance(values["log_q"], bool) or others.get("correction", "none") != "none":
            raise ConfigError(
                f"Found negatives.log_q = {values['log_q']!r}, an old name; set negatives.correction to none, "
                "negatives or all instead."
            )
        return {**others, "correction": "negatives" if values["log_q"] else "none"}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.correction != "none" and self.kind == "uniform":
            raise ConfigError(
                f"Found negatives.correction = '{self.correction}' for uniform negatives, which are drawn for each "
                "target and not corrected: set it to none, or negatives.kind to in-batch or mixed."
            )
        if self.kind == "in-batch" and self.count != COUNT:
            raise ConfigError(
                "Found negatives.count for in-batch negatives, which draw none: leave it at 128, or use mixed."
            )
        return self


def draw(config: NegativesConfig, batch: SequenceBatch, counts: Tensor, key: int) -> Negatives:
    """Negatives for one step. `counts` [V]: training events of each item; `key`: of (seed, epoch, step)."""
    if config.kind == "uniform":
        return Negatives(each=config.count)
    rows = torch.unique(batch.targets.events.item)
    if config.kind == "mixed":
        place = torch.arange(config.count)
        rows = torch.cat([rows, draws.below(draws.mix(torch.tensor(key), place), counts.numel())])
    if config.correction == "none":
        return Negatives(shared=rows)
    positive = batch.targets.events.item
    if config.correction == "all":
        log_q = log_inclusion(config, counts, positive.numel())
        return Negatives(shared=rows, log_q=log_q[rows], log_q_positive=log_q[positive])
    return Negatives(shared=rows, log_q=log_inclusion(config, counts, positive.numel() - 1)[rows])


def log_inclusion(config: NegativesConfig, counts: Tensor, targets: int) -> Tensor:
    """[V] log of each item's expected number of appearances among the rows that `targets` targets share.

    In-batch rows are distinct, so an item of share p is present with probability 1 - (1 - p)^targets, not targets·p;
    uniform draws add count / V each. A negative of one target comes from the other S - 1.
    """
    share = counts.double() / counts.sum().clamp_min(1)
    expected = -torch.expm1(targets * torch.log1p(-share.clamp(max=1 - 1e-12)))
    if config.kind == "mixed":
        expected = expected + config.count / counts.numel()
    return expected.clamp_min(1e-12).log().float()
