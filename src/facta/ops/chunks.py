"""Where the tokens of jagged rows lie in chunks of C, and how far apart they are along a clock.

A chunk belongs to one row and holds its tokens as keys in their order. A query is put beside the chunk in which what it
sees ends: for a plain history that is its own; candidates that see one history share its last chunk, C of them a group.

Letters: B rows, T tokens, C tokens of a chunk, M chunks of keys, G groups of queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from facta import jagged
from facta.errors import ConfigError
from facta.types import TokenBatch


class Chunks:
    """Integers alone, made once for all layers of a forward pass. `cached` [B]: tokens before the call, of a memory."""

    def __init__(self, tokens: TokenBatch, size: int, cached: Tensor | None = None) -> None:
        self.offsets, count = tokens.offsets, jagged.lengths(tokens.offsets)
        longest = max(1, int(count.max()))
        self.size = min(size, longest)  # C
        self.count = -(-count // self.size)  # [B] chunks of each row
        self.first = jagged.offsets_of(self.count)
        self.token_row, self.place = jagged.rows(self.offsets), jagged.places(self.offsets)  # [T]
        self.sees = tokens.sees if cached is None else tokens.sees - cached[self.token_row]
        if bool((self.sees < 0).any()):
            raise ConfigError("A token sees fewer tokens than are kept of its row, and a state cannot be taken back.")
        self.single = self.size >= longest  # each row is one chunk
        self.plain = torch.equal(self.sees, self.place)  # each token sees all before it
        first = self.first[self.token_row]
        own = first + self.place // self.size
        self.key_slot = own * self.size + self.place % self.size  # [T] into M * C
        self.dense = len(self.place) == int(self.first[-1]) * self.size  # no chunk has room left
        self.query_slot = self.key_slot
        self.of: Tensor | None = None  # [G] the chunk of each group; None: the groups are the chunks
        if not self.plain:
            read = first + torch.minimum(self.sees // self.size, self.count[self.token_row] - 1)
            if not torch.equal(read, own):
                self.query_slot, self.of = self._grouped(read)

    def _grouped(self, read: Tensor) -> tuple[Tensor, Tensor]:
        """[T] slots into G * C of queries that read the chunks `read` [T], and [G] the chunk of each group."""
        asked = torch.bincount(read, minlength=int(self.first[-1]))  # [M]
        order = torch.argsort(read, stable=True)
        within = torch.empty_like(read)
        within[order] = jagged.places(jagged.offsets_of(asked))
        groups = jagged.offsets_of(-(-asked // self.size))
        return groups[read] * self.size + within, jagged.rows(groups)

    @cached_property
    def keys(self) -> Tensor:
        """[M, C] the token at each slot; 0 behind the end of a row."""
        return self._tokens(self.key_slot, int(self.first[-1]))

    @cached_property
    def queries(self) -> Tensor:
        """[G, C] the same of queries."""
        return self.keys if self.of is None else self._tokens(self.query_slot, len(self.of))

    def _tokens(self, slot: Tensor, chunks: int) -> Tensor:
        found = torch.zeros(chunks * self.size, dtype=torch.int64, device=slot.device)
        found[slot] = torch.arange(len(slot), device=slot.device)
        return found.view(chunks, self.size)

    @cached_property
    def row(self) -> Tensor:
        """[M] the row of each chunk."""
        return jagged.rows(self.first)

    @cached_property
    def key_place(self) -> Tensor:
        """[M, C] place in its row of each slot, also of those behind its end."""
        number = jagged.places(self.first)
        return number[:, None] * self.size + torch.arange(self.size, device=number.device)

    @cached_property
    def mask(self) -> Tensor:
        """[G, C, C] whether a query sees a key of its chunk: keys of later chunks are never beside it. A key that is
        the query itself is among them in plain rows, where its distance is the right one."""
        sees = self.sees + 1 if self.plain else self.sees
        return self.beside(self.key_place)[:, None, :] < sees[self.queries][:, :, None]

    @cached_property
    def itself(self) -> Tensor:
        """[T] whether a token is not among those that it sees: then it sees itself beside them."""
        return self.place >= self.sees

    @cached_property
    def last(self) -> Tensor:
        """[M] the last token of each chunk."""
        return torch.minimum(self.keys[:, 0] + self.size, self.offsets[self.row + 1]) - 1

    def taken(self, x: Tensor, at: Tensor) -> Tensor:
        """x [T, H, d] in chunks, [M, H, C, d] or [G, H, C, d]."""
        rows = x if self.dense and self.of is None else x.index_select(0, at.flatten())
        return rows.reshape(*at.shape, *x.shape[1:]).transpose(1, 2)

    def flat(self, x: Tensor) -> Tensor:
        """[G, H, C, d] of queries -> [T, H, d]."""
        rows = x.transpose(1, 2).flatten(0, 1)
        return rows if self.dense and self.of is None else rows.index_select(0, self.query_slot)

    def beside(self, of_chunks: Tensor) -> Tensor:
        """[M, …] -> [G, …] of the chunk that each group of queries reads."""
        return of_chunks if self.of is None else of_chunks.index_select(0, self.of)

    def steps(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Number by number: which of the rows of the step before have such a chunk, and these chunks."""
        rows = torch.arange(len(self.count), device=self.count.device)
        for number in range(int(self.count.max())):
            left = torch.nonzero(self.count[rows] > number).squeeze(1)
            rows = rows[left]
            yield left, self.first[rows] + number


