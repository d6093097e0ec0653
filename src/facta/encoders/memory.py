"""What an encoder keeps of a row between calls: of attention its keys and values, of recurrence its state.

The memory is the caller's: it is handed in, read, and brought up to date. Between requests closed tokens alone are
kept, those before the newest event: that one looks back from a time and shows feedback that later events may change.
Within a request, `whole` rows keep it too, for all candidates of a request meet the same newest event.

Letters: B rows, n kept tokens of a row, L layers, T tokens of a call, m of them to be kept of a row.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facta.arrays import Ints
from facta.errors import ConfigError
from facta.ops.past import AddressedPast, Past, PastLayer
from facta.types import TokenBatch

SPARE = 32  # tokens of room behind those of a new buffer, at least
MAPPED = 1 << 16  # bytes


def room_for(tokens: int) -> int:
    """Tokens that a new buffer can hold: a quarter more than there are."""
    return tokens + max(SPARE, tokens // 4)


def _block(size: int, device: torch.device) -> Tensor:
    """[size] bytes. Large ones are mapped by themselves: the heap would keep what one person leaves in pieces that fit
    nobody else (half as much again after a while), and room that is not used yet costs no memory."""
    if device.type == "cpu" and size >= MAPPED and os.name == "posix":
        try:
            return torch.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=torch.uint8)
        except OSError:  # a process may have 65,530 mappings, as Linux is set
            pass
    return torch.empty(size, dtype=torch.uint8, device=device)


class Buffers:
    """Keys, values, positions and times of a row, with room behind them: a new token costs itself and no copy. They lie
    in one block of memory, which comes and goes as a whole."""

    def __init__(self, like: Sequence[tuple[Tensor, Tensor]], *, timed: bool, room: int) -> None:
        """`like`: keys and values of each layer, of any number of tokens."""
        first, self.used = like[0][0], 0
        columns = [((room,), torch.int64)] * (2 if timed else 1)
        columns += [((room, *x.shape[1:]), x.dtype) for layer in like for x in layer]
        sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in columns]
        block, at, made = _block(sum(sizes), first.device), 0, []
        for (shape, dtype), size in zip(columns, sizes, strict=True):
            made.append(block[at : at + size].view(dtype).view(shape))
            at += size
        self.position, self.time = made[0], made[1] if timed else None
        flat = made[2 if timed else 1 :]
        self.kv = list(zip(flat[::2], flat[1::2], strict=True))
        self.addresses = self._addresses()
        self.kinds = [_kind(*layer) for layer in self.kv]

    def _addresses(self) -> Ints:
        """[L, 4] where keys, values, positions and times begin; 0 where there are no times."""
        shared = [self.position.data_ptr(), 0 if self.time is None else self.time.data_ptr()]
        return np.array([[k.data_ptr(), v.data_ptr(), *shared] for k, v in self.kv], dtype=np.int64)

    @property
    def room(self) -> int:
        """Tokens that it can hold."""
        return len(self.position)

    @property
    def columns(self) -> list[Tensor]:
        """All of its tensors."""
        columns = [*(x for layer in self.kv for x in layer), self.position]
        return columns if self.time is None else [*columns, self.time]

    def write(self, columns: Sequence[Tensor]) -> None:
        """Tokens [m] of every column behind those that are used."""
        end = self.used + len(columns[0])
        for own, new in zip(self.columns, columns, strict=True):
            own[self.used : end] = new
        self.used = end


@dataclass(frozen=True)
class RowMemory:
    """Of the first `tokens` tokens of a row. It stays what it is: what grows out of it may write behind its tokens in
    the same buffers, once; a second time, after a cut say, the buffers are copied."""

    tokens: int  # n
    buffers: Buffers | None = None  # attention
    states: tuple[Tensor, ...] = ()  # recurrence: what it makes of the n tokens, as many tensors as it needs

    @property
    def nbytes(self) -> int:
        """Memory of keys, values and states, the room behind them included."""
        held = [*self.states, *([] if self.buffers is None else self.buffers.columns)]
        return sum(x.nbytes for x in held)

    def layer(self, number: int) -> PastLayer:
        """What an attention layer reads: views."""
        assert self.buffers is not None
        (k, v), time = self.buffers.kv[number], self.buffers.time
        n = self.tokens
        return PastLayer(k[:n], v[:n], self.buffers.position[:n], None if time is None else time[:n])

    def cut(self, tokens: int) -> RowMemory | None:
        """Of the first tokens alone, after a later one was amended; None where nothing can be kept of them."""
        if tokens >= self.tokens:
            return self
        if self.states or tokens <= 0:  # a state cannot be taken back
            return None
        return RowMemory(tokens, self.buffers)

    def copy(self) -> RowMemory:
        """In buffers of its own, with room."""
        return self if self.buffers is None else RowMemory(self.tokens, self._moved(self.tokens))

    def grown(self, columns: Sequence[Tensor]) -> RowMemory:
        """With tokens [m] behind: keys and values layer by layer, positions, and times where there are any."""
        count, buffers = self.tokens + len(columns[0]), self.buffers
        assert buffers is not None
        if buffers.used != self.tokens or count > buffers.room:
            buffers = self._moved(count)
        buffers.write(columns)
        return RowMemory(count, buffers)

    def _moved(self, count: int) -> Buffers:
        """Its tokens in new buffers, with room for `count` and more."""
        old = self.buffers
        assert old is not None
        new = Buffers(old.kv, timed=old.time is not None, room=room_for(count))
        new.write([x[: self.tokens] for x in old.columns])
        return new


class Memory:
    """Of B rows. After a call each holds its closed tokens, and a row of `whole` [B] its newest event's tokens too."""

    def __init__(self, rows: Sequence[RowMemory | None], whole: Sequence[bool] | None = None) -> None:
        self.rows = list(rows)
        self.whole = [False] * len(self.rows) if whole is None else list(whole)
        self.kept: Tensor | None = None  # [B] how many tokens of each row the next call leaves kept

    @property
    def cached(self) -> Tensor:
        """[B] kept tokens."""
        return torch.tensor([0 if row is None else row.tokens for row in self.rows], dtype=torch.int64)

    def layers(self, count: int) -> list[LayerMemory]:
        """What each of L attention layers reads."""
        if all(row is None or row.buffers is None for row in self.rows):
            return [LayerMemory([None] * len(self.rows)) for _ in range(count)]
        addresses = np.zeros((count, len(self.rows), 5), dtype=np.int64)
        for place, row in enumerate(self.rows):
            if row is not None and row.buffers is not None:
                addresses[:, place, :4], addresses[:, place, 4] = row.buffers.addresses, row.tokens
        tables = torch.from_numpy(addresses).unbind(0)
        return [LayerMemory(KeptLayer(self.rows, number, table)) for number, table in enumerate(tables)]

    def keep(self, tokens: TokenBatch, layers: Sequence[LayerMemory]) -> None:
        """Take over the tokens to be kept from what the layers of a call have met. Rows that grow out of one memory to
        the same length are one."""
        done: dict[tuple[int, int], RowMemory] = {}
        met = [x for layer in layers for x in layer.of_call]
        columns = [*met, tokens.position, *([] if tokens.time is None else [tokens.time])]
        for row, first, count in self._new(tokens):
            old = self.rows[row]
            if old is None:
                kv = [layer.of_call for layer in layers]
                old = RowMemory(0, Buffers(kv, timed=tokens.time is not None, room=room_for(count)))
            key = id(old), count
            if key not in done:
                done[key] = old.grown([x[first : first + count] for x in columns])
            self.rows[row] = done[key]

    def keep_states(self, tokens: TokenBatch, behind: Callable[[Tensor], Sequence[Tensor]]) -> None:
        """The same of recurrence: `behind` of tokens [R] of the call gives the states that hold each of them and all
        before it, [R, …] each."""
        new = self._new(tokens)
        if not new:
            return
        last = torch.tensor([first + count - 1 for _, first, count in new], device=tokens.offsets.device)
        found = behind(last)
        for place, (row, _, count) in enumerate(new):
            old, states = self.rows[row], tuple(one[place].clone() for one in found)
            self.rows[row] = RowMemory(count + (0 if old is None else old.tokens), states=states)

    def _new(self, tokens: TokenBatch) -> list[tuple[int, int, int]]:
        """(row, its first token in the call, how many of its tokens are to be kept and are not yet), where there are
        any."""
        if self.kept is None:
            raise ConfigError("A memory is brought up to date by Recommender.encode, which says what is kept.")
        counts = (self.kept - self.cached).tolist()
        firsts = tokens.offsets[:-1].tolist()
        return [(row, firsts[row], count) for row, count in enumerate(counts) if count > 0]


