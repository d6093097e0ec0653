"""Logistic regression on smoothed rates of users, items and context, and on the codes of their facts: the baseline of
learned rankers.

Letters: S targets, K fields with success.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from facta import jagged
from facta.data.dataset.catalogue import Catalogue
from facta.errors import ConfigError
from facta.layers.codes import CodeTable, FeatureVectors
from facta.layers.rates import SmoothedRates
from facta.layers.recent import recent
from facta.models.impressions import ImpressionModel
from facta.models.model import ModelConfig, Task
from facta.ops.sums import summed
from facta.types import Cost, LossSum, Negatives, SequenceBatch


class RatesConfig(ModelConfig):
    """The predicted feedback, and the settings of its rates."""

    kind: Literal["rates"] = "rates"
    window: int = Field(default=50, ge=1, description="events before a target that count in its user's rates")
    history: bool = Field(default=True, description="use rates of the user; false: only of items and context")
    prior: float = Field(default=20.0, gt=0, description="pseudo-events that smooth a rate towards the expected one")
    fields: tuple[str, ...] = Field(default=(), description="feedback fields with success; empty: every such field")
    midnight: int = Field(default=0, ge=0, le=23, description="UTC hour at which days begin")

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ("feedback",)

    @property
    def min_training_events(self) -> int:
        """An event is its own example."""
        return 1

    @property
    def uses_time(self) -> bool:
        """Counts exclude the event's own day, so days need times."""
        return True

    @property
    def of_any_fields(self) -> Self:
        """All feedback with success."""
        return self.change(fields=())

    def build(self, catalogue: Catalogue, seed: int = 0) -> RateRegression:
        """All weights begin at zero, for any seed."""
        return RateRegression(self, catalogue)


class RateRegression(ImpressionModel):
    """One logit per field, linear in everything."""

    config: RatesConfig
    rates: SmoothedRates

    def __init__(self, config: RatesConfig, catalogue: Catalogue) -> None:
        super().__init__(catalogue, config.window)
        self.config = config
        succeed = {field.name: field for field in catalogue.fields if field.positives}
        names = config.fields or tuple(succeed)
        if not names or set(names) - succeed.keys():
            raise ConfigError(_without_success(catalogue, config.fields, list(succeed)))
        self.fields = [succeed[name] for name in names]
        self.rates = SmoothedRates(
            catalogue, self.fields, config.prior, history=config.history, midnight=config.midnight
        )
        self.linear = nn.Linear(self.rates.width + len(self.lists), len(names))
        self.facts = CodeTable(self.known, len(names), 0.0) if self.known else None
        self.features = FeatureVectors(catalogue.features, len(names), 0.0) if catalogue.features else None
        for parameter in self.parameters():  # a convex problem: any start will do
            nn.init.zeros_(parameter)

    @property
    def successes(self) -> list[str]:
        """Predicted feedback fields with success."""
        return [field.name for field in self.fields]

    @property
    def predicted(self) -> list[str]:
        """The feedback fields that it scores: `successes`."""
        return self.successes

    def logits(self, batch: SequenceBatch) -> Tensor:
        """[S, K]."""
        targets = batch.targets
        row, every = (
            jagged.rows(targets.offsets),
            torch.arange(len(targets.weight), device=targets.weight.device),
        )
        numbers = [self.rates(batch, recent(batch, self.config.window)), *self._listed(batch, row)]
        found: Tensor = self.linear(torch.cat(numbers, dim=1))
        if self.facts is not None:
            found = found + self.facts(self.target_codes(batch), every)
        if self.features is not None:
            found = found + self.features(targets.events.item)
        return found

    def _listed(self, batch: SequenceBatch, row: Tensor) -> list[Tensor]:
        """[S, lists]: logarithms of the lengths of a user's earlier lists."""
        if batch.lists is None:
            return []
        cell = jagged.rows(batch.lists.offsets) * len(self.lists) + batch.lists.which
        counts = torch.bincount(cell, minlength=(len(batch.offsets) - 1) * len(self.lists))
        return [torch.log1p(counts.view(-1, len(self.lists))[row].float()) / 5]

    def forward(self, batch: SequenceBatch, negatives: Negatives | None) -> dict[str, LossSum]:
        """Field -> log loss over the targets that define the field."""
        logits, label = self.logits(batch), self.rates.labels(batch.targets.events)
        found = {}
        for place, field in enumerate(self.fields):
            success, defined = label[:, place].unbind(1)
            weight = batch.targets.weight * defined
            each = F.binary_cross_entropy_with_logits(logits[:, place], success, reduction="none")
            found[field.name] = LossSum(summed(each * weight), weight.sum())
        return found

    def loss_weights(self, batch: SequenceBatch, negatives: Negatives | None) -> dict[str, Tensor]:
        """Field -> the number of targets that define it."""
        weights = batch.targets.weight[:, None] * self.rates.labels(batch.targets.events)[:, :, 1]
        return dict(zip(self.successes, weights.sum(dim=0), strict=True))

    def scores(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Field -> [S]: probability of success."""
        return dict(zip(self.successes, torch.sigmoid(self.logits(batch)).unbind(1), strict=True))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters are of the head."""
        return {"head": list(self.parameters())}

    def cost(self, tokens: int) -> Cost:
        """The cost of one target with a history of `tokens` events."""
        keys, fields = len(self.rates.base), len(self.fields)
        flops = 2.0 * self.linear.weight.numel() + 4.0 * keys * fields * min(tokens, self.config.window)
        return Cost(self.parameter_counts(), flops, 4.0 * self.linear.in_features)


def _without_success(catalogue: Catalogue, asked: Sequence[str], succeed: Sequence[str]) -> str:
    """The error for data without success: what is missing, and how to declare it."""
    feedback = [field for field in catalogue.fields if field.role == "feedback"]
    if succeed:
        found = ", ".join(succeed)
        return f"model.fields is {', '.join(asked)}; feedback of this dataset that says what success is: {found}."
    if not feedback:
        return (
            "The dataset has no feedback, and rates need successes; prepare it with a column of feedback, as in "
            "--field click."
        )
    kinds = ", ".join(f"'{field.name}' ({field.kind})" for field in feedback)
    example = f'{{"fields": {{"{feedback[0].name}": {{"positive": "CONDITION"}}}}}}'
    return (
        f"No feedback of the dataset says which of its values are success: {kinds}; prepare it again with a schema "
        f"(--schema) such as {example}, where CONDITION is like '>= 4' or \"= 'like'\"."
    )
