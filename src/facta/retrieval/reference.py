"""The slow twin of `retrieval/exact.py`: one request after the other, one target after the other."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from facta.arrays import Ints
from facta.retrieval.exact import UNREACHABLE, Ranking
from facta.retrieval.item_sets import ItemSets


def rank_slowly(scores: Tensor, targets: ItemSets, masked: ItemSets, k: int, ranked: Ints | None = None) -> Ranking:
    """The results of `rank_catalogue`, from dense scores [Q, V]."""
    requests, count = scores.shape
    ranks: list[int] = []
    lists = np.full((requests, k), -1)
    best = np.full((requests, k), -np.inf, dtype=np.float32)
    allowed = set(range(count)) if ranked is None else set(ranked.tolist())
    for request, row in enumerate(scores.tolist()):
        hidden, wanted = _set_of(masked, request), _set_of(targets, request)
        left = [item for item in sorted(allowed - set(hidden)) if row[item] > -np.inf]
        for place, item in enumerate(sorted(left, key=lambda i: -row[i])[:k]):  # a stable sort: ties stay in row order
            lists[request, place], best[request, place] = item, row[item]
        against = sorted(left, key=lambda i: (-row[i], i in wanted))  # relevant items last among equal scores
        places = {item: place + 1 for place, item in enumerate(against)}
        ranks += [places.get(item, UNREACHABLE) for item in wanted]
    return Ranking(np.array(ranks, dtype=np.int64), lists, best)


def _set_of(sets: ItemSets, request: int) -> list[int]:
    start, end = sets.offsets[request : request + 2]
    return [int(item) for item in sets.items[start:end]]
