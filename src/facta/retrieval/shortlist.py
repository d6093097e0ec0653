"""Search in two stages: products of rough vectors select some items, which alone are scored exactly.

For expensive scores, such as a mixture of logits over a million items (Ding and Zhai, arXiv 2407.15462). Items that the
rough search misses are lost, so the lists are approximate.

Letters: S requests, V' listed items, C width of a rough vector, k items of a list.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor

from facta.arrays import Floats32, Ints
from facta.errors import ConfigError
from facta.retrieval.exact import rank_catalogue
from facta.retrieval.index import Index, VectorRanker, has_vectors
from facta.retrieval.item_sets import ItemSets
from facta.retrieval.score_block import with_whole_tiles
from facta.retrieval.topk import best_of
from facta.types import FactoredScores, Ranker, SequenceBatch


class Shortlist:
    """The rough vectors [V', C] of an index, on the CPU, and its mean item [1, P], both computed once."""

    def __init__(self, index: Index, rough: Tensor) -> None:
        assert index.vectors is not None
        self.index, self.rough = index, with_whole_tiles(rough.to("cpu"))
        self.mean = index.vectors.mean(dim=0, keepdim=True)

    @classmethod
    def of(cls, index: Index, ranker: Ranker) -> Self:
        """Raises ConfigError if the ranker's similarity has no rough search."""
        rough = None
        if has_vectors(ranker) and index.vectors is not None and not index.products:
            rough = ranker.scoring.rough_items(index.vectors)
        if rough is None:
            raise ConfigError("Found a shortlist for a model without a rough search: leave it out.")
        return cls(index, rough)

    def best(
        self, ranker: VectorRanker, batch: SequenceBatch, masked: ItemSets, k: int, length: int
    ) -> tuple[Ints, Floats32]:
        """The best k items [S, k] among the first `length` of the rough search, and their exact scores; padded with -1
        and -inf.

        Items are rows of the catalogue; `masked` ones are excluded.
        """
        vectors, hidden = self.index.vectors, self.index.listed(masked)
        assert vectors is not None
        queries = ranker.queries(batch)
        found = FactoredScores(ranker.scoring.rough_queries(queries, self.mean).to("cpu"), self.rough)
        none = ItemSets(np.zeros_like(hidden.offsets), np.empty(0, dtype=np.int64))
        places = rank_catalogue(found, none, hidden, max(k, length), len(self.index.rows)).lists
        at = torch.from_numpy(np.maximum(places, 0)).to(vectors.device)
        scores = ranker.scoring.scores(queries, vectors, at).to("cpu").numpy()
        best, values = best_of([places], [np.where(places < 0, np.float32(-np.inf), scores)], k)
        return self.index.row[best], values
