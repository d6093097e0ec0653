"""What a similarity is: how a state and an item make a score.

A similarity from outside extends `SimilarityConfig` and `Similarity`.

Letters: S states, U items, K items of each state, D width, P width of a query.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from facta.config import Config


class Similarity(nn.Module):
    """Queries of states, vectors of items, and the score of each pair of them."""

    factored = False
    """Whether a score is the product of query and vector: indexes and fused losses then apply."""

    @abstractmethod
    def queries(self, states: Tensor) -> Tensor:
        """[S, D] -> [S, P]."""

    @abstractmethod
    def items(self, vectors: Tensor) -> Tensor:
        """[U, D] -> [U, P]: a function of each vector alone, made once for a catalogue."""

    @abstractmethod
    def flops(self, count: int) -> float:
        """Operations of one query against `count` items whose vectors are made; multiply and add count as two."""

    @abstractmethod
    def scores(self, queries: Tensor, items: Tensor) -> Tensor:
        """Queries [S, P] and items that they share [U, P], or items of each [S, K, P] -> [S, U] or [S, K]."""


class SimilarityConfig(Config):
    """The base of every similarity's config."""

    @abstractmethod
    def build(self, width: int) -> Similarity:
        """The similarity of a model of width D."""
