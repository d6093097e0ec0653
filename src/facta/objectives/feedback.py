"""Feedback of an event, given its item and context: one head per field, trained where the field is defined.

    binary        one logit                                        binary cross-entropy
    categorical   a logit per category                             cross-entropy
    ordinal       one score against ascending thresholds           cross-entropy, cumulative (McCullagh 1980)
    numeric       a logit per bucket                               cross-entropy; the value is the expected center

Letters: S' targets read, D width, C codes of a field; code 0 is undefined and has no loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, cast

import torch
from pydantic import Field as Setting
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from facta.arrays import Floats
from facta.config import Config
from facta.data.dataset.codes import centers
from facta.data.dataset.schema import Field
from facta.errors import ConfigError
from facta.objectives.items import Items
from facta.objectives.objective import Objective
from facta.objectives.readout import ReadOut
from facta.ops.sums import summed
from facta.types import Events, Fact, LossSum, Negatives

EPS = 1e-7  # least probability under a logarithm


class FeedbackConfig(Config):
    """The predicted feedback and its heads."""

    fields: tuple[str, ...] | None = Setting(default=None, description="None: every feedback field of the dataset")
    weights: Mapping[str, Annotated[float, Setting(gt=0)]] = Setting(
        default={}, description="weights of fields in the loss (default: 1)"
    )
    weight: float = Setting(default=1.0, gt=0, description="weight of all its fields beside the next item's loss")
    hidden: int | None = Setting(default=None, ge=1, description="width of a hidden layer between state and heads")
    late: tuple[Fact, ...] | None = Setting(
        default=None, description="late facts of the target for the heads; None: all that the state has not seen"
    )

    @model_validator(mode="after")
    def _consistent(self) -> FeedbackConfig:
        unread = [] if self.fields is None else sorted(self.weights.keys() - set(self.fields))
        if unread:
            raise ConfigError(
                f"feedback.weights names {', '.join(unread)}, and feedback.fields does not: predict it too, or leave "
                "its weight out."
            )
        return self

    def of(self, field: str) -> FeedbackConfig:
        """The config for one field."""
        weights = {name: weight for name, weight in self.weights.items() if name == field}
        return self.change(fields=(field,), weights=weights)


class Feedback(Objective):
    """Heads over a state, or over a state and the late facts. Losses and scores are by field."""

    name = "feedback"
    fact: Fact = "feedback"
    without_state = True

    def __init__(
        self, config: FeedbackConfig, fields: Sequence[Field], width: int, unseen: tuple[Fact, ...] = ()
    ) -> None:
        super().__init__()
        self.fields = chosen(config, fields)
        self.weights, self.weight = config.weights, config.weight
        self.late = unseen if config.late is None else config.late
        if set(self.late) - set(unseen):
            raise ConfigError(
                f"Found feedback.late {', '.join(self.late)}; expected facts that states of this layout have not seen: "
                f"{', '.join(unseen) or 'none'}. Set it to null for these."
            )
        given = width * (1 + len(self.late))
        hidden = config.hidden or (2 * width if self.late else None)  # a linear head cannot multiply state and item
        self.norm = nn.LayerNorm(width)
        self.inner = None if hidden is None else nn.Linear(given, hidden)
        self.heads = nn.ModuleList(_head(field, hidden or given) for field in self.fields)

    def flops(self, items: int) -> float:
        """Operations of one target's matrix products."""
        return 2.0 * sum(p.numel() for p in self.parameters() if p.ndim == 2)

    def target_weights(self, events: Events, weight: Tensor) -> dict[str, Tensor]:
        """Field -> weight of each target: 1 if it defines the field."""
        return {field.name: weight * (events.fields[field.name] > 0) for field in self.fields}

    def losses(
        self, read: ReadOut, items: Items | None = None, negatives: Negatives | None = None
    ) -> dict[str, LossSum]:
        """Field -> (Σ weight · loss, Σ weight) over the targets that define it."""
        hidden, weights = self._hidden(read.states, read.late), self.target_weights(read.events, read.weight)
        found = {}
        for field, head in self._each():
            each = head.losses(hidden, (read.events.fields[field.name] - 1).clamp_min(0))
            weight, share = weights[field.name], self.weight * self.weights.get(field.name, 1.0)
            found[field.name] = LossSum(summed(each * weight) * share, weight.sum())
        return found

    def scores(self, read: ReadOut) -> dict[str, Tensor]:
        """Field -> [S']: the probability of success, or for a field without success its expected value."""
        hidden = self._hidden(read.states, read.late)
        return {field.name: head.scores(hidden, field.positives) for field, head in self._each() if scored(field)}

    def _each(self) -> Iterator[tuple[Field, _Head]]:
        return zip(self.fields, cast("Iterable[_Head]", self.heads), strict=True)

    def _hidden(self, states: Tensor, late: Tensor | None) -> Tensor:
        x = self.norm(states)
        x = x if late is None else torch.cat([x, late], dim=1)
        return x if self.inner is None else F.silu(self.inner(x))