class Clock:
    """Distances along a clock that never goes back: places, or times.

    A key stands at the latest moment of its row up to itself, a query at what it looks back from, and never before what
    it sees. So no distance is below 0, whatever the log says, and it depends on no later token. In a row in the order
    of time both are the tokens' own.
    """

    def __init__(self, chunks: Chunks, own: Tensor, asked: Tensor, start: Tensor, dtype: torch.dtype) -> None:
        """own, asked [T] int64: of the tokens as keys and as queries; start [B]: where a memory of the row ends, or its
        first token."""
        self.chunks, self.dtype, row = chunks, dtype, chunks.token_row
        self.key = _risen(torch.maximum(own, start[row]), row)  # [T]
        newest = self.key[(chunks.offsets[row] + chunks.sees - 1).clamp_min(0)]
        newest = torch.where(chunks.sees > 0, newest, start[row])
        self.own = torch.maximum(own, newest)  # [T] of a token that sees itself
        self.asked = torch.maximum(asked, self.own)  # [T]
        self.end = self.key[chunks.last]  # [M]
        number = jagged.places(chunks.first)
        self.begin = torch.where(number > 0, self.end.roll(1), start[chunks.row])  # [M]

    def _float(self, distance: Tensor) -> Tensor:
        return distance.clamp_min(0).to(self.dtype)  # below 0 are only those that nobody sees

    @cached_property
    def pairs(self) -> Tensor:
        """[G, C, C] from each key to each query."""
        keys = self.chunks.beside(self.key[self.chunks.keys])
        return self._float(self.asked[self.chunks.queries][:, :, None] - keys[:, None, :])

    @cached_property
    def since(self) -> Tensor:
        """[G, C] from the tokens before its chunk to each query."""
        return self._float(self.asked[self.chunks.queries] - self.chunks.beside(self.begin)[:, None])

    @cached_property
    def left(self) -> Tensor:
        """[M, C] from each key to the end of its chunk."""
        return self._float(self.end[:, None] - self.key[self.chunks.keys])

    @cached_property
    def across(self) -> Tensor:
        """[M] from the tokens before a chunk to its end."""
        return self._float(self.end - self.begin)

    @cached_property
    def itself(self) -> Tensor:
        """[T] from a token to what it looks back from."""
        return self._float(self.asked - self.own)

    def until(self, last: Tensor, chunk: Tensor) -> tuple[Tensor, Tensor]:
        """[R, C] from the keys of a chunk, and [R] from the tokens before it, to its tokens `last`."""
        now = self.key[last]
        return self._float(now[:, None] - self.key[self.chunks.keys[chunk]]), self._float(now - self.begin[chunk])


class Ends:
    """R tokens behind which states are asked for, the same for all layers."""

    def __init__(self, chunks: Chunks, last: Tensor) -> None:
        slot = chunks.key_slot[last]
        self.last, self.chunk = last, slot // chunks.size
        self.within = torch.arange(chunks.size, device=slot.device) <= (slot % chunks.size)[:, None]
        """[R, C] whether a key of the chunk is one of these tokens, or before it."""
        self._distances: dict[Clock, tuple[Tensor, Tensor]] = {}

    def along(self, clock: Clock) -> tuple[Tensor, Tensor]:
        """[R, C] from the keys of their chunks, and [R] from the tokens before these, along a clock."""
        if clock not in self._distances:
            self._distances[clock] = clock.until(self.last, self.chunk)
        return self._distances[clock]


def _risen(values: Tensor, row: Tensor) -> Tensor:
    """[T] the largest so far in each row: all rows at once, each lifted above the one before."""
    if len(values) == 0:
        return values
    low = values.min()
    lift = row * (values.max() - low + 1)
    return torch.cummax(values - low + lift, 0).values - lift + low
