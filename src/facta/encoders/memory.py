"""What an encoder keeps of a row between calls: of attention its keys and values, of recurrence its state.

The memory is the caller's: it is handed in, read, and brought up to date. Nothing but closed tokens is ever kept: those
before the newest event, which look back from a time and show feedback that later events may change.

Letters: B rows, n kept tokens of a row, L layers, T tokens of a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from facta.errors import ConfigError
from facta.ops.past import PastLayer
from facta.types import TokenBatch


@dataclass(frozen=True)
class RowMemory:
    """Of the first `tokens` tokens of a row."""

    tokens: int  # n
    layers: tuple[PastLayer, ...] = ()  # attention, layer by layer
    states: tuple[Tensor, ...] = ()  # recurrence: what it makes of the n tokens, as many tensors as it needs

    @property
    def nbytes(self) -> int:
        """Of keys, values and states."""
        return sum(x.nbytes for layer in self.layers for x in (layer.k, layer.v)) + sum(x.nbytes for x in self.states)

    def cut(self, tokens: int) -> RowMemory | None:
        """Of the first tokens alone, after a later one was amended; None where nothing can be kept of them."""
        if tokens >= self.tokens:
            return self
        if self.states or tokens == 0:  # a state cannot be taken back
            return None
        return RowMemory(tokens, tuple(_span(layer, tokens) for layer in self.layers))


class Memory:
    """Of B rows. `closed` [B] says how many tokens of each row the next call leaves kept."""

    def __init__(self, rows: Sequence[RowMemory | None]) -> None:
        self.rows = list(rows)
        self.closed: Tensor | None = None

    @property
    def cached(self) -> Tensor:
        """[B] kept tokens."""
        return torch.tensor([0 if row is None else row.tokens for row in self.rows], dtype=torch.int64)

    def layers(self, count: int) -> list[LayerMemory]:
        """What each of L attention layers reads."""
        return [LayerMemory([None if row is None else row.layers[i] for row in self.rows]) for i in range(count)]

    def keep(self, tokens: TokenBatch, layers: Sequence[LayerMemory]) -> None:
        """Take over the closed tokens of a call from what its layers have met."""
        for row, first, count in self._new(tokens):
            old, span = self.rows[row], slice(first, first + count)
            grown = [layer.grown(row, tokens, span) for layer in layers]
            self.rows[row] = RowMemory(count + (0 if old is None else old.tokens), tuple(grown))

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
        """(row, its first token in the call, how many of its tokens are closed and not yet kept), where there are
        any."""
        if self.closed is None:
            raise ConfigError("A memory is brought up to date by Recommender.encode, which says what is closed.")
        counts = (self.closed - self.cached).tolist()
        firsts = tokens.offsets[:-1].tolist()
        return [(row, firsts[row], count) for row, count in enumerate(counts) if count > 0]


class LayerMemory:
    """One attention layer: what it reads of earlier calls, and what it has met in this one."""

    def __init__(self, past: list[PastLayer | None]) -> None:
        self.past = past
        self._k: Tensor | None = None
        self._v: Tensor | None = None

    def met(self, k: Tensor, v: Tensor) -> list[PastLayer | None]:
        """[T, H, dqk] and [T, H, dv] of the call; returns the past that stands before them."""
        self._k, self._v = k, v
        return self.past

    def grown(self, row: int, tokens: TokenBatch, span: slice) -> PastLayer:
        """The past of a row with some tokens of the call behind it."""
        assert self._k is not None and self._v is not None
        time = None if tokens.time is None else tokens.time[span]
        new, old = PastLayer(self._k[span], self._v[span], tokens.position[span], time), self.past[row]
        if old is None:
            return replace(new, k=new.k.clone(), v=new.v.clone())  # a view would hold all tokens of the call
        times = None if old.time is None or time is None else torch.cat([old.time, time])
        return PastLayer(
            torch.cat([old.k, new.k]), torch.cat([old.v, new.v]), torch.cat([old.position, new.position]), times
        )


def _span(layer: PastLayer, tokens: int) -> PastLayer:
    time = None if layer.time is None else layer.time[:tokens]
    return PastLayer(layer.k[:tokens].clone(), layer.v[:tokens].clone(), layer.position[:tokens], time)
