"""Stacked attention layers: the common part of HSTU, its production variant and transformers."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from facta import ops
from facta.encoders.encoder import Encoder
from facta.encoders.memory import Memory
from facta.types import TokenBatch


class AttentionStack(Encoder):
    """Layers (x, tokens, geometry, memory of the layer) -> x, then an optional norm."""

    remembers = True

    def __init__(self, layers: Iterable[nn.Module], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(self, x: Tensor, tokens: TokenBatch, memory: Memory | None = None) -> Tensor:
        """x [T, D] -> states [T, D]."""
        geometry = ops.Geometry(tokens)
        kept = [None] * len(self.layers) if memory is None else memory.layers(len(self.layers))
        for layer, of_layer in zip(self.layers, kept, strict=True):
            x = layer(x, tokens, geometry, of_layer)
        if memory is not None:
            memory.keep(tokens, [one for one in kept if one is not None])
        return x if self.norm is None else self.norm(x)
