"""Losses of next-item prediction, as functions of tensors. Each returns (Σ weight · loss, Σ weight).

Letters: S targets, V items (all of the catalogue, in row order), P width, R negatives. Scores are inner products of
queries [S, P] and items [V, P]; `positive` [S] is each target's own item row, `weight` [S] its weight. Losses against
shared negatives ask for the vectors of those and of the positives alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional as F

from facta import draws
from facta.config import Config
from facta.data.negatives import NegativesConfig
from facta.errors import ConfigError
from facta.objectives import chunked
from facta.objectives.gathered import gathered_logits
from facta.objectives.items import Items
from facta.ops.sums import summed
from facta.types import LossSum, Negatives

MASKED = -5e4  # logit of a negative that equals the positive; the HSTU research code's value


class SoftmaxConfig(Config):
    """Cross-entropy over the whole catalogue."""

    kind: Literal["softmax"] = "softmax"


class SampledSoftmaxConfig(Config):
    """Cross-entropy of the positive against sampled negatives."""

    kind: Literal["sampled-softmax"] = "sampled-softmax"
    negatives: NegativesConfig = NegativesConfig()


def _uncorrected(negatives: NegativesConfig) -> NegativesConfig:
    if negatives.correction != "none":
        raise ConfigError("Binary losses are not corrected for sampling: set loss.negatives.correction to none.")
    return negatives


Uncorrected = Annotated[NegativesConfig, AfterValidator(_uncorrected)]


class BCEConfig(Config):
    """Binary cross-entropy; with one uniform negative per target it is the loss of the SASRec paper."""

    kind: Literal["bce"] = "bce"
    negatives: Uncorrected = NegativesConfig(count=1)


class GBCEConfig(Config):
    """Generalised BCE (Petrov & Macdonald 2023, eq. 8-9): the positive's probability is raised to β, which undoes the
    overconfidence that sampling causes; t = 0 is BCE, t = 1 fully calibrated."""

    kind: Literal["gbce"] = "gbce"
    negatives: Uncorrected = NegativesConfig(count=256)
    calibration: float = Field(default=0.75, ge=0, le=1, description="t")


LossConfig = SoftmaxConfig | SampledSoftmaxConfig | BCEConfig | GBCEConfig


def softmax(queries: Tensor, items: Tensor, positive: Tensor, weight: Tensor) -> LossSum:
    """-log softmax over all items, in float32."""
    return LossSum(chunked.softmax(queries, items, positive, weight), summed(weight))


def sampled_softmax(
    queries: Tensor, items: Items, positive: Tensor, weight: Tensor, negatives: Negatives, keys: Tensor
) -> LossSum:
    """-log of the positive's share among itself and the negatives; a negative equal to the positive is left out.

    With `log_q` the logit of each negative is lowered by the log of how often the item is sampled, so that the expected
    gradient is nearly that of the full softmax: equal to it where every other item is a negative once. With
    `log_q_positive` the positive's logit is lowered too (Yi et al. 2019, eq. 4).
    """

    def share(own: Tensor, others: Tensor) -> Tensor:
        return torch.logsumexp(torch.cat([own[:, None], others], dim=1), dim=1) - own

    return LossSum(_total(share, queries, items, positive, weight, negatives, keys), summed(weight))


def generalised_bce(
    queries: Tensor,
    items: Items,
    positive: Tensor,
    weight: Tensor,
    negatives: Negatives,
    keys: Tensor,
    *,
    calibration: float = 0.0,
) -> LossSum:
    """-(β log σ(s⁺) + Σ_r log(1 - σ(s_r))) with β = α(t(1 - 1/α) + 1/α), α = R / (V - 1); plain BCE at t = 0.

    α is how often each other item is drawn, so it may pass 1 in a small catalogue: β then grows with it.
    """

    def binary(own: Tensor, others: Tensor) -> Tensor:
        beta = gbce_beta(others.shape[1], items.count, calibration)
        return beta * F.softplus(-own) + F.softplus(others).sum(dim=1)

    return LossSum(_total(binary, queries, items, positive, weight, negatives, keys), summed(weight))


def gbce_beta(negatives: int, items: int, calibration: float) -> float:
    """β, the weight of the positive's term."""
    alpha = negatives / (items - 1)
    return alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)


def _total(
    loss: Callable[[Tensor, Tensor], Tensor],
    queries: Tensor,
    items: Items,
    positive: Tensor,
    weight: Tensor,
    negatives: Negatives,
    keys: Tensor,
) -> Tensor:
    """Σ weight · loss(logits of the positives [S], of the negatives [S, R]); a negative equal to the positive is
    masked.
    """
    if negatives.each:
        drawn = uniform(keys, negatives.each, items.count)
        logits = gathered_logits(queries, items.vectors(None), torch.cat([positive[:, None], drawn], dim=1))
        others = logits[:, 1:].masked_fill(drawn == positive[:, None], MASKED)
        return summed(loss(logits[:, 0], others) * weight)
    rows = negatives.shared
    if rows is None:
        raise ConfigError("A sampled loss needs negatives: set next_item.loss.negatives.")

    def part(chunk: slice, shared: Tensor, queries: Tensor, own_items: Tensor) -> Tensor:
        own, others = (queries * own_items).sum(dim=1), queries @ shared.T
        if negatives.log_q is not None:
            others = others - negatives.log_q
        if negatives.log_q_positive is not None:
            own = own - negatives.log_q_positive[chunk]
        others = others.masked_fill(rows == positive[chunk, None], MASKED)
        return summed(loss(own, others) * weight[chunk])

    return chunked.shared(part, items.vectors(rows), queries, items.vectors(positive))


def uniform(keys: Tensor, count: int, bound: int) -> Tensor:
    """[S, count] rows in [0, bound): draw r of target s is a function of (keys[s], r) alone."""
    place = torch.arange(count, device=keys.device)
    return draws.below(draws.mix(keys[:, None], place), bound)
