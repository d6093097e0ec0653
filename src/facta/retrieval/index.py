"""The items of a catalogue that may be listed, and their vectors: made, normalised and compacted once, asked often.

Evaluation makes an index for each evaluation, an artifact one for all of its requests: for a million items making the
vectors takes longer than an answer.

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
    """What makes a score of a query and the vector of an item: a similarity."""

    factored: bool

    def scores(self, queries: Tensor, items: Tensor, index: Tensor | None = None) -> Tensor: ...
    def all_scores(self, queries: Tensor, items: Tensor) -> Tensor: ...
    def rough_items(self, items: Tensor) -> Tensor | None: ...
    def rough_queries(self, queries: Tensor, mean: Tensor) -> Tensor: ...


class VectorRanker(Protocol):
    """A ranker whose scores are a function of a query and the vector of an item."""

    @property
    def scoring(self) -> Scoring:
        """That function."""
        ...

    def queries(self, batch: SequenceBatch) -> Tensor:
        """[S, P]."""
        ...

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        """[V, P], or those of the given rows."""
        ...


def has_vectors(ranker: object) -> TypeGuard[VectorRanker]:
    """Whether a ranker says what makes its scores of two vectors; a baseline and a model with a prior do not."""
    return getattr(ranker, "scoring", None) is not None


class Index:
    """The rows [V'] of a catalogue that may be listed, ascending, and their vectors [V', P].

    Where scores are `products` of vectors these lie on the CPU, where catalogues are ranked, with zeros behind the last
    one; others where the ranker lives. `vectors` is None for a ranker without vectors: its scores are dense, and cut to
    the listed rows. The index holds no ranker: `scores` takes the one that it was made of.
    """

    def __init__(self, rows: Ints, count: int, vectors: Tensor | None = None, *, products: bool = True) -> None:
        self.rows, self.count, self.vectors = rows, count, vectors
        self.products = products and vectors is not None
        self.every = len(rows) == count
        self.row = np.append(rows, -1)  # of a place; of place -1, which is none, -1
        self.place = np.full(count, -1)  # [V] among the V' items; -1: not there
        self.place[rows] = np.arange(len(rows))

    @classmethod
    def of(cls, ranker: Ranker, rows: Ints, count: int, device: torch.device | str = "cpu") -> Index:
        """`device`: where the ranker lives."""
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
        """As `rank_catalogue`, of scores of the listed items: in rows of the catalogue, other targets UNREACHABLE."""
        if self.every:
            return rank_catalogue(scores, targets, masked, k, self.count)
        asked, hidden = self.listed(targets), self.listed(masked)
        found = rank_catalogue(scores, asked, hidden, k, len(self.rows))
        ranks = np.full(len(targets.items), UNREACHABLE)
        ranks[self.place[targets.items] >= 0] = found.ranks
        return Ranking(ranks, self.row[found.lists], found.scores)

    def listed(self, sets: ItemSets) -> ItemSets:
        """Those of the items that are listed, as places among them."""
        kept = keep(sets, self.place[sets.items] >= 0)
        return kept._replace(items=self.place[kept.items])
