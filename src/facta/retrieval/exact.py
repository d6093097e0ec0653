"""Exact ranking of the full catalogue, streamed: ranks of given targets, and the best k items with their scores.

Letters: Q requests, V items, P width, R targets in all, k items of a list.

Requests are ranked in chunks, each by one thread, in blocks that stay in its core's cache (`retrieval/score_block.py`);
the full [Q, V] never exists. For a single chunk that needs only lists, the catalogue is divided among the threads. The
slow twin `retrieval/reference.py` defines the results.

Ties: the rank of a target is 1 + the number of other ranked items that score at least as high, so a tie never favours a
target; tied targets of one request take consecutive places, lower rows first. Lists break ties by row. An item with the
score -inf, as masked items have, is never listed, and as a target it is UNREACHABLE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from facta.arrays import Floats32, Ints
from facta.retrieval.item_sets import ItemSets, keep, owners, take
from facta.retrieval.score_block import TILE_ROWS, Chunk, padded
from facta.retrieval.topk import best_of
from facta.types import CatalogueScores, FactoredScores

__all__ = ["UNREACHABLE", "ItemSets", "Ranking", "rank_catalogue"]

UNREACHABLE = 1 << 62
"""The rank of a masked target: a miss at every k."""

ROWS, COLUMNS, GROUP = 512, 1024, 16
"""A block of 2 MB: small enough for a core's cache, large enough to outweigh the cost of calling an operator."""


SPAN_SCORES = 1 << 17
"""The least scores of a thread's span of the catalogue: 3 ms of work, which outweigh the cost of a thread."""

Part = TypeVar("Part")
Made = TypeVar("Made")


class Ranking(NamedTuple):
    ranks: Ints  # [R] of each target
    lists: Ints  # [Q, k] catalogue rows, best first; -1 if fewer than k items are left
    scores: Floats32  # [Q, k]; -inf there


def rank_catalogue(
    scores: CatalogueScores, targets: ItemSets, masked: ItemSets, k: int, count: int | None = None
) -> Ranking:
    """Rank all V items for each of Q requests, on the CPU; `retrieval/index.py` ranks a part of a catalogue.

    `count`: V, if vectors of zeros follow those of the items. Targets are distinct within a request. Scores are
    float32; NaN is a `ProtocolError`. Requests are sorted by their number of targets, descending, and chunks are
    divided among threads.
    """
    items = count or (scores.items if isinstance(scores, FactoredScores) else scores.T).shape[0]
    spans = min(torch.get_num_threads(), items * padded(len(targets.offsets) - 1) // SPAN_SCORES)
    if spans > 1 and len(targets.offsets) <= ROWS and not len(targets.items):
        return _lists_by_span(scores, masked, k, items, spans)
    order = np.argsort(-np.diff(targets.offsets), kind="stable")
    ranks, lists = np.empty(len(targets.items), np.int64), np.empty((len(order), k), np.int64)
    best = np.empty((len(order), k), np.float32)

    def rank(rows: Ints) -> None:
        asked, places = take(targets, rows)
        columns = COLUMNS * ROWS // padded(len(rows))  # few requests take wider blocks of as many bytes
        chunk = Chunk(_part(scores, rows), asked, take(masked, rows)[0], count=count, columns=columns, group=GROUP)
        reached, own, lists[rows], best[rows] = chunk.rank(k)
        ranks[places] = np.where(own > -np.inf, reached, UNREACHABLE)

    _in_threads(rank, [order[start : start + ROWS] for start in range(0, len(order), ROWS)])
    return Ranking(_settle_ties(ranks, targets), lists, best)


def _lists_by_span(scores: CatalogueScores, masked: ItemSets, k: int, count: int, spans: int) -> Ranking:
    """Lists for one chunk of requests without targets: each thread ranks a span of the catalogue, then lists are
    merged.

    Spans begin at multiples of a tile, as blocks do.
    """
    width = -(-count // (spans * TILE_ROWS)) * TILE_ROWS
    none = ItemSets(np.zeros_like(masked.offsets), np.empty(0, np.int64))

    def rank(first: int) -> tuple[Ints, Floats32]:
        size = min(width, count - first)
        hidden = keep(masked, (masked.items >= first) & (masked.items < first + size))
        hidden = hidden._replace(items=hidden.items - first)
        columns = COLUMNS * ROWS // padded(len(masked.offsets) - 1)
        chunk = Chunk(_span(scores, first, size), none, hidden, count=size, columns=columns, group=GROUP)
        _, _, lists, best = chunk.rank(k)
        return np.where(lists < 0, -1, lists + first), best

    found = _in_threads(rank, range(0, count, width))
    return Ranking(none.items, *best_of([lists for lists, _ in found], [best for _, best in found], k))


def _span(scores: CatalogueScores, first: int, size: int) -> CatalogueScores:
    """The scores of a span of items; vectors of zeros after the last item stay there."""
    if isinstance(scores, FactoredScores):
        return FactoredScores(scores.queries, scores.items[first : first + -(-size // TILE_ROWS) * TILE_ROWS])
    return scores[:, first : first + size]


def _part(scores: CatalogueScores, rows: Ints) -> CatalogueScores:
    """The scores of some requests, float32 on the CPU."""
    at = torch.from_numpy(rows)
    return FactoredScores(scores.queries[at], scores.items) if isinstance(scores, FactoredScores) else scores[at]


def _in_threads(work: Callable[[Part], Made], parts: Sequence[Part]) -> list[Made]:
    """Each part by one thread with single-threaded operators: on a busy machine a shared operator would wait for the
    slowest thread. Also, equal items then get equal scores.
    """
    threads = torch.get_num_threads()

    def alone(part: Part) -> Made:
        with torch.no_grad():
            return work(part)

    torch.set_num_threads(1)
    try:
        if threads == 1 or len(parts) == 1:
            return [alone(part) for part in parts]
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(alone, parts))
    finally:
        torch.set_num_threads(threads)  # the setting of one thread applies to all threads of the libraries


def _settle_ties(ranks: Ints, targets: ItemSets) -> Ints:
    """m tied targets of a request were counted against each other; they move up by m - 1 … 0 places."""
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
