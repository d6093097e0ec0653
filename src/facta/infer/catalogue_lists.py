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
from facta.data.batches.encoded import EncodedHistory
from facta.infer.asking import Asking
from facta.models.model import Model
from facta.retrieval.capped import Limits, best_under_caps
from facta.retrieval.index import Index, has_vectors
from facta.retrieval.item_sets import ItemSets
from facta.retrieval.shortlist import Shortlist
from facta.types import CatalogueScores, FactoredScores

# Both bound memory and change no answer.
REQUESTS_PER_BATCH = 256  # encoded together
CELLS = 1 << 25  # scores that are written out at a time: 128 MB


class Lists(NamedTuple):
    """The lists of B histories in catalogue rows."""

    rows: Ints  # [B, k] best first; -1 behind the last item that may be recommended
    scores: Floats32  # [B, k]; -inf there
    of_model: Bools  # [B] by the model, or else by popularity


class CatalogueLists:
    """A model and the items that it may recommend: those with training events, for other vectors are untrained."""

    def __init__(self, model: Model, training_events: Floats32) -> None:
        self.model, self._training_events = model, training_events  # [V]
        self.trained: Bools = training_events > 0  # [V]

    def of_model(self, histories: Sequence[EncodedHistory]) -> Bools:
        """[B] whether a history shows an item with training events, so that the model is asked."""
        return np.array([self.trained[one.rows].any() for one in histories], dtype=np.bool_)

    def best(
        self, asking: Asking, limits: Sequence[Limits], k: int, shortlist: int | None = None,
        popularity: Floats32 | None = None,
    ) -> Lists:  # fmt: skip
        """The best k items for each history within its limits, by evaluation's code.

        `popularity` [V] stands in for the training events of items, where the model has nothing to read.
        `shortlist`: how many items that a rough search puts first are scored exactly; None: all are. Caps need all.
        """
        of_model = self.of_model(asking.histories)
        rows = np.full((len(asking), k), -1, dtype=np.int64)
        scores = np.full((len(asking), k), -np.inf, dtype=np.float32)
        rough = np.flatnonzero(of_model) if shortlist is not None else np.empty(0, dtype=np.int64)
        for chosen in _parts(rough, REQUESTS_PER_BATCH):
            assert shortlist is not None
            with torch.inference_mode(), asking.opened(self.model, chosen) as (ranker, batch):
                assert has_vectors(ranker)
                assert not any(limits[one].caps for one in chosen)
                masked = _sets([limits[one].hidden for one in chosen])
                rows[chosen], scores[chosen] = self.shortlist.best(ranker, batch, masked, k, shortlist)
        by_model = np.flatnonzero(of_model) if shortlist is None else np.empty(0, dtype=np.int64)
        for chosen, found in self._scores(asking, np.flatnonzero(~of_model), by_model, popularity):
            with torch.inference_mode():
                rows[chosen], scores[chosen] = self._within(found, [limits[one] for one in chosen], k)
        return Lists(rows, scores, of_model)

    def scores_of(self, asking: Asking, rows: Ints) -> Floats32:
        """[B, M] what the model says of M items that may be listed, also of a history without any of them."""
        places, scores = torch.from_numpy(self.index.place[rows]), np.empty((len(asking), len(rows)), dtype=np.float32)
        for chosen in _parts(np.arange(len(asking)), min(REQUESTS_PER_BATCH, max(CELLS // len(self.trained), 1))):
            with torch.inference_mode(), asking.opened(self.model, chosen) as (ranker, batch):
                found = self.index.scores(ranker, batch)
                some = found.queries @ found.items[places].T if isinstance(found, FactoredScores) else found[:, places]
            scores[chosen] = some.numpy()
        return scores

    def _within(self, found: CatalogueScores, limits: Sequence[Limits], k: int) -> tuple[Ints, Floats32]:
        """[B, k] the best rows of B histories by their scores, and the scores themselves."""
        rows = np.full((len(limits), k), -1, dtype=np.int64)
        scores = np.full((len(limits), k), -np.inf, dtype=np.float32)
        plain = np.array([not one.caps for one in limits])
        if plain.any():
            some = found if plain.all() else _some(found, np.flatnonzero(plain))
            rows[plain], scores[plain] = self._listed(some, [one.hidden for one in limits if not one.caps], k)
        for place in np.flatnonzero(~plain).tolist():
            alone = _some(found, np.array([place]))

            def best(hidden: Ints, alone: CatalogueScores = alone) -> tuple[Ints, Floats32]:
                lists, values = self._listed(alone, [hidden], k)
                return lists[0][lists[0] >= 0], values[0][lists[0] >= 0]

            taken, values = best_under_caps(best, limits[place], k)
            rows[place, : len(taken)], scores[place, : len(taken)] = taken, values
        return rows, scores

    def _listed(self, found: CatalogueScores, hidden: Sequence[Ints], k: int) -> tuple[Ints, Floats32]:
        none = ItemSets(np.zeros(len(hidden) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64))
        best = self.index.rank(found, none, _sets(hidden), k)
        return best.lists, best.scores

    def _scores(
        self, asking: Asking, by_popularity: Ints, by_model: Ints, popularity: Floats32 | None
    ) -> Iterator[tuple[Ints, CatalogueScores]]:
        """(places of histories, their scores of the V' items), each of the places once."""
        dense = min(REQUESTS_PER_BATCH, max(CELLS // len(self.trained), 1))
        for chosen in _parts(by_popularity, dense):
            counts = self._popularity if popularity is None else torch.from_numpy(popularity[self.trained])
            yield chosen, counts.expand(len(chosen), -1)
        parts = _parts(by_model, REQUESTS_PER_BATCH if self.index.products else dense) if len(by_model) else []
        found: list[FactoredScores] = []
        for chosen in parts:
            with torch.inference_mode(), asking.opened(self.model, chosen) as (ranker, batch):
                scores = self.index.scores(ranker, batch)
            if self.index.products:
                assert isinstance(scores, FactoredScores)
                found.append(scores)
            else:
                yield chosen, scores
        if found:  # ranked together: requests share blocks
            yield by_model, FactoredScores(torch.cat([one.queries for one in found]), found[0].items)

    @cached_property
    def index(self) -> Index:
        """Of the items that may be recommended."""
        with torch.inference_mode():
            return Index.of(self.model, np.flatnonzero(self.trained), len(self.trained))

    @cached_property
    def shortlist(self) -> Shortlist:
        """The rough search among them. Raises ConfigError where the model has none."""
        with torch.inference_mode():
            return Shortlist.of(self.index, self.model)

    @cached_property
    def _popularity(self) -> Tensor:
        """[V'] training events."""
        return torch.from_numpy(self._training_events[self.trained])


def _sets(hidden: Sequence[Ints]) -> ItemSets:
    """The hidden rows of some histories, each once."""
    every = np.concatenate(hidden)
    bound = int(every.max(initial=0)) + 1
    owner = arrays.rows(arrays.offsets_of(np.array([len(one) for one in hidden])))
    each = np.sort(owner * bound + every)  # of all at once: np.unique of each would cost 30 us a history
    each = each[np.append(True, each[1:] != each[:-1])] if len(each) else each
    return ItemSets(arrays.offsets_of(np.bincount(each // bound, minlength=len(hidden))), each % bound)


def _some(scores: CatalogueScores, places: Ints) -> CatalogueScores:
    """Those of some histories."""
    at = torch.from_numpy(places)
    return FactoredScores(scores.queries[at], scores.items) if isinstance(scores, FactoredScores) else scores[at]


def _parts(places: Ints, size: int) -> list[Ints]:
    """Requests answered together."""
    return [places[start : start + size] for start in range(0, len(places), size)]
