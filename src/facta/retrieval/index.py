"""The listed items of a catalogue and their vectors, normalised and compacted once for many queries.

An evaluation builds its own index, an artifact one for all requests: for a million items building takes longer than an
answer.

Letters: S requests, V catalogue items, V' of them listed, P width of a query, k items of a list.
"""

from __future__ import annotations

from typing import Protocol, TypeGuard

import numpy as np
import torch
from torch import Tensor

from facta.arrays import Ints
from facta.retrieval.exact import UNREACHABLE, Ranking, rank_catalogue
from facta.retrieval.item_sets import ItemSets, keep
from facta.retrieval.score_block import with_whole_tiles
from facta.types import CatalogueScores, FactoredScores, Ranker, SequenceBatch, to_device


class Scoring(Protocol):
    """A similarity: the score of a query and an item vector."""

    factored: bool

    def scores(self, queries: Tensor, items: Tensor, index: Tensor | None = None) -> Tensor: ...
    def all_scores(self, queries: Tensor, items: Tensor) -> Tensor: ...
    def rough_items(self, items: Tensor) -> Tensor | None: ...
    def rough_queries(self, queries: Tensor, mean: Tensor) -> Tensor: ...


class VectorRanker(Protocol):
    """A ranker whose scores are a similarity of query and item vectors."""

    @property
    def scoring(self) -> Scoring:
        """The similarity."""
        ...

    def queries(self, batch: SequenceBatch) -> Tensor:
        """[S, P]."""
        ...

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        """[V, P], or those of the given rows."""
        ...


def has_vectors(ranker: object) -> TypeGuard[VectorRanker]:
    """Whether a ranker has vectors with a similarity; baselines and models with a prior do not."""
    return getattr(ranker, "scoring", None) is not None


class Index:
    """The listed rows [V'] of a catalogue, ascending, and their vectors [V', P].

    If scores are `products` of vectors, the vectors are on the CPU, where catalogues are ranked, followed by zeros;
    other vectors are on the ranker's device. `vectors` is None for a ranker without vectors, whose dense scores are cut
    to the listed rows. The index does not hold the ranker: `scores` gets the one that it was made of.
    """

    def __init__(self, rows: Ints, count: int, vectors: Tensor | None = None, *, products: bool = True) -> None:
        self.rows, self.count, self.vectors = rows, count, vectors
        self.products = products and vectors is not None
        self.every = len(rows) == count
        self.row = np.append(rows, -1)  # row of a place; -1 for place -1 (none)
        self.place = np.full(count, -1)  # [V] place among the V' items; -1: not listed
        self.place[rows] = np.arange(len(rows))

    @classmethod
    def of(cls, ranker: Ranker, rows: Ints, count: int, device: torch.device | str = "cpu") -> Index:
        """`device`: of the ranker."""
        if not has_vectors(ranker):
            return cls(rows, count)
        asked = None if len(rows) == count else torch.from_numpy(rows).to(device)
        vectors, products = ranker.item_vectors(asked), ranker.scoring.factored
        return cls(
            rows, count, with_whole_tiles(vectors.to("cpu", torch.float32)) if products else vectors, products=products
        )

    def scores(self, ranker: Ranker, batch: SequenceBatch) -> CatalogueScores:
        """Scores of the listed items for every target of a batch, on the CPU."""
        if self.vectors is None:
            scores = to_device(ranker.catalogue_scores(batch), "cpu")
            if not isinstance(scores, FactoredScores):
                return self.cut(scores)
            return scores if self.every else FactoredScores(scores.queries, scores.items[torch.from_numpy(self.rows)])
        assert has_vectors(ranker)
        queries = ranker.queries(batch)
        if self.products:
            return FactoredScores(queries.to("cpu", torch.float32), self.vectors)
        return ranker.scoring.all_scores(queries, self.vectors).to("cpu")

    def cut(self, scores: Tensor) -> Tensor:
        """[S, V] scores of all items -> [S, V'] of the listed ones."""
        return scores if self.every else scores[:, torch.from_numpy(self.rows)]

    def rank(self, scores: CatalogueScores, targets: ItemSets, masked: ItemSets, k: int) -> Ranking:
        """As `rank_catalogue` over the listed items, in rows of the catalogue; other targets are UNREACHABLE."""
        if self.every:
            return rank_catalogue(scores, targets, masked, k, self.count)
        asked, hidden = self.listed(targets), self.listed(masked)
        found = rank_catalogue(scores, asked, hidden, k, len(self.rows))
        ranks = np.full(len(targets.items), UNREACHABLE)
        ranks[self.place[targets.items] >= 0] = found.ranks
        return Ranking(ranks, self.row[found.lists], found.scores)

    def listed(self, sets: ItemSets) -> ItemSets:
        """The listed ones of some items, as places among the V' items."""
        kept = keep(sets, self.place[sets.items] >= 0)
        return kept._replace(items=self.place[kept.items])
