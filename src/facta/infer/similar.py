"""Items that are like an item: by the cosine of their vectors, or by what a counted model knows of pairs.

Letters: V catalogue items, V' of them with training events, n items asked, P width of a vector, k items of a list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional

from facta import arrays
from facta.arrays import Bools, Floats32, Ints
from facta.data.dataset.ids import ItemId
from facta.infer import frames
from facta.models.model import Model
from facta.retrieval.index import Index, has_vectors
from facta.retrieval.item_sets import ItemSets
from facta.retrieval.score_block import with_whole_tiles
from facta.types import CatalogueScores, FactoredScores

SIMILAR_TO = "similar_to"
CELLS = 1 << 25  # scores that are written out at a time: 128 MB
_UNIT = 1e-4  # how far the length of a vector may lie from 1 that is not made again


@dataclass(frozen=True)
class SimilarItems:
    """A list for each item that was asked for, most similar first; the item itself is not in it."""

    items: list[ItemId]  # asked for
    ids: list[list[ItemId]]
    titles: list[list[str | None]]  # None where the catalogue has no title
    scores: list[list[float]]
    by: str  # what the scores are, as in "cosine of the item vectors"
    untrained: list[bool]  # items without training events: an empty list, unless the model knows items by features
    item_type: pl.DataType = field(default_factory=pl.Int64, repr=False, compare=False)  # of ids in a frame

    def frame(self) -> pl.DataFrame:
        """A line for each similar item: similar_to, rank (from 1), item_id, score, title (null where there is none)."""
        lines = frames.lines(self.ids, self.titles, self.scores, self.item_type)
        asked = pl.Series(SIMILAR_TO, self.items, dtype=self.item_type).gather(lines[frames.REQUEST])
        return lines.select(asked, pl.exclude(frames.REQUEST))


class ItemNeighbours:
    """The similar items of a model among those that have training events."""

    def __init__(self, model: Model, index: Index, trained: Bools) -> None:
        self.model, self.index, self.trained = model, index, trained  # [V]

    def best(self, rows: Ints, k: int, hidden: Ints) -> tuple[Ints, Floats32]:
        """[n] rows -> the k most similar rows of each [n, k] and their scores; -1 and -inf behind the last one.
        Rows of `hidden` are in no list.

        Raises ConfigError where the model compares no items.
        """
        found, scores = np.full((len(rows), k), -1), np.full((len(rows), k), -np.inf, dtype=np.float32)
        known = np.flatnonzero(self.trained[rows] | self.model.knows_new_items)
        step = len(rows) or 1 if self.unit is not None else max(CELLS // len(self.trained), 1)
        for start in range(0, len(known) or 1, step):  # once for nobody: it raises what there is to raise
            some = known[start : start + step]
            with torch.inference_mode():
                found[some], scores[some] = self._best(rows[some], k, hidden)
        return found, scores

    def _best(self, rows: Ints, k: int, hidden: Ints) -> tuple[Ints, Floats32]:
        asked = torch.from_numpy(rows)
        none = ItemSets(np.zeros(len(rows) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64))
        masked = [np.union1d(hidden, row) for row in rows]
        offsets = arrays.offsets_of(np.array([len(one) for one in masked], dtype=np.int64))
        left_out = ItemSets(offsets, np.concatenate([*masked, hidden[:0]]))
        ranking = self.index.rank(self._scores(asked), none, left_out, k)
        return ranking.lists, ranking.scores

    def _scores(self, asked: Tensor) -> CatalogueScores:
        """[n, V'] of the listed items."""
        if self.unit is None:
            return self.index.cut(self.model.item_similarities(asked))
        return FactoredScores(functional.normalize(self.model.item_vectors(asked), dim=1).to("cpu"), self.unit)

    @cached_property
    def unit(self) -> Tensor | None:
        """[V', P] the vectors of the index at length 1, made once; None where scores are no products of vectors."""
        vectors = self.index.vectors
        if vectors is None or not (has_vectors(self.model) and self.model.scoring.factored):
            return None
        length = vectors[: len(self.index.rows)].norm(dim=1)
        if bool(((length - 1).abs() < _UNIT).all()):
            return vectors
        return with_whole_tiles(functional.normalize(vectors, dim=1))
