"""The inner loop of ranking: a chunk of requests against the whole catalogue, block by block.

Letters: r rows (requests) of the chunk, c columns (items) of a block, V items, n targets of the chunk.

A block of scores is computed into a buffer that stays in a core's cache, masked (-inf at the few masked places),
searched for the best items, and counted against the targets. A lane is the j-th target of every request that has one;
requests are sorted by their number of targets, descending, so lane j is a prefix of the block's rows.

Equal item vectors must get equal scores, or rounding would break ties. But a library's matrix product adds up the last
few rows and columns in another order, and rounds by the alignment of its vectors. So every product has whole tiles of
rows (padded with zeros) and one width, begins at a multiple of a tile, and is computed by one thread. The last block
begins early enough to end with the catalogue's last tile. For repeated ranking, keep zeros after the last vector
(`with_whole_tiles`): otherwise the last block is copied, which for one request and a million items takes longer than
the answer.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from facta import arrays
from facta.arrays import Floats32, Ints
from facta.retrieval.item_sets import ItemSets, owners
from facta.retrieval.topk import TopK
from facta.types import CatalogueScores, FactoredScores

TILE_ROWS = 16  # a multiple of the rows that matrix products compute at once


def padded(rows: int) -> int:
    """Rows of the product for `count` requests: whole tiles, or a single row, which libraries compute differently."""
    return 1 if rows == 1 else _whole(rows, TILE_ROWS)


def with_whole_tiles(vectors: Tensor) -> Tensor:
    """[V, P] -> the vectors with zeros after the last one, up to a whole tile; contiguous."""
    return _padded(vectors.contiguous(), _whole(len(vectors), TILE_ROWS))


def _whole(count: int, size: int) -> int:
    """The least multiple of `size` that is at least `count`, and at least `size`."""
    return max(-(-count // size), 1) * size


class Chunk:
    """r requests that share blocks of at most `columns` scores, in groups of `group` columns (see `retrieval.topk`).

    `count`: V, if vectors of zeros follow those of the V items.
    """

    def __init__(
        self, scores: CatalogueScores, targets: ItemSets, masked: ItemSets, *, count: int | None, columns: int,
        group: int,
    ) -> None:  # fmt: skip
        self._scores, self._group = scores, group
        self._rows = len(targets.offsets) - 1
        height = padded(self._rows)
        self._vectors = _padded(scores.queries, height) if isinstance(scores, FactoredScores) else None
        self._matrix = scores.items if isinstance(scores, FactoredScores) else scores.T
        self._columns = len(self._matrix) if count is None else count
        blocks = max(-(-self._columns // columns), 1)
        self._width = _whole(-(-self._columns // blocks), group)  # the last block overlaps the one before by little
        self._last = _whole(self._columns, group) - self._width  # first column of the last block
        self._product = torch.empty(height, self._width)
        self._block = self._product[: self._rows]
        self._hits = torch.empty_like(self._block)
        row = owners(targets)
        lane = arrays.places(targets.offsets)
        self._by_lane = np.argsort(lane, kind="stable")  # [n] targets, lane after lane
        self._lanes = np.bincount(lane).tolist()
        self._row = row[self._by_lane]
        self._item = targets.items[self._by_lane]
        self._own = _Cells(self._row, self._item, self._width, self._columns, self._last)
        self._hidden = _Cells(owners(masked), masked.items, self._width, self._columns, self._last)

    def rank(self, k: int) -> tuple[Ints, Floats32, Ints, Floats32]:
        """[n] number of scores at least each target's own, [n] its own score (-inf if masked); [r, k] best columns and
        scores.
        """
        best = TopK(self._rows, k, self._group)
        asked = self._target_scores()
        count, own = self._count(asked, best)
        if not np.array_equal(own[own > -np.inf], asked[own > -np.inf]):
            # On this machine a product rounds by its shape: count again, against the exact floats of the blocks.
            count, own = self._count(own, None)
        order = np.argsort(self._by_lane)
        return count[order], own[order], *best.lists()

    def _count(self, asked: Floats32, best: TopK | None) -> tuple[Ints, Floats32]:
        """One pass over the catalogue: for each target the number of scores at least `asked`, and its own score."""
        own = np.empty_like(asked)
        bars = torch.split(torch.from_numpy(asked)[:, None], self._lanes)
        counts = [torch.zeros(size, dtype=torch.float64) for size in self._lanes]
        for number in range(-(-self._columns // self._width)):
            first = min(number * self._width, self._last)
            block = self._fill(first, number * self._width - first)
            flat = block.view(-1).numpy()
            flat[self._hidden.cells(number)] = -np.inf
            own[self._own.source(number)] = flat[self._own.cells(number)]
            if best is not None:
                best.offer(block, first)
            for lane, (bar, count) in enumerate(zip(bars, counts, strict=True)):
                hits = block if lane == len(bars) - 1 else self._hits  # the last lane may overwrite the scores
                torch.ge(block[: len(bar)], bar, out=hits[: len(bar)])  # 1.0 or 0.0: sums of floats are vectorised
                count += hits[: len(bar)].sum(1)
        return torch.cat([torch.empty(0, dtype=torch.float64), *counts]).numpy().astype(np.int64), own

    def _fill(self, first: int, known: int) -> Tensor:
        """The scores of the columns from `first` on; -inf for the first `known` ones, of
        the block before, and after V."""
        end = min(first + self._width, self._columns)
        if self._vectors is None:
            self._block[:, : end - first].copy_(self._matrix[first:end].T)
        else:
            items = _padded(self._matrix[first : first + self._width], self._width)
            torch.mm(self._vectors, items.T, out=self._product)
        if known:
            self._block[:, :known] = -np.inf
        if end < first + self._width:
            self._block[:, end - first :] = -np.inf
        return self._block

    def _target_scores(self) -> Floats32:
        """[n] the targets' own scores, computed before the blocks, by products of the shape of a block."""
        if self._vectors is None:
            return self._matrix[torch.from_numpy(self._item), torch.from_numpy(self._row)].numpy()
        scores = np.empty(len(self._item), dtype=np.float32)
        for start in range(0, len(scores), self._width):
            part = slice(start, start + self._width)
            items = np.resize(self._item[part], self._width)
            product = torch.mm(self._vectors, self._matrix[torch.from_numpy(items)].T, out=self._product)
            scores[part] = product.numpy()[self._row[part], np.arange(len(self._row[part]))]
        return scores


def _padded(vectors: Tensor, count: int) -> Tensor:
    """[count, P], padded with zeros."""
    return vectors if len(vectors) == count else torch.nn.functional.pad(vectors, (0, 0, 0, count - len(vectors)))


class _Cells:
    """Places (row, column) of the score matrix in the order of their blocks; the last block begins at column `last`."""

    def __init__(self, row: Ints, column: Ints, width: int, columns: int, last: int) -> None:
        assert columns <= width << 16, f"{columns} columns are more than 65,536 blocks of {width}"
        block = column // width
        first = np.minimum(block * width, last)
        self._order = np.argsort(block.astype(np.uint16), kind="stable")  # a radix sort
        self._cell = (row * width + column - first)[self._order]
        self._ends = arrays.offsets_of(np.bincount(block, minlength=-(-columns // width))).tolist()

    def cells(self, number: int) -> Ints:
        """Their indices in the flat block `number`."""
        return self._cell[self._ends[number] : self._ends[number + 1]]

    def source(self, number: int) -> Ints:
        """Their indices among all places."""
        return self._order[self._ends[number] : self._ends[number + 1]]
