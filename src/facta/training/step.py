"""One optimiser step: gradients added over micro-steps, checked, clipped, applied.

A loss is (sum, weight), so k micro-steps give the numbers of one batch k times as large. Weights do not depend on the
parameters, so they are added up first, and a micro-step needs one backward pass for all objectives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import get_total_norm

from facta.training.model import Model
from facta.types import LossSum, Negatives, SequenceBatch

Sums = dict[str, tuple[float, float]]
"""Objective -> (Σ weight · loss, Σ weight)."""


class NonFinite(Exception):
    """Internal: the step was not taken. `place`: the micro-step; None: all losses were finite, but not the gradient."""

    def __init__(self, what: str, value: float, place: int | None = None) -> None:
        super().__init__(what)
        self.what, self.value, self.place = what, value, place


@dataclass(frozen=True)
class Step:
    """Results of an optimiser step."""

    sums: Sums
    gradient_norm: float  # before clipping
    events: int  # input events in its batches
    dropped: int = 0  # events that Stochastic Length left out

    @property
    def loss(self) -> float:
        return mean(self.sums)


def mean(sums: Sums) -> float:
    """The sum over objectives of total / weight."""
    return sum(total / max(weight, 1e-12) for total, weight in sums.values())


def add(one: Sums, other: Sums) -> Sums:
    names = [*one, *(name for name in other if name not in one)]
    pairs = {name: (one.get(name, (0.0, 0.0)), other.get(name, (0.0, 0.0))) for name in names}
    return {name: (a[0] + b[0], a[1] + b[1]) for name, (a, b) in pairs.items()}


def take_step(
    model: Model,
    optimiser: torch.optim.Optimizer,
    micro_steps: Iterable[tuple[SequenceBatch, Negatives]],
    count: int,
    *,
    clip_norm: float | None,
) -> Step:
    """Update the weights by the gradient of `count` micro-steps.

    Raises NonFinite, with weights and optimiser unchanged, if a loss or the gradient is not finite.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    optimiser.zero_grad(set_to_none=True)
    sums, events, dropped = _gradients(model, parameters, micro_steps, count)
    norm = _norm_and_clip(parameters, clip_norm)
    if not math.isfinite(norm):
        raise NonFinite("gradient norm", norm)
    optimiser.step()
    return Step(sums, norm, events, dropped)


@torch.no_grad()
def _norm_and_clip(parameters: Sequence[Parameter], limit: float | None) -> float:
    """The norm of the whole gradient, which is then clipped to `limit`; row-sparse gradients are coalesced."""
    values: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            values.append(parameter.grad.values())
        elif parameter.grad is not None:
            values.append(parameter.grad)
    norm = float(get_total_norm(values))
    if limit is not None and limit < norm < math.inf:
        for value in values:
            value.mul_(limit / norm)
    return norm


def _gradients(
    model: Model,
    parameters: Sequence[Parameter],
    micro_steps: Iterable[tuple[SequenceBatch, Negatives]],
    count: int,
) -> tuple[Sums, int, int]:
    """Leave the gradient of Σ_objectives total / weight in `.grad`; totals and weights run over all micro-steps."""
    sums: Sums = {}
    events = dropped = 0
    built = list(micro_steps)
    shares = _Shares.of([model.loss_weights(*one) for one in built]) if count > 1 else None
    collected: list[Tensor | None] = [None] * len(parameters)
    for place, (batch, negatives) in enumerate(built):
        losses = model(batch, negatives)
        found = _floats(losses)
        for name, (total, _) in found.items():
            if not math.isfinite(total):
                raise NonFinite(f"loss '{name}'" if len(found) > 1 else "loss", total, place)
        sums = add(sums, found)
        events, dropped = events + batch.events.item.numel(), dropped + batch.dropped
        if shares is None:
            _backward(losses)
        else:
            _collect(shares.sum(losses), parameters, collected)
    if shares is not None:
        _divide(parameters, collected, shares.divisor)
    return sums, events, dropped


@dataclass(frozen=True)
class _Shares:
    """Factors of the losses of k micro-steps, so that one division divides each loss by its own weight."""

    share: Mapping[str, float]
    divisor: float  # the largest weight; its objective has the factor 1

    @classmethod
    def of(cls, weights: Sequence[Mapping[str, Tensor]]) -> _Shares:
        """From the weights of each micro-step."""
        total: dict[str, float] = {}
        for each in weights:
            values = torch.stack([weight.detach().double() for weight in each.values()]).tolist()
            total |= {name: total.get(name, 0.0) + value for name, value in zip(each, values, strict=True)}
        divisors = {name: max(weight, 1e-12) for name, weight in total.items()}
        largest = max(divisors.values())
        return cls({name: largest / divisor for name, divisor in divisors.items()}, largest)

    def sum(self, losses: Mapping[str, LossSum]) -> Tensor | None:
        """Σ share · total; None if nothing has a gradient."""
        assert losses.keys() <= self.share.keys(), f"losses {[*losses]}, but weights of {[*self.share]} were told"
        graded = [loss.total * self.share[name] for name, loss in losses.items() if loss.total.requires_grad]
        return torch.stack(graded).sum() if graded else None


def _floats(losses: dict[str, LossSum]) -> Sums:
    flat = torch.stack([value.detach().double() for loss in losses.values() for value in loss]).tolist()
    return {name: (flat[2 * i], flat[2 * i + 1]) for i, name in enumerate(losses)}


def _backward(losses: dict[str, LossSum]) -> None:
    means = [loss.mean() for loss in losses.values() if loss.total.requires_grad]
    if means:
        torch.stack(means).sum().backward()  # type: ignore[no-untyped-call]


def _collect(total: Tensor | None, parameters: Sequence[Parameter], collected: list[Tensor | None]) -> None:
    """Add the gradients of a micro-step."""
    if total is not None:
        new = torch.autograd.grad(total, parameters, allow_unused=True)
        collected[:] = [
            old if gradient is None else _plus(old, gradient) for old, gradient in zip(collected, new, strict=True)
        ]


def _divide(parameters: Sequence[Parameter], gradients: Sequence[Tensor | None], weight: float) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient / weight


def _plus(old: Tensor | None, new: Tensor) -> Tensor:
    """The sum of two gradients; torch adds a row-sparse one to a dense one, but not the other way."""
    if old is None:
        return new
    return new + old if old.is_sparse and not new.is_sparse else old + new