Kind = tuple[torch.Size, torch.Size, torch.dtype]


def _kind(k: Tensor, v: Tensor) -> Kind:
    """Heads and widths of keys and values [n, H, d], and their type."""
    return k.shape[1:], v.shape[1:], k.dtype


class KeptLayer(AddressedPast):
    """What an attention layer reads of the rows of a memory."""

    def __init__(self, rows: Sequence[RowMemory | None], number: int, addresses: Tensor) -> None:
        self.rows, self.number, self.addresses = list(rows), number, addresses

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: Any) -> Any:
        found = self.rows[row]
        return None if found is None else found.layer(self.number)

    @property
    def _buffers(self) -> Iterator[Buffers]:
        return (row.buffers for row in self.rows if row is not None and row.buffers is not None)

    @property
    def timed(self) -> bool:
        return all(one.time is not None for one in self._buffers)

    def fits(self, k: Tensor, v: Tensor) -> bool:
        kind = _kind(k, v)
        return all(one.kinds[self.number] == kind for one in self._buffers)


class LayerMemory:
    """One attention layer: what it reads of earlier calls, and what it has met in this one."""

    def __init__(self, past: Past) -> None:
        self.past = past
        self._k: Tensor | None = None
        self._v: Tensor | None = None

    def met(self, k: Tensor, v: Tensor) -> Past:
        """[T, H, dqk] and [T, H, dv] of the call; returns the past that stands before them."""
        self._k, self._v = k, v
        return self.past

    @property
    def of_call(self) -> tuple[Tensor, Tensor]:
        """What it has met."""
        assert self._k is not None and self._v is not None
        return self._k, self._v
