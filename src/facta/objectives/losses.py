"""Losses of next-item prediction, as functions of tensors. Each returns (Σ weight · loss, Σ weight).

Letters: S targets, V items (all of the catalogue, in row order), P width, R negatives. Scores are inner products of
queries [S, P] and items [V, P], or a `similarity` of both; `positive` [S] is each target's own item row, `weight` [S]
its weight. Losses with shared negatives need only the vectors of these and of the positives.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional as F

from facta import draws
from facta.config import Config
from facta.data.batches.negatives import NegativesConfig
from facta.errors import ConfigError
from facta.kinds import Kinds
from facta.objectives import chunked
from facta.objectives.gathered import gathered_logits
from facta.objectives.items import Items
from facta.ops.sums import summed
from facta.similarity.similarity import Similarity
from facta.types import LossSum, Negatives

MASKED = -5e4  # logit of a negative that equals the positive; the HSTU research code's value


class LossConfig(Config):
    """The base of every loss's config."""

    @property
    def drawn(self) -> NegativesConfig | None:
        """The negatives that the loss needs in each step; None: none."""
        return None

    @abstractmethod
    def total(self, contrast: Contrast) -> LossSum:
        """(Σ weight · loss, Σ weight)."""


@dataclass(frozen=True)
class Contrast:
    """Inputs of a loss: each target's query, its own item, and the items to contrast it with."""

    queries: Tensor  # [S, P]
    items: Items  # vectors of width P for the similarity
    positive: Tensor  # [S]
    weight: Tensor  # [S]
    negatives: Negatives = field(default_factory=Negatives)
    keys: Tensor | None = None  # [S] keys of the targets, for negatives drawn per target
    similarity: Similarity | None = None  # None: inner products

    @property
    def factored(self) -> bool:
        """Whether logits are products of queries and vectors."""
        return self.similarity is None or self.similarity.factored

    @property
    def cells(self) -> int:
        """Intermediate numbers of a pair."""
        assert self.similarity is not None
        return self.similarity.cells(self.queries)

    def logits(self, chunk: slice, rows: Tensor, vectors: Tensor, index: Tensor | None = None) -> Tensor:
        """Logits of s targets with the items of the given rows and vectors [U, P] -> [s, U], or with those of an index
        [s, K] -> [s, K].
        """
        assert self.similarity is not None
        keys = None
        if self.similarity.draws:
            assert self.keys is not None
            keys = draws.mix(self.keys[chunk, None], rows if index is None else rows[index])
        return self.similarity.scores(self.queries[chunk], vectors, index, keys)


class SoftmaxConfig(LossConfig):
    """Cross-entropy over the whole catalogue."""

    kind: Literal["softmax"] = "softmax"

    def total(self, contrast: Contrast) -> LossSum:
        return softmax(contrast)


class SampledSoftmaxConfig(LossConfig):
    """Cross-entropy of the positive against sampled negatives."""

    kind: Literal["sampled-softmax"] = "sampled-softmax"
    negatives: NegativesConfig = NegativesConfig()

    @property
    def drawn(self) -> NegativesConfig:
        return self.negatives

    def total(self, contrast: Contrast) -> LossSum:
        return sampled_softmax(contrast)


def _uncorrected(negatives: NegativesConfig) -> NegativesConfig:
    if negatives.correction != "none":
        raise ConfigError("Found loss.negatives.correction for a binary loss, which has none: set it to none.")
    return negatives


Uncorrected = Annotated[NegativesConfig, AfterValidator(_uncorrected)]


class BinaryConfig(LossConfig):
    """The base of the binary losses."""

    negatives: Uncorrected

    @property
    def drawn(self) -> NegativesConfig:
        return self.negatives

    @property
    def t(self) -> float:
        """t, the calibration of the positive for sampling."""
        return 0.0

    def total(self, contrast: Contrast) -> LossSum:
        return generalised_bce(contrast, calibration=self.t)


class BCEConfig(BinaryConfig):
    """Binary cross-entropy; with one uniform negative per target it is the loss of the SASRec paper."""

    kind: Literal["bce"] = "bce"
    negatives: Uncorrected = NegativesConfig(count=1)


class GBCEConfig(BinaryConfig):
    """Generalised BCE (Petrov & Macdonald 2023, eq. 8-9): the positive's probability is raised to β, which undoes the
    overconfidence that sampling causes; t = 0 is BCE, t = 1 fully calibrated."""

    kind: Literal["gbce"] = "gbce"
    negatives: Uncorrected = NegativesConfig(count=256)
    calibration: float = Field(default=0.75, ge=0, le=1, description="t")

    @property
    def t(self) -> float:
        return self.calibration


AnyLoss = Annotated[LossConfig, Kinds(LossConfig, (SoftmaxConfig, SampledSoftmaxConfig, BCEConfig, GBCEConfig))]
"""The type of a config's field that holds a loss."""


def softmax(contrast: Contrast) -> LossSum:
    """-log softmax over all items, in float32."""
    queries, items, weight = contrast.queries, contrast.items.vectors(None), contrast.weight
    if contrast.factored:
        return LossSum(chunked.softmax(queries, items, contrast.positive, weight), summed(weight))

    every = torch.arange(len(items), device=items.device)

    def part(chunk: slice) -> Tensor:
        logits = contrast.logits(chunk, every, items)
        own = logits.gather(1, contrast.positive[chunk, None])[:, 0]
        return summed((torch.logsumexp(logits, dim=1) - own) * weight[chunk])

    return LossSum(chunked.recomputed(part, len(queries), len(items) * contrast.cells), summed(weight))


