"""Linear attention, at a cost that grows with T and not with T²:

    o_t = Σ_{j seen by t} e^{-rate (c_t - c_j)} (q_t·k_j) v_j        c the clock of the decay

Within a chunk all pairs are multiplied; what lies before it is a state, S = Σ_j e^{-rate (c - c_j)} k_jᵀ v_j. Both are
exact (the chunks of RetNet, Sun et al. 2023). A decay is the exponential of one difference of clocks; the quotient of
two powers of a long row would be 0 / 0.

Letters: B rows, T tokens, C tokens of a chunk, M chunks, G groups of queries, H heads, dk, dv head widths.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from facta.ops.chunks import Chunks, Clock


@dataclass(frozen=True)
class Decay:
    """Of each head, along a clock."""

    clock: Clock
    rate: Tensor  # [H], at least 0

    def over(self, distance: Tensor) -> Tensor:
        """[…] -> […, H]."""
        return torch.exp(-distance[..., None] * self.rate)

    def pairs(self) -> Tensor:
        """[G, H, C, C] between the queries and the keys of a chunk."""
        return torch.exp(self.clock.pairs[:, None] * -self.rate[:, None, None])


@dataclass(frozen=True)
class Linear:
    """What all tokens found, and what a memory is made of."""

    found: Tensor  # [T, H, dv]
    chunks: Chunks
    decay: Decay | None
    keys: Tensor  # [M, C, H, dk]
    values: Tensor  # [M, C, H, dv]
    states: Tensor  # [M, H, dk, dv] before each chunk

    def behind(self, last: Tensor) -> Tensor:
        """[R] tokens -> [R, H, dk, dv] the state that holds each of them and all before it."""
        slot = self.chunks.key_slot[last]
        chunk = slot // self.chunks.size
        weight = torch.arange(self.chunks.size, device=slot.device) <= (slot % self.chunks.size)[:, None]
        keys, state = self.keys[chunk] * weight[:, :, None, None], self.states[chunk]
        if self.decay is not None:
            within, before = self.decay.clock.until(last)
            keys = keys * self.decay.over(within)[..., None]
            state = state * self.decay.over(before)[..., None, None]
        return state + torch.einsum("rjhd,rjhv->rhdv", keys, self.values[chunk])


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, chunks: Chunks, decay: Decay | None = None, before: Tensor | None = None
) -> Linear:
    """q, k [T, H, dk] and v [T, H, dv]; `before` [B, H, dk, dv]: the state of a memory."""
    keys, values = chunks.taken(k, chunks.keys), chunks.taken(v, chunks.keys)
    states = _states(keys, values, chunks, decay, before)
    queries = chunks.taken(q, chunks.queries)  # [G, C, H, dk]
    scores = torch.einsum("gihd,gjhd->ghij", queries, chunks.beside(keys)) * chunks.mask[:, None]
    itself = (q * k).sum(2) * chunks.itself[:, None]  # [T, H]
    if decay is not None:
        scores = scores * decay.pairs()
        queries = queries * decay.over(decay.clock.since)[..., None]
        itself = itself * decay.over(decay.clock.itself)
    found = torch.einsum("ghij,gjhv->gihv", scores, chunks.beside(values))
    found = found + torch.einsum("gihd,ghdv->gihv", queries, chunks.beside(states))
    found = found.flatten(0, 1).index_select(0, chunks.query_slot) + itself[..., None] * v
    return Linear(found, chunks, decay, keys, values, states)


def _states(keys: Tensor, values: Tensor, chunks: Chunks, decay: Decay | None, before: Tensor | None) -> Tensor:
    """[M, H, dk, dv] before each chunk: from chunk to chunk, all rows at once."""
    keys = keys * chunks.exists[:, :, None, None]
    if decay is not None:
        keys = keys * decay.over(decay.clock.left)[..., None]
    added = torch.einsum("mjhd,mjhv->mhdv", keys, values)
    state = added.new_zeros(len(chunks.count), *added.shape[1:]) if before is None else before
    found, order = [], []
    for left, at in chunks.steps():
        state = state.index_select(0, left)
        found.append(state)
        order.append(at)
        if decay is not None:
            state = state * decay.over(decay.clock.across[at])[..., None, None]
        state = state + added.index_select(0, at)
    return torch.cat(found).index_select(0, torch.argsort(torch.cat(order)))
