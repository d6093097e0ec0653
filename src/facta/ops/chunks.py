"""Chunks of C tokens of jagged rows, and the distances of tokens along a clock.

A chunk holds tokens of one row as keys, in order. A query reads the chunk with the last token that it sees: in a plain
history that is its own chunk; candidates that see one history share its last chunk, C of them in a group.

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
    """Integers, computed once for all layers of a forward pass. `cached` [B]: cached
    tokens before those of the call."""

    def __init__(self, tokens: TokenBatch, size: int, cached: Tensor | None = None) -> None:
        self.offsets, count = tokens.offsets, jagged.lengths(tokens.offsets)
        longest = max(1, int(count.max()))
        self.size = min(size, longest)  # C
        self.count = -(-count // self.size)  # [B] chunks of each row
        self.first = jagged.offsets_of(self.count)
        self.token_row, self.place = jagged.rows(self.offsets), jagged.places(self.offsets)  # [T]
        self.sees = tokens.sees if cached is None else tokens.sees - cached[self.token_row]
        if bool((self.sees < 0).any()):
            raise ConfigError(
                "Found a token that sees fewer tokens than are cached of its row; a state cannot be undone."
            )
        self.single = self.size >= longest  # every row is one chunk
        self.plain = torch.equal(self.sees, self.place)  # every token sees all before it
        first = self.first[self.token_row]
        own = first + self.place // self.size
        self.key_slot = own * self.size + self.place % self.size  # [T] into M * C
        self.dense = len(self.place) == int(self.first[-1]) * self.size  # all chunks are full
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
        """[M, C] the token at each slot; 0 after the end of a row."""
        return self._tokens(self.key_slot, int(self.first[-1]))

    @cached_property
    def queries(self) -> Tensor:
        """[G, C] the query at each slot."""
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
        """[M, C] place in its row of each slot, also after the row's end."""
        number = jagged.places(self.first)
        return number[:, None] * self.size + torch.arange(self.size, device=number.device)

    @cached_property
    def mask(self) -> Tensor:
        """[G, C, C] whether a query sees a key of the chunk that it reads. In plain rows the query itself is one of the
        keys, with the right distance.
        """
        sees = self.sees + 1 if self.plain else self.sees
        return self.beside(self.key_place)[:, None, :] < sees[self.queries][:, :, None]

    @cached_property
    def itself(self) -> Tensor:
        """[T] whether a token sees itself in addition to its visible tokens, because it is not one of them."""
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
        """[M, …] -> [G, …] the values of the chunk that each group of queries reads."""
        return of_chunks if self.of is None else of_chunks.index_select(0, self.of)

    def steps(self) -> Iterator[tuple[Tensor, Tensor]]:
        """For chunk numbers 0, 1, …: the rows of the previous step that have this chunk, and the chunks."""
        rows = torch.arange(len(self.count), device=self.count.device)
        for number in range(int(self.count.max())):
            left = torch.nonzero(self.count[rows] > number).squeeze(1)
            rows = rows[left]
            yield left, self.first[rows] + number


class Clock:
    """Distances along a clock that never goes back (positions or times).

    A key stands at the running maximum of its row's moments; a query stands at its query time, but never before the
    tokens that it sees. So no distance is negative, also in an unordered log, and none depends on later tokens. In a
    row in order of time both are the tokens' own moments.
    """

    def __init__(self, chunks: Chunks, own: Tensor, asked: Tensor, start: Tensor, dtype: torch.dtype) -> None:
        """own, asked [T] int64: moments of the tokens as keys and as queries; start [B]: the end of the row's cache, or
        its first token.
        """
        self.chunks, self.dtype, row = chunks, dtype, chunks.token_row
        self.key = _risen(torch.maximum(own, start[row]), row)  # [T]
        newest = self.key[(chunks.offsets[row] + chunks.sees - 1).clamp_min(0)]
        newest = torch.where(chunks.sees > 0, newest, start[row])
        self.own = torch.maximum(own, newest)  # [T] of a token to itself
        self.asked = torch.maximum(asked, self.own)  # [T]
        self.end = self.key[chunks.last]  # [M]
        number = jagged.places(chunks.first)
        self.begin = torch.where(number > 0, self.end.roll(1), start[chunks.row])  # [M]

    def _float(self, distance: Tensor) -> Tensor:
        return distance.clamp_min(0).to(self.dtype)  # only invisible pairs are below 0

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
        """[T] from a token to its query time."""
        return self._float(self.asked - self.own)

    def until(self, last: Tensor, chunk: Tensor) -> tuple[Tensor, Tensor]:
        """[R, C] from the keys of a chunk, and [R] from earlier tokens, to its tokens `last`."""
        now = self.key[last]
        return self._float(now[:, None] - self.key[self.chunks.keys[chunk]]), self._float(now - self.begin[chunk])


class Ends:
    """R tokens after which states are needed, the same for all layers."""

    def __init__(self, chunks: Chunks, last: Tensor) -> None:
        slot = chunks.key_slot[last]
        self.last, self.chunk = last, slot // chunks.size
        self.within = torch.arange(chunks.size, device=slot.device) <= (slot % chunks.size)[:, None]
        """[R, C] whether a key of the chunk is at or before the token."""
        self._distances: dict[Clock, tuple[Tensor, Tensor]] = {}

    def along(self, clock: Clock) -> tuple[Tensor, Tensor]:
        """[R, C] distances along a clock from the keys of their chunks, and [R] from earlier tokens."""
        if clock not in self._distances:
            self._distances[clock] = clock.until(self.last, self.chunk)
        return self._distances[clock]


def _risen(values: Tensor, row: Tensor) -> Tensor:
    """[T] the running maximum of each row, for all rows at once: each row is raised above the one before."""
    if len(values) == 0:
        return values
    low = values.min()
    lift = row * (values.max() - low + 1)
    return torch.cummax(values - low + lift, 0).values - lift + low