def sampled_softmax(contrast: Contrast) -> LossSum:
    """-log softmax of the positive over itself and the negatives; a negative equal to the positive is left out.

    With `log_q` the logit of each negative is lowered by the log of its expected number of draws, so that the expected
    gradient is nearly that of the full softmax, and equal to it if every other item is a negative once. With
    `log_q_positive` the positive's logit is lowered too (Yi et al. 2019, eq. 4).
    """

    def share(own: Tensor, others: Tensor) -> Tensor:
        return torch.logsumexp(torch.cat([own[:, None], others], dim=1), dim=1) - own

    return LossSum(_total(share, contrast), summed(contrast.weight))


def generalised_bce(contrast: Contrast, *, calibration: float = 0.0) -> LossSum:
    """-(β log σ(s⁺) + Σ_r log(1 - σ(s_r))) with β = α(t(1 - 1/α) + 1/α), α = R / (V - 1); plain BCE at t = 0.

    α, the expected draws of each other item, may exceed 1 in a small catalogue; β then grows with it.
    """

    def binary(own: Tensor, others: Tensor) -> Tensor:
        beta = gbce_beta(others.shape[1], contrast.items.count, calibration)
        return beta * F.softplus(-own) + F.softplus(others).sum(dim=1)

    return LossSum(_total(binary, contrast), summed(contrast.weight))


def gbce_beta(negatives: int, items: int, calibration: float) -> float:
    """β, the weight of the positive's term."""
    alpha = negatives / (items - 1)
    return alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)


def _total(loss: Callable[[Tensor, Tensor], Tensor], contrast: Contrast) -> Tensor:
    """Σ weight · loss(logits of the positives [S], of the negatives [S, R]); a negative equal to the positive is
    masked.
    """
    if not contrast.factored:
        return _total_of_pairs(loss, contrast)
    items, positive, weight, negatives = contrast.items, contrast.positive, contrast.weight, contrast.negatives
    if negatives.each:
        drawn = uniform(contrast.keys, negatives.each, items.count)
        vectors, place = _met(items, torch.cat([positive[:, None], drawn], dim=1))
        logits = gathered_logits(contrast.queries, vectors, place)
        others = logits[:, 1:].masked_fill(drawn == positive[:, None], MASKED)
        return summed(loss(logits[:, 0], others) * weight)
    rows = _shared_rows(negatives)

    def part(chunk: slice, shared: Tensor, queries: Tensor, own_items: Tensor) -> Tensor:
        own, others = _corrected((queries * own_items).sum(dim=1), queries @ shared.T, negatives, chunk)
        others = others.masked_fill(rows == positive[chunk, None], MASKED)
        return summed(loss(own, others) * weight[chunk])

    return chunked.shared(part, items.vectors(rows), contrast.queries, items.vectors(positive))


def _met(items: Items, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors [U, P] of the distinct items of rows [S, K], and the index [S, K] of each item among them."""
    if items.plain:
        return items.vectors(None), rows
    met, place = torch.unique(rows, return_inverse=True)
    return items.vectors(met), place


def _total_of_pairs(loss: Callable[[Tensor, Tensor], Tensor], contrast: Contrast) -> Tensor:
    """As `_total`, for scores that are not factored: a few targets at a time, recomputed in the backward pass. The
    vector of each item is computed once.
    """
    items, positive, negatives = contrast.items, contrast.positive, contrast.negatives
    drawn = uniform(contrast.keys, negatives.each, items.count) if negatives.each else None
    others_of = _shared_rows(negatives) if drawn is None else drawn
    met, place = torch.unique(torch.cat([positive, others_of.flatten()]), return_inverse=True)
    own_place, other_place = place[: len(positive)], place[len(positive) :].view_as(others_of)
    vectors = items.vectors(met)

    def part(chunk: slice) -> Tensor:
        own_places = own_place[chunk, None]
        others_at = other_place.expand(len(own_places), -1) if drawn is None else other_place[chunk]
        logits = contrast.logits(chunk, met, vectors, torch.cat([own_places, others_at], dim=1))
        own, others = _corrected(logits[:, 0], logits[:, 1:], negatives, chunk)
        return summed(loss(own, others.masked_fill(others_at == own_places, MASKED)) * contrast.weight[chunk])

    count = negatives.each or len(other_place)
    return chunked.recomputed(part, len(positive), (1 + count) * contrast.cells)


def _shared_rows(negatives: Negatives) -> Tensor:
    if negatives.shared is None:
        raise ConfigError("A sampled loss needs negatives: set next_item.loss.negatives.")
    return negatives.shared


def _corrected(own: Tensor, others: Tensor, negatives: Negatives, chunk: slice) -> tuple[Tensor, Tensor]:
    """Logits of a chunk's positives [S] and of the shared negatives [S, R], lowered by logQ where it is given."""
    if negatives.log_q is not None and not negatives.each:
        others = others - negatives.log_q
    if negatives.log_q_positive is not None:
        own = own - negatives.log_q_positive[chunk]
    return own, others


def uniform(keys: Tensor | None, count: int, bound: int) -> Tensor:
    """[S, count] rows in [0, bound): draw r of target s is a function of (keys[s], r) alone."""
    assert keys is not None
    place = torch.arange(count, device=keys.device)
    return draws.below(draws.mix(keys[:, None], place), bound)
