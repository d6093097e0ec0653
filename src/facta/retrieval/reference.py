"""The slow twins of `retrieval/exact.py` and `retrieval/capped.py`: one request after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence

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


def list_slowly(
    scores: Sequence[float],
    hidden: Collection[int],
    caps: Sequence[tuple[Mapping[int, Collection[Hashable]], int]],
    k: int,
) -> list[int]:
    """The best k items by the scores of all, without the hidden ones, under caps: (item -> its values, how many items
    of the list may have the same one)."""
    left = [item for item in range(len(scores)) if item not in hidden and scores[item] > -np.inf]
    taken: list[int] = []
    counts = [Counter[Hashable]() for _ in caps]
    for item in sorted(left, key=lambda i: -scores[i]):  # a stable sort: ties stay in row order
        own = [set(values.get(item, ())) for values, _ in caps]
        full = any(
            count[value] >= most for count, values, (_, most) in zip(counts, own, caps, strict=True) for value in values
        )
        if len(taken) < k and not full:
            taken.append(item)
            for count, values in zip(counts, own, strict=True):
                count.update(values)
    return taken


def _set_of(sets: ItemSets, request: int) -> list[int]:
    start, end = sets.offsets[request : request + 2]
    return [int(item) for item in sets.items[start:end]]