def chosen(config: FeedbackConfig, fields: Sequence[Field]) -> list[Field]:
    """The predicted fields of a dataset. Raises ConfigError."""
    known = {field.name: field for field in fields if field.role == "feedback"}
    names = tuple(known) if config.fields is None else config.fields
    unknown = {*names, *config.weights} - known.keys()
    if unknown or not names:
        asked = f"the feedback {', '.join(sorted(unknown))}" if unknown else "feedback"
        raise ConfigError(
            f"The model is to learn {asked}, and the dataset has {', '.join(known) or 'none'}: take a recipe of "
            "own-log, which learns all fields, name other fields (--set 'model.feedback.fields=[\"FIELD\"]'), or "
            "declare it when the log is prepared."
        )
    return [known[name] for name in names]


def scored(field: Field) -> bool:
    """Whether a field has a score; categories without success have none and are only learned."""
    return field.kind != "categorical" or bool(field.positives)


def _head(field: Field, width: int) -> _Head:
    match field.kind:
        case "binary":
            return _Binary(width)
        case "ordinal":
            return _Ordinal(field, width)
        case _:
            return _Categorical(field, width)


class _Head(nn.Module, ABC):
    centers: Tensor  # [C-1] the representative number of each value

    @abstractmethod
    def losses(self, x: Tensor, value: Tensor) -> Tensor:
        """[S', D], [S'] of 0 … C-2 -> [S']."""

    @abstractmethod
    def scores(self, x: Tensor, positives: tuple[int, ...]) -> Tensor:
        """[S', D] -> [S']: P(success), or the expected value of a field without success."""


def _constant(values: Floats | Tensor) -> Tensor:
    """A float32 constant, never on the meta device, since no file stores it."""
    return torch.as_tensor(values, dtype=torch.float32, device="cpu")


class _Binary(_Head):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.logit = nn.Linear(width, 1)

    def losses(self, x: Tensor, value: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logit(x).squeeze(1), value.to(x.dtype), reduction="none")

    def scores(self, x: Tensor, positives: tuple[int, ...]) -> Tensor:
        found: Tensor = torch.sigmoid(self.logit(x).squeeze(1))
        return found


class _Categorical(_Head):
    """Categorical fields, and numeric ones by bucket."""

    def __init__(self, field: Field, width: int) -> None:
        super().__init__()
        self.logits = nn.Linear(width, field.codes - 1)
        middle = centers(field) if field.kind == "numeric" else torch.arange(field.codes - 1, device="cpu")
        self.register_buffer("centers", _constant(middle), persistent=False)

    def losses(self, x: Tensor, value: Tensor) -> Tensor:
        """[S', D], [S'] of 0 … C-2 -> [S']."""
        return F.cross_entropy(self.logits(x), value, reduction="none")

    def scores(self, x: Tensor, positives: tuple[int, ...]) -> Tensor:
        return _score(self.logits(x).softmax(dim=1), positives, self.centers)


class _Ordinal(_Head):
    """P(value ≥ level j) = σ(score - threshold j), thresholds ascending."""

    def __init__(self, field: Field, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)
        self.steps = max(field.codes - 2, 0)  # a field of one level has no threshold
        self.first = nn.Parameter(torch.tensor(-float(self.steps - 1) / 2))
        self.gaps = nn.Parameter(torch.full((max(self.steps - 1, 0),), 0.5413))  # softplus of it is 1
        self.register_buffer("centers", _constant(centers(field)), persistent=False)

    def probabilities(self, x: Tensor) -> Tensor:
        """[S', C-1] of each level."""
        thresholds = self.first + torch.cat([self.first.new_zeros(1), F.softplus(self.gaps).cumsum(0)])
        above = torch.sigmoid(self.score(x) - thresholds[: self.steps])
        ends = above.new_ones(len(x), 1)
        return torch.cat([ends, above], dim=1) - torch.cat([above, ends * 0], dim=1)

    def losses(self, x: Tensor, value: Tensor) -> Tensor:
        """[S', D], [S'] of 0 … C-2 -> [S']."""
        own = self.probabilities(x).gather(1, value[:, None]).squeeze(1)
        return -torch.log(own.clamp_min(EPS))

    def scores(self, x: Tensor, positives: tuple[int, ...]) -> Tensor:
        return _score(self.probabilities(x), positives, self.centers)


def _score(probabilities: Tensor, positives: tuple[int, ...], middle: Tensor) -> Tensor:
    if positives:
        return probabilities[:, [code - 1 for code in positives]].sum(dim=1)
    return probabilities @ middle
