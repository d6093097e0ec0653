"""Exact ranking over the full catalogue, streamed: the ranks of given targets, and the best k items with their scores.

Letters: Q requests, V items, P width, R targets in all, r rows of a chunk, c columns of a block, g groups of a block.

The scores of a chunk of requests are made block by block in a buffer that stays in the processor's cache. There they
are masked (-inf written at the few masked places), counted against the targets, and reduced to the maxima of groups
of columns; the best k then touch only the groups whose maximum beats a request's k-th best so far (`eval.best`). The
full [Q, V] never exists. `eval.reference` is the slow twin that defines what is computed.

Ties: the rank of a target is 1 + the number of other ranked items that score at least as high, so a tie never favours
a target; targets of one request that tie with each other share the places that they take together, lower rows first.
Lists break ties by row. An item that scores -inf is never listed, and as a target it is UNREACHABLE; masked items are
just that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facta.eval.best import BestItems
from facta.types import CatalogueScores, Product

UNREACHABLE = 1 << 62
"""The rank of a target that cannot be recommended because it is masked: a miss at every k, never a hit."""

ROWS, COLUMNS, GROUP = 1024, 512, 16
"""A block of 2 MB: half of it in the L2 of each of two cores, and large enough that calling an operator is cheap."""

Ints = NDArray[np.int64]


class ItemSets(NamedTuple):
    """A set of items for each request."""

    offsets: Ints  # [Q+1]
    items: Ints  # catalogue rows


class Ranking(NamedTuple):
    ranks: Ints  # [R] of each target
    lists: Ints  # [Q, k] catalogue rows, best first; -1 where fewer than k items are left
    scores: NDArray[np.float32]  # [Q, k]; -inf there


def rank_catalogue(
    scores: CatalogueScores, targets: ItemSets, masked: ItemSets, k: int, ranked: Ints | None = None
) -> Ranking:
    """Rank the catalogue, or its items `ranked` [V'] (ascending rows) alone, for each of Q requests, on the CPU.

    Targets are distinct within a request. Scores are float32; one that is not a number is a `ProtocolError`.
    """
    count = (scores.items if isinstance(scores, Product) else scores.T).shape[0]
    if ranked is None or len(ranked) == count:
        return _rank_all(scores, targets, masked, k)
    return _rank_subset(scores, targets, masked, k, ranked, count)


def _rank_subset(
    scores: CatalogueScores, targets: ItemSets, masked: ItemSets, k: int, ranked: Ints, count: int
) -> Ranking:
    """As `rank_catalogue`, in the numbering of the ranked items and back."""
    rows = torch.from_numpy(ranked)
    part = Product(scores.queries, scores.items[rows]) if isinstance(scores, Product) else scores[:, rows]
    place = np.full(count, -1)
    place[ranked] = np.arange(len(ranked))
    asked = _keep(targets, place[targets.items] >= 0)
    hidden = _keep(masked, place[masked.items] >= 0)
    found = _rank_all(part, asked._replace(items=place[asked.items]), hidden._replace(items=place[hidden.items]), k)
    ranks = np.full(len(targets.items), UNREACHABLE)
    ranks[place[targets.items] >= 0] = found.ranks
    return Ranking(ranks, np.append(ranked, -1)[found.lists], found.scores)  # -1 stays -1


def _keep(sets: ItemSets, chosen: NDArray[np.bool_]) -> ItemSets:
    before = np.concatenate([[0], np.cumsum(chosen)])
    return ItemSets(before[sets.offsets], sets.items[chosen])


def _rank_all(scores: CatalogueScores, targets: ItemSets, masked: ItemSets, k: int) -> Ranking:
    """Chunk by chunk; requests with many targets come first: the n-th targets of a chunk are a leading slice."""
    matrix = scores.queries if isinstance(scores, Product) else scores
    assert matrix.dtype == torch.float32, matrix.dtype
    order = np.argsort(-np.diff(targets.offsets), kind="stable")
    requests = len(order)
    ranks, lists = np.empty(len(targets.items), np.int64), np.empty((requests, k), np.int64)
    best = np.empty((requests, k), np.float32)
    for start in range(0, requests, ROWS):
        rows = order[start : start + ROWS]
        chunk = _Chunk(scores, rows, targets, masked)
        lists[rows], best[rows] = chunk.rank(k)
        ranks[chunk.targets] = chunk.ranks
    return Ranking(_settle_ties(ranks, targets), lists, best)


class _Chunk:
    """r requests that share blocks of scores; the j-th target of every request that has one is "lane" j."""

    def __init__(self, scores: CatalogueScores, rows: Ints, targets: ItemSets, masked: ItemSets) -> None:
        self._scores, self._rows = scores, torch.from_numpy(rows)
        self._vectors = scores.queries[self._rows] if isinstance(scores, Product) else None
        self.columns = scores.items.shape[0] if isinstance(scores, Product) else scores.shape[1]
        blocks = max(-(-self.columns // COLUMNS), 1)
        self.width = (
            max(-(-self.columns // (blocks * GROUP)), 1) * GROUP
        )  # the last block is hardly narrower than the others
        self._block = torch.empty(len(rows), self.width)
        self._hits = torch.empty(len(rows), self.width)
        count = np.diff(targets.offsets)[rows]  # descending
        self._lanes = [int((count > lane).sum()) for lane in range(int(count.max(initial=0)))]
        starts = targets.offsets[rows]
        self.targets = np.concatenate([starts[:size] + lane for lane, size in enumerate(self._lanes)] or [starts[:0]])
        self._items = targets.items[self.targets]
        target_row = np.concatenate([np.arange(size) for size in self._lanes] or [starts[:0]])
        self._own_place, self._own_order, self._own_ends = self._by_block(target_row, self._items)
        masked_count = np.diff(masked.offsets)[rows]
        at = np.repeat(masked.offsets[rows] - (np.cumsum(masked_count) - masked_count), masked_count)
        hidden = masked.items[at + np.arange(len(at))]
        self._hidden_place, _, self._hidden_ends = self._by_block(np.repeat(np.arange(len(rows)), masked_count), hidden)

    def rank(self, k: int) -> tuple[Ints, NDArray[np.float32]]:
        """The best k of each request; afterwards `ranks` holds those of its targets, lane by lane."""
        best = BestItems(len(self._rows), k, GROUP)
        own = self._pass(self._target_scores(), best)
        reachable = own > -np.inf
        if not np.array_equal(own[reachable], self._asked[reachable]):
            # This machine's product rounds by shape: compare with the very floats that stood in the blocks.
            self._pass(own, None)
        self.ranks = np.where(reachable, self._count, UNREACHABLE)
        return best.lists()

    def _pass(self, asked: NDArray[np.float32], best: BestItems | None) -> NDArray[np.float32]:
        """Count the scores that reach `asked`, one per target; returns the targets' own scores, -inf where masked."""
        self._asked, own = asked, np.empty_like(asked)
        bars = torch.split(torch.from_numpy(asked)[:, None], self._lanes)
        counts = [torch.zeros(size, dtype=torch.float64) for size in self._lanes]
        for number, first in enumerate(range(0, self.columns, self.width)):
            block = self._fill(first)
            flat = block.view(-1).numpy()
            flat[self._hidden_place[self._hidden_ends[number] : self._hidden_ends[number + 1]]] = -np.inf
            mine = slice(self._own_ends[number], self._own_ends[number + 1])
            own[self._own_order[mine]] = flat[self._own_place[mine]]
            for bar, count in zip(bars, counts, strict=True):
                hits = torch.ge(block[: len(bar)], bar, out=self._hits[: len(bar)])  # 1.0 or 0.0: sums are vectorised
                count += hits.sum(1)
            if best is not None:
                best.offer(block, first)
        self._count = torch.cat(counts).numpy().astype(np.int64) if counts else np.empty(0, np.int64)
        return own

    def _fill(self, first: int) -> Tensor:
        """The scores of the columns from `first` on; -inf behind the last."""
        end = min(first + self.width, self.columns)
        inside = self._block[:, : end - first]
        self._block[:, end - first :] = -np.inf
        if isinstance(self._scores, Product):
            assert self._vectors is not None
            torch.mm(self._vectors, self._scores.items[first:end].T, out=inside)
        else:
            inside.copy_(self._scores[:, first:end][self._rows])
        return self._block

    def _target_scores(self) -> NDArray[np.float32]:
        """[R'] each target's score, from a product of its own: the blocks that hold them come too late."""
        lanes = []
        for items in torch.split(torch.from_numpy(self._items), self._lanes):
            if isinstance(self._scores, Product):
                assert self._vectors is not None
                lanes.append((self._vectors[: len(items)] @ self._scores.items[items].T).diagonal())
            else:
                lanes.append(self._scores[self._rows[: len(items)], items])
        return torch.cat(lanes).numpy() if lanes else np.empty(0, np.float32)

    def _by_block(self, row: Ints, column: Ints) -> tuple[Ints, Ints, list[int]]:
        """Places (row, column) in the order of their blocks: offset in the block, original index, ends by block."""
        block = column // self.width
        order = np.argsort(block.astype(np.uint16), kind="stable")  # a radix sort; 65,536 blocks are 33 M items
        ends = np.concatenate([[0], np.cumsum(np.bincount(block, minlength=-(-self.columns // self.width)))])
        return (row * self.width + column % self.width)[order], order, ends.tolist()


def _settle_ties(ranks: Ints, targets: ItemSets) -> Ints:
    """m targets of a request with equal ranks were counted against each other: they take places m - 1 … 0 higher."""
    request = np.repeat(np.arange(len(targets.offsets) - 1), np.diff(targets.offsets))
    order = np.lexsort((targets.items, ranks, request))
    same = np.zeros(len(ranks), dtype=bool)
    same[1:] = (np.diff(request[order]) == 0) & (np.diff(ranks[order]) == 0) & (ranks[order][1:] != UNREACHABLE)
    start = np.maximum.accumulate(np.where(same, 0, np.arange(len(ranks)))) if len(ranks) else order
    place = np.arange(len(ranks)) - start
    size = np.bincount(start, minlength=len(ranks))[start] if len(ranks) else order
    settled = ranks.copy()
    settled[order] = ranks[order] - np.where(ranks[order] == UNREACHABLE, 0, size - 1 - place)
    return settled
