"""A prior on the scores of a trained model: pairwise rules, which a model learns only in part.

score(j) = z_j + w · log(1 + V · r_j / Σ_k r_k), with z the scores of the model and r those of the rules for the same
history. It is a product of experts (Hinton, "Products of experts", ICANN 1999): the model's softmax and the rules, w
being the exponent of the rules. V · r_j / Σ r is the lift of item j by the rules over chance; the 1 leaves items
without a rule at the score of the model.

The model is trained without the prior, and w is chosen on validation. In training the rules have already counted the
target (leakage), so a weight learned there would trust them too much.

Memory: V · K · 8 bytes of rules (160 MB at 100,000 items and K = 200), and two matrices [S, V] for S requests of a
batch, which a model without a prior does not need.

Letters: S targets of a batch, V items, K rules kept of each item.
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn

from facta.config import Config
from facta.data.split.statistics import Statistics
from facta.models.rules import Rules, RulesConfig
from facta.types import SequenceBatch, to_device


class PriorConfig(Config):
    """Validation chooses settings that are `null`, and the artifact's config stores them. Without validation events
    they are `RulesConfig()` and a weight of 1.
    """

    rules: RulesConfig | None = Field(default=None, description="the rules; null: chosen on validation")
    weight: float | None = Field(default=None, ge=0, description="w; null: chosen on validation")


class Prior(nn.Module):
    """Fitted rules and their weight; `open`: validation has not chosen them yet."""

    WEIGHTS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 16.0)

    def __init__(self, config: PriorConfig, num_items: int) -> None:
        super().__init__()
        self.rules = Rules(config.rules or RulesConfig(), num_items)
        self.open = config.weight is None
        self.weight = 1.0 if config.weight is None else config.weight

    @property
    def config(self) -> PriorConfig:
        """The settings in use, without null."""
        return PriorConfig(rules=self.rules.config, weight=self.weight)

    def fit_statistics(self, statistics: Statistics) -> Self:
        """Count the pairs of the training events."""
        self.rules.fit_statistics(statistics)
        return self

    @torch.no_grad()
    def added(self, scores: Tensor, batch: SequenceBatch) -> Tensor:
        """[S, V] scores of the model, in place -> [S, V] with the prior. Rules are evaluated on the CPU."""
        rules = self.rules.catalogue_scores(to_device(batch, "cpu"))
        total = rules.sum(dim=1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny)  # 0: no rule applies
        likelier = rules.div_(total).mul_(rules.shape[1]).log1p_()
        return scores.add_(likelier.to(scores), alpha=self.weight)
