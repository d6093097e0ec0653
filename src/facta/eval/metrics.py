"""Ranking metrics, from the ranks of the relevant items of each request. Binary relevance, full catalogue.

Letters: Q requests, R relevant items in all. Ranks start at 1 and come from `retrieval.exact`, which breaks every tie
against the relevant item. For a request with r relevant items, h of them among the first k:

    HR@k            1 if h > 0
    Recall@k        h / r                     (uncapped: cannot reach 1 where r > k)
    RecallCapped@k  h / min(k, r)
    NDCG@k          Σ 1 / log2(1 + rank) over the h, divided by the same sum of an ideal list: ranks 1 … min(k, r)
    MRR@k           1 / first rank if h > 0   (MRR without k: no cut; 0 if no relevant item can be ranked)

Means are macro: every user counts once. (Micro NDCG, Σ DCG / Σ IDCG, is another number and not offered.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from facta import arrays
from facta.arrays import AnyInts, Floats, Ints
from facta.retrieval.exact import UNREACHABLE


def ranking_metrics(ranks: Ints, offsets: Ints, ks: Sequence[int]) -> dict[str, Floats]:
    """Every metric of every request: ranks [R] with offsets [Q+1] -> name -> [Q]. Requests have at least one relevant
    item.
    """
    request = arrays.rows(offsets)
    first = np.minimum.reduceat(ranks, offsets[:-1]) if len(ranks) else ranks
    values: dict[str, Floats] = {}
    for k in ks:
        values |= _at(k, ranks, request, first, np.diff(offsets))
    values["MRR"] = np.where(first < UNREACHABLE, 1.0 / first, 0.0)
    return values


def _at(k: int, ranks: Ints, request: Ints, first: Ints, relevant: Ints) -> dict[str, Floats]:
    inside = ranks <= k
    hits = np.bincount(request[inside], minlength=len(relevant)).astype(np.float64)
    gain = np.bincount(request[inside], weights=1.0 / np.log2(1.0 + ranks[inside]), minlength=len(relevant))
    capped = np.minimum(relevant, k)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(2.0 + np.arange(k)))])
    return {
        f"HR@{k}": (hits > 0).astype(np.float64),
        f"Recall@{k}": hits / relevant,
        f"RecallCapped@{k}": hits / capped,
        f"NDCG@{k}": gain / ideal[capped],
        f"MRR@{k}": np.where(first <= k, 1.0 / first, 0.0),
    }


def shown(means: Sequence[Mapping[str, float]], k: int) -> list[str]:
    """The metrics of lists of length k for a table. Recall is shown if it differs from HR in the compared means, that
    is if requests have several targets.
    """
    differs = any(one[f"HR@{k}"] != one[f"Recall@{k}"] for one in means)
    return [f"HR@{k}", *([f"Recall@{k}"] if differs else []), f"NDCG@{k}", f"MRR@{k}"]


def coverage(lists: AnyInts, ranked: int) -> float:
    """Share of the ranked items in at least one list [Q, k]; -1 pads shorter lists."""
    return len(np.unique(lists[lists >= 0])) / ranked


def mean_per_user(values: Floats, user: Ints) -> Floats:
    """[Q] values and [Q] places of their users 0 … U-1 -> [U]: each user's mean over its requests."""
    return np.bincount(user, weights=values) / np.bincount(user)


def lower_is_better(metric: str) -> bool:
    """Whether lower values of a metric, by its printed name as in NE(click), are better: those of losses and errors."""
    return metric.partition("(")[0] in ("NE", "LogLoss", "ECE", "MAE", "NMAE")
