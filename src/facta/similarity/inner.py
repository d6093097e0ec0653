"""Similarities that are inner products: `dot` and `cosine`.

Letters: S states, U items, P width. Queries are divided by the temperature, so that scores are plain products, as fused
losses and indexes need.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from facta.similarity.similarity import Similarity, SimilarityConfig


class InnerProductConfig(SimilarityConfig):
    """score = state·item / T (dot), or with unit vectors (cosine, as in the HSTU research code with T = 0.05)."""

    kind: Literal["dot", "cosine"] = "cosine"
    temperature: float = Field(default=0.05, gt=0)
    learn_temperature: bool = False

    def build(self, width: int) -> InnerProduct:
        return InnerProduct(self, width)


class InnerProduct(Similarity):
    """Products of queries and item vectors."""

    factored = True

    def __init__(self, config: InnerProductConfig, width: int) -> None:
        super().__init__()
        self.width = width
        self.cosine = config.kind == "cosine"
        log_temperature = torch.tensor(math.log(config.temperature))
        if config.learn_temperature:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer("log_temperature", log_temperature)

    def queries(self, states: Tensor) -> Tensor:
        """[S, D] -> [S, P]."""
        unit = F.normalize(states, dim=-1, eps=1e-6) if self.cosine else states
        return unit * torch.exp(-self.log_temperature)

    def items(self, vectors: Tensor) -> Tensor:
        """[U, D] -> [U, P]."""
        return F.normalize(vectors, dim=-1, eps=1e-6) if self.cosine else vectors

    def scores(self, queries: Tensor, items: Tensor, index: Tensor | None = None, keys: Tensor | None = None) -> Tensor:
        """[S, P] and [U, P], or index [S, K] into the items -> [S, U] or [S, K]."""
        return queries @ items.T if index is None else torch.einsum("sp,skp->sk", queries, items[index])

    def flops(self, count: int) -> float:
        return 2.0 * self.width * count
