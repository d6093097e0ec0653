"""GRU4Rec's encoder (Hidasi et al. 2016): gated recurrent layers over each history.

Letters: T tokens, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from facta import jagged
from facta.encoders.encoder import Encoder, EncoderConfig, TokenCost
from facta.encoders.memory import Memory
from facta.errors import ConfigError
from facta.layers.dropout import Dropout
from facta.types import TokenBatch


class GRUConfig(EncoderConfig):
    kind: Literal["gru"] = "gru"
    layers: int = Field(default=1, ge=1)
    hidden: int | None = Field(default=None, ge=1, description="width of the recurrent state; None: D")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="between layers and before the output")

    def build(self, width: int, window: int) -> GRU:
        return GRU(self, width)

    def cost(self, width: int, seen: float) -> TokenCost:
        """The cost. The state replaces a cache of tokens."""
        hidden = self.hidden or width
        given = (width + (self.layers - 1) * hidden) / self.layers  # the lowest layer reads D numbers
        flops = 2 * 3 * hidden * (given + hidden) + 2 * hidden * width / self.layers
        return TokenCost(self.layers * flops, 4.0 * self.layers * (width + 5 * hidden), 0.0)


class GRU(Encoder):
    """Recurrent layers and a linear map back to width D. A state is a function of its history alone, so it is
    prefix-stable. Standalone targets are refused: recurrence cannot mask them.
    """

    remembers = True

    def __init__(self, config: GRUConfig, width: int) -> None:
        super().__init__()
        self.hidden = hidden = config.hidden or width
        self.layers = nn.ModuleList(
            nn.GRU(width if i == 0 else hidden, hidden, batch_first=True) for i in range(config.layers)
        )
        self.dropouts = nn.ModuleList(Dropout(config.dropout, salt=100 + i) for i in range(config.layers))
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Tensor, tokens: TokenBatch, memory: Memory | None = None) -> Tensor:
        """x [T, D] -> states [T, D]."""
        if len(x) == 0:  # every history of the batch is empty; torch cannot pack that
            return x
        place = jagged.places(tokens.offsets)
        cached = 0 if memory is None else memory.cached[jagged.rows(tokens.offsets)]
        if not torch.equal(tokens.sees, place + cached):
            raise ConfigError("The gru encoder supports only causal tokens within a history; use hstu or transformer.")
        order, batch_sizes, row_order = _time_major(tokens.offsets, place)
        met = []
        for number, (layer, dropout) in enumerate(zip(self.layers, self.dropouts, strict=True)):
            before = None if memory is None else _states(memory, row_order, number, self.hidden, x)
            packed, _ = layer(PackedSequence(x[order], batch_sizes), before)
            x = torch.empty_like(packed.data).index_copy(0, order, packed.data)
            met.append(x)
            x = dropout(x, tokens.key)
        if memory is not None:
            memory.keep_states(tokens, lambda last: [layer[last] for layer in met])
        out: Tensor = self.out(x)
        return out


def _states(memory: Memory, rows: Tensor, layer: int, width: int, like: Tensor) -> Tensor:
    """[1, B', hidden] the initial state of each row, in the order of `rows`."""
    zero = like.new_zeros(width)
    kept = [memory.rows[row] for row in rows.tolist()]
    return torch.stack([zero if one is None else one.states[layer] for one in kept])[None]


def _time_major(offsets: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Torch's packing of jagged rows: all first tokens, all second tokens …, longer rows first; with the count of each
    step, and the non-empty rows in that order.
    """
    row_length = jagged.lengths(offsets)
    longest_first = torch.argsort(row_length, descending=True, stable=True)
    rank = torch.argsort(longest_first)
    order = torch.argsort(place * row_length.numel() + rank[jagged.rows(offsets)])
    return order, torch.bincount(place).cpu(), longest_first[: int((row_length > 0).sum())]
