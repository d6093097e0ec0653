"""The interface of a similarity: the score of a state and an item.

A similarity from outside extends `SimilarityConfig` and `Similarity`.

Letters: S states, U items, K items of each state, D width, P width of a query.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from facta.config import Config
from facta.errors import ConfigError

CELLS_AT_ONCE = 1 << 24  # intermediate numbers of one step of `all_scores`: 64 MB in float32


class Similarity(nn.Module):
    """Queries of states, vectors of items, and the score of each pair."""

    factored = False
    """Whether a score is the product of query and vector, as indexes and fused losses need."""

    @property
    def draws(self) -> bool:
        """Whether scores in training need a random draw for each pair."""
        return False

    @abstractmethod
    def queries(self, states: Tensor) -> Tensor:
        """[S, D] -> [S, P]."""

    @abstractmethod
    def items(self, vectors: Tensor) -> Tensor:
        """[U, D] -> [U, P]: a function of each vector alone, computed once for a catalogue."""

    @abstractmethod
    def flops(self, count: int) -> float:
        """Operations of one query against `count` existing item vectors; multiply and add count as two."""

    @abstractmethod
    def scores(self, queries: Tensor, items: Tensor, index: Tensor | None = None, keys: Tensor | None = None) -> Tensor:
        """Queries [S, P] and items [U, P] -> [S, U]; with an index [S, K] into the items -> [S, K].

        `keys`, int64 of the shape of the scores, are given in training if the similarity `draws`: all random draws of a
        pair derive from its key.
        """

    def rough_items(self, items: Tensor) -> Tensor | None:
        """Items [U, P] -> vectors [U, C] whose products with `rough_queries` approximate the order of the scores; None:
        not supported.
        """
        return None

    def rough_queries(self, queries: Tensor, mean: Tensor) -> Tensor:
        """Queries [S, P] -> [S, C]; mean [1, P] of the items that are searched."""
        raise ConfigError(f"{type(self).__name__} has no rough search.")

    def cells(self, queries: Tensor) -> int:
        """Intermediate numbers of a pair, which limit the pairs that are scored together."""
        return queries.shape[1]

    def all_scores(self, queries: Tensor, items: Tensor) -> Tensor:
        """Queries [S, P] and items [U, P] -> [S, U], a few pairs at a time, in constant memory beside the result."""
        step = max(CELLS_AT_ONCE // self.cells(queries), 1)
        of_query, of_item = max(step // max(len(items), 1), 1), step
        found = queries.new_empty(len(queries), len(items))
        for row in range(0, len(queries), of_query):
            for place in range(0, len(items), of_item):
                at = (slice(row, row + of_query), slice(place, place + of_item))
                found[at] = self.scores(queries[at[0]], items[at[1]])
        return found


class SimilarityConfig(Config):
    """The base of every similarity's config."""

    @abstractmethod
    def build(self, width: int) -> Similarity:
        """The similarity of a model of width D."""
