"""Linear attention, at a cost linear in T:

    o_t = Σ_{j seen by t} e^{-rate (c_t - c_j)} (q_t·k_j) v_j        c the clock of the decay

Within a chunk all pairs are multiplied; earlier tokens are a state, S = Σ_j e^{-rate (c - c_j)} k_jᵀ v_j. Both are
exact (the chunks of RetNet, Sun et al. 2023). A decay is the exponential of a difference of clocks; a quotient of two
powers would be 0 / 0 in long rows.

Letters: B rows, T tokens, C tokens of a chunk, M chunks, G groups of queries, H heads, dk, dv head widths.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from facta.ops.chunks import Chunks, Clock, Ends


@dataclass(frozen=True)
class Decay:
    """The decay of each head along a clock."""

    clock: Clock
    rate: Tensor  # [H], at least 0

    def over(self, distance: Tensor) -> Tensor:
        """[A, …] -> [A, H, …]."""
        rate = self.rate.view(-1, *[1] * (distance.dim() - 1))
        return torch.exp(distance.unsqueeze(1) * -rate)


@dataclass(frozen=True)
class Linear:
    """The outputs of all tokens, and the tensors that states are computed from."""

    found: Tensor  # [T, H, dv]
    chunks: Chunks
    decay: Decay | None
    keys: Tensor  # [M, H, C, dk]
    values: Tensor  # [M, H, C, dv]
    states: Tensor | None  # [M, H, dk, dv] before each chunk; None: all are zero

    def behind(self, ends: Ends) -> Tensor:
        """[R, H, dk, dv] the state after each of R tokens."""
        keys = self.keys.index_select(0, ends.chunk) * ends.within[:, None, :, None]
        state = None if self.states is None else self.states.index_select(0, ends.chunk)
        if self.decay is not None:
            inside, before = ends.along(self.decay.clock)
            keys = keys * self.decay.over(inside)[..., None]
            state = None if state is None else state * self.decay.over(before)[..., None, None]
        added = keys.mT @ self.values.index_select(0, ends.chunk)
        return added if state is None else state + added


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, chunks: Chunks, decay: Decay | None = None, before: Tensor | None = None
) -> Linear:
    """q, k [T, H, dk] and v [T, H, dv]; `before` [B, H, dk, dv]: the cached state of each row."""
    keys, values = chunks.taken(k, chunks.keys), chunks.taken(v, chunks.keys)
    queries = chunks.taken(q, chunks.queries)  # [G, H, C, dk]
    states = _states(keys, values, chunks, decay, before)
    scores = (queries @ chunks.beside(keys).mT) * chunks.mask[:, None]
    if decay is not None:
        scores = scores * decay.over(decay.clock.pairs)
    found = scores @ chunks.beside(values)
    if states is not None:
        asked = queries if decay is None else queries * decay.over(decay.clock.since)[..., None]
        found = found + asked @ chunks.beside(states)
    found = chunks.flat(found)
    if not chunks.plain:
        found = found + _itself(q, k, v, chunks, decay)
    return Linear(found, chunks, decay, keys, values, states)


def _itself(q: Tensor, k: Tensor, v: Tensor, chunks: Chunks, decay: Decay | None) -> Tensor:
    """[T, H, dv] the share of tokens that see themselves in addition."""
    score = (q * k).sum(2) * chunks.itself[:, None]  # [T, H]
    return (score if decay is None else score * decay.over(decay.clock.itself))[..., None] * v


def _states(keys: Tensor, values: Tensor, chunks: Chunks, decay: Decay | None, before: Tensor | None) -> Tensor | None:
    """[M, H, dk, dv] before each chunk: from chunk to chunk, all rows at once. Slots after the end of a row are in its
    last chunk, which has no successor.
    """
    if chunks.single:
        return None if before is None else before.index_select(0, chunks.row)
    if decay is not None:
        keys = keys * decay.over(decay.clock.left)[..., None]
    added = keys.mT @ values
    across = None if decay is None else decay.over(decay.clock.across)[..., None, None]
    state = added.new_zeros(len(chunks.count), *added.shape[1:]) if before is None else before
    found, order = [], []
    for left, at in chunks.steps():
        state = state.index_select(0, left)
        found.append(state)
        order.append(at)
        kept = state if across is None else state * across.index_select(0, at)
        state = kept + added.index_select(0, at)
    return torch.cat(found).index_select(0, torch.argsort(torch.cat(order)))
