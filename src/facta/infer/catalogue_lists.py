"""The best items of the whole catalogue for histories: by the model, or by popularity where it has nothing to read.

Letters: B histories, V catalogue items, V' items with training events, P width of a query, k items of a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from facta import arrays
from facta.arrays import Bools, Floats32, Ints
from facta.artifact.model import SavedModel
from facta.infer.history import Known
from facta.infer.request import request
from facta.models.recommender import Recommender
from facta.retrieval.exact import rank_catalogue
from facta.retrieval.item_sets import ItemSets
from facta.types import CatalogueScores, Product, SequenceBatch

AT_ONCE = 256  # requests encoded together
CELLS = 1 << 25  # scores that are written out at a time: 128 MB; this and AT_ONCE bound memory and change no answer


class Lists(NamedTuple):
    """The lists of B histories in catalogue rows."""

    rows: Ints  # [B, k] best first; -1 behind the last item that may be recommended
    scores: Floats32  # [B, k]; -inf there
    of_model: Bools  # [B] by the model, or else by popularity


class Retrieval:
    """A model and the items that it may recommend: those with training events, for other vectors are untrained.

    Their vectors are made once, when the first request comes: for a million items that takes longer than the answer.
    """

    def __init__(self, model: SavedModel, training_events: Tensor) -> None:
        self.model, self.training_events = model, training_events  # [V]
        self.trained: Bools = training_events.numpy() > 0  # [V]
        self.rows = np.flatnonzero(self.trained)  # [V']
        self._place = np.where(self.trained, np.cumsum(self.trained) - 1, -1)  # [V] among the V' items; -1: not there

    def of_model(self, histories: Sequence[Known]) -> Bools:
        """[B] whether a history shows an item with training events, so that the model is asked."""
        return np.array([self.trained[one.rows].any() for one in histories], dtype=np.bool_)

    def best(self, histories: Sequence[Known], at: Sequence[int] | None, hidden: Sequence[Ints], k: int) -> Lists:
        """The best k items for each history without its `hidden` rows, by evaluation's code; `at`: as in `request`."""
        of_model = self.of_model(histories)
        rows = np.full((len(histories), k), -1, dtype=np.int64)
        scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
        for chosen, found in self._scores(histories, at, of_model):
            place = [self._place[np.unique(hidden[one])] for one in chosen]
            masked = [one[one >= 0] for one in place]
            sets = ItemSets(arrays.offsets_of(np.array([len(one) for one in masked])), np.concatenate(masked))
            none = ItemSets(np.zeros(len(chosen) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64))
            with torch.inference_mode():
                best = rank_catalogue(found, none, sets, k)
            rows[chosen], scores[chosen] = np.append(self.rows, -1)[best.lists], best.scores  # -1 stays -1
        return Lists(rows, scores, of_model)

    def _scores(
        self, histories: Sequence[Known], at: Sequence[int] | None, of_model: Bools
    ) -> Iterator[tuple[Ints, CatalogueScores]]:
        """(places of histories, their scores of the V' items), all histories once."""
        listed = torch.from_numpy(self.rows)
        dense = min(AT_ONCE, max(CELLS // len(self.trained), 1))
        for chosen in _parts(np.flatnonzero(~of_model), dense):
            yield chosen, self.training_events[listed].expand(len(chosen), -1)
        asked = np.flatnonzero(of_model)
        if not len(asked):
            return
        with torch.inference_mode():
            if self._vectors is not None:
                assert isinstance(self.model, Recommender)
                batches = (self._request(histories, at, chosen) for chosen in _parts(asked, AT_ONCE))
                yield asked, Product(torch.cat([self.model.queries(batch) for batch in batches]), self._vectors)
                return
            for chosen in _parts(asked, dense):
                scores = self.model.catalogue_scores(self._request(histories, at, chosen))
                yield chosen, (scores.dense() if isinstance(scores, Product) else scores)[:, listed]

    def _request(self, histories: Sequence[Known], at: Sequence[int] | None, chosen: Ints) -> SequenceBatch:
        moments = None if at is None else [at[place] for place in chosen]
        return request([histories[place] for place in chosen], moments, self.model.window)

    @cached_property
    def _vectors(self) -> Tensor | None:
        """[V', P]; None for a model whose scores are no inner products."""
        if not isinstance(self.model, Recommender) or self.model.next_item is None or self.model.prior is not None:
            return None
        every = len(self.rows) == len(self.trained)
        with torch.inference_mode():
            return self.model.item_vectors(None if every else torch.from_numpy(self.rows)).contiguous()


def _parts(places: Ints, size: int) -> list[Ints]:
    """Requests answered together."""
    return [places[start : start + size] for start in range(0, len(places), size)]
