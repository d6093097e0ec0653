"""Exact ranking over the full catalogue, streamed: the ranks of given targets, and the best k items with their scores.

Letters: Q requests, V items, P width, R targets in all, k items of a list.

Requests are ranked in chunks, each by one thread and in blocks that stay in its core's cache
(`retrieval.score_block`); the full [Q, V] never exists. `retrieval.reference` is the slow twin that defines what is
computed.

Ties: the rank of a target is 1 + the number of other ranked items that score at least as high, so a tie never favours
a target; targets of one request that tie with each other share the places that they take together, lower rows first.
Lists break ties by row. An item that scores -inf is never listed, and as a target it is UNREACHABLE; masked items are
just that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from facta.arrays import Floats32, Ints
from facta.retrieval.item_sets import ItemSets, owners, take
from facta.retrieval.score_block import Chunk, padded
from facta.types import CatalogueScores, Product

__all__ = ["UNREACHABLE", "ItemSets", "Ranking", "rank_catalogue"]

UNREACHABLE = 1 << 62
"""The rank of a target that cannot be recommended because it is masked: a miss at every k, never a hit."""

ROWS, COLUMNS, GROUP = 512, 1024, 16
"""A block of 2 MB: it stays near its core, and calling an operator on it is cheap beside the operator's work."""


class Ranking(NamedTuple):
    ranks: Ints  # [R] of each target
    lists: Ints  # [Q, k] catalogue rows, best first; -1 where fewer than k items are left
    scores: Floats32  # [Q, k]; -inf there


def rank_catalogue(
    scores: CatalogueScores, targets: ItemSets, masked: ItemSets, k: int, count: int | None = None
) -> Ranking:
    """Rank all V items for each of Q requests, on the CPU; `retrieval.index` ranks a part of a catalogue.

    `count`: V, where vectors of zeros follow those of the items. Targets are distinct within a request. Scores are
    float32; one that is not a number is a `ProtocolError`. Chunks are taken in the order of their requests' numbers of
    targets, many first, and divided among threads.
    """
    order = np.argsort(-np.diff(targets.offsets), kind="stable")
    ranks, lists = np.empty(len(targets.items), np.int64), np.empty((len(order), k), np.int64)
    best = np.empty((len(order), k), np.float32)

    def rank(rows: Ints) -> None:
        asked, places = take(targets, rows)
        columns = COLUMNS * ROWS // padded(len(rows))  # few requests take wider blocks: as many bytes, fewer calls
        chunk = Chunk(_part(scores, rows), asked, take(masked, rows)[0], count=count, columns=columns, group=GROUP)
        reached, own, lists[rows], best[rows] = chunk.rank(k)
        ranks[places] = np.where(own > -np.inf, reached, UNREACHABLE)

    _in_threads(rank, [order[start : start + ROWS] for start in range(0, len(order), ROWS)])
    return Ranking(_settle_ties(ranks, targets), lists, best)


def _part(scores: CatalogueScores, rows: Ints) -> CatalogueScores:
    """The scores of some requests, float32 on the CPU."""
    at = torch.from_numpy(rows)
    return Product(scores.queries[at], scores.items) if isinstance(scores, Product) else scores[at]


def _in_threads(work: Callable[[Ints], None], parts: Sequence[Ints]) -> None:
    """Each part by one thread that shares its operators with no other: threads that never wait for each other lose
    little on a busy machine, where every shared operator would wait for the slowest; and equal items score equal."""
    threads = torch.get_num_threads()

    def alone(part: Ints) -> None:
        with torch.no_grad():
            work(part)

    torch.set_num_threads(1)
    try:
        if threads == 1 or len(parts) == 1:
            for part in parts:
                alone(part)
            return
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(alone, parts))
    finally:
        torch.set_num_threads(threads)  # a thread's setting reaches the libraries of all


def _settle_ties(ranks: Ints, targets: ItemSets) -> Ints:
    """m targets of a request with equal ranks were counted against each other: they take places m - 1 … 0 higher."""
    request = owners(targets)
    order = np.lexsort((targets.items, ranks, request))
    sorted_ranks = ranks[order]
    new = np.ones(len(ranks), dtype=bool)
    new[1:] = (np.diff(request[order]) != 0) | (np.diff(sorted_ranks) != 0) | (sorted_ranks[1:] == UNREACHABLE)
    group = np.cumsum(new) - 1
    last = np.append(np.flatnonzero(new)[1:], len(ranks)) - 1  # of each group
    settled = np.empty_like(ranks)
    settled[order] = sorted_ranks - (last[group] - np.arange(len(ranks)))
    return settled
