"""A search of a long history for the events that matter to the target's item.

Letters: E input events, S targets, s targets of a piece, e sources of a piece, H heads, K events found at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from facta import jagged
from facta.types import SequenceBatch

SCORES_AT_ONCE = 1 << 18  # pairs of a target and a source, for each head
LEAST_INT = torch.iinfo(torch.int64).min


class Found(NamedTuple):
    """The sources found for s targets."""

    source: Tensor  # [s, K] sources as in `Recent`; arbitrary where `there` is false
    there: Tensor  # [s, K] bool; false: fewer than K were found

    def parts(self) -> Iterator[tuple[slice, Found]]:
        """In parts of whole targets, each with about `SCORES_AT_ONCE` sources."""
        step = max(SCORES_AT_ONCE // max(self.there.shape[1], 1), 1)
        for first in range(0, len(self.there), step):
            some = slice(first, first + step)
            yield some, Found(self.source[some], self.there[some])


def together(found: Sequence[Found], batch: SequenceBatch) -> Found:
    """The results of all pieces of a batch as one; K is the largest of the pieces."""
    longest = max((one.there.shape[1] for one in found), default=0)
    sources, theres = [batch.offsets.new_zeros(0, longest)], [batch.offsets.new_zeros(0, longest, dtype=torch.bool)]
    for source, there in found:
        sources.append(F.pad(source, (0, longest - source.shape[1])))
        theres.append(F.pad(there, (0, longest - there.shape[1])))
    return Found(torch.cat(sources), torch.cat(theres))


@dataclass(frozen=True)
class Piece:
    """Targets [first, last) of one row, and all sources that one of them may see."""

    first: int
    last: int
    source: Tensor  # [e] as in `Recent`: earlier lists, then events, oldest first
    seen: Tensor  # [s, e] bool

    @property
    def every(self) -> Found:
        """All sources of each target."""
        return Found(self.source.expand(self.seen.shape), self.seen)


def pieces(batch: SequenceBatch, window: int, *, skip: int = 0, lists: int = 0) -> Iterator[Piece]:
    """All targets in order; each sees the last N events before it without the newest `skip`, and the last N entries of
    each of `lists` earlier lists. A piece has about `SCORES_AT_ONCE` pairs of a target and a source.
    """
    offsets, targets = batch.offsets.tolist(), batch.targets.offsets.tolist()
    entries, cuts = _entries(batch, window, lists)
    for row, (start, end) in enumerate(pairwise(targets)):
        earlier = entries[cuts[row] : cuts[row + 1]]
        longest = len(earlier) + min(offsets[row + 1] - offsets[row], 2 * window)
        step = max(SCORES_AT_ONCE // max(longest, 1), 1)
        for first in range(start, end, step):
            last = min(first + step, end)
            after = batch.targets.num_visible[first:last, None]
            newest, oldest = (after - skip).clamp_min(0), (after - window).clamp_min(0)
            place = torch.arange(int(oldest.min()), int(newest.max()), device=after.device)
            seen = (place >= oldest) & (place < newest)
            listed = seen.new_ones(last - first, len(earlier))
            yield Piece(first, last, torch.cat([earlier, offsets[row] + place]), torch.cat([listed, seen], dim=1))


def _entries(batch: SequenceBatch, window: int, lists: int) -> tuple[Tensor, list[int]]:
    """[n] the last N entries of each list of every row, as sources; and the offsets of the rows."""
    rows = len(batch.offsets) - 1
    if batch.lists is None or not lists:
        return batch.offsets.new_zeros(0), [0] * (rows + 1)
    cell = jagged.rows(batch.lists.offsets) * lists + batch.lists.which  # ascending
    of_cells = torch.bincount(cell, minlength=lists * rows)
    counts = of_cells.clamp_max(window)
    first = len(batch.events.item) + of_cells.cumsum(0) - counts
    return jagged.spans(first, counts), jagged.offsets_of(counts.view(rows, lists).sum(dim=1)).tolist()


def best(score: Tensor, piece: Piece, most: int) -> Found:
    """The K sources of each target with the highest scores [H, s, e], oldest first.

    Heads take turns: the best source of each, then the second of each, until K different ones are found (Chang et al.
    2023). Of equal scores the newer source wins, so that results are deterministic.
    """
    heads, targets, count = score.shape
    most = min(most, count)
    place = torch.arange(count, device=score.device)
    order = ((_ascending(score) << 32) | place).masked_fill(~piece.seen, LEAST_INT)
    listed = order.topk(most, dim=2).indices  # [H, s, K]
    turn = torch.arange(heads * most, device=score.device).view(most, heads).T[:, None].expand(listed.shape)
    none = heads * most
    turns = torch.full((targets, count), none, device=score.device)
    turns = turns.scatter_reduce(1, listed.transpose(0, 1).flatten(1), turn.transpose(0, 1).flatten(1), "amin")
    turns = turns.masked_fill(~piece.seen, none)
    own, chosen = turns.topk(most, dim=1, largest=False)
    chosen, order_of_time = torch.where(own < none, chosen, count).sort(dim=1)
    return Found(piece.source[chosen.clamp_max(count - 1)], (own < none).gather(1, order_of_time))


def _ascending(score: Tensor) -> Tensor:
    """float -> int64 of 32 bits in the same order, read as float32; 0 and -0 are equal."""
    bits = (score.detach().float() + 0.0).view(torch.int32).long()
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def alike(batch: SequenceBatch, code: Tensor, asked: Tensor, *, window: int, skip: int, most: int) -> Found:
    """The newest K events with the code of the target's item, oldest first.

    `code` [E] of the events' items, `asked` [S] of the targets'; code 0 is undefined and finds nothing. A target sees
    the last N events before it without the newest `skip`. The cost is that of sorting the events, whatever N is.
    """
    row, after = jagged.rows(batch.targets.offsets), batch.targets.num_visible
    codes = int(torch.cat([code, asked, asked.new_zeros(1)]).max()) + 1
    group = jagged.rows(batch.offsets) * codes + code
    order = torch.argsort(group, stable=True)
    keys, size = group[order] * (len(code) + 1) + order, len(code) + 1
    own = (row * codes + asked) * size + batch.offsets[row]
    low, high = (torch.searchsorted(keys, own + (after - by).clamp_min(0)) for by in (window, skip))
    count = (high - low).clamp(0, most) * (asked > 0)
    longest = int(torch.cat([count, count.new_zeros(1)]).max())
    back = torch.arange(-longest, 0, device=code.device)
    there = back >= -count[:, None]
    return Found(order[(high[:, None] + back).clamp_min(0)], there)


def weights(score: Tensor, there: Tensor) -> Tensor:
    """[s, K, H] scores, [s, K] -> softmax over the found sources; zeros for a target without any."""
    least = torch.finfo(score.dtype).min
    return score.masked_fill(~there[:, :, None], least).softmax(dim=1) * there[:, :, None]
