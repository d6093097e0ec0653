"""HSTU's production variant in the public code (`modules/stu.py`), which its ranking uses.

    u, v, q, k = split(LN(x) W + b),   u <- SiLU(u);   v, q, k stay linear
    o          = n⁻¹ · Σ_j SiLU(q·k_j / √dqk) v_j      no relative bias: positions and gaps are added at the input
    x         <- x + W_o dropout([u, o, u ⊙ LN(o)])

Norms are affine and W_o has no bias. The public code divides by the longest row of the batch, so that a score depends
on batch mates; here n is a constant. Time is in the embedding (`gaps`).

Letters: T tokens, D width, H heads, dqk, dv head widths.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, cat, nn
from torch.nn import functional as F

from facta import ops
from facta.encoders.encoder import EncoderConfig, TokenCost, check_heads
from facta.encoders.memory import LayerMemory
from facta.encoders.stack import AttentionStack
from facta.layers.dropout import Dropout
from facta.types import TokenBatch


class HSTUProductionConfig(EncoderConfig):
    both_ways: ClassVar[bool] = True
    kind: Literal["hstu-production"] = "hstu-production"
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    qk_width: int | None = Field(default=None, ge=1, description="dqk of each head; None: D / heads")
    v_width: int | None = Field(default=None, ge=1, description="dv of each head; None: D / heads")
    normaliser: float | None = Field(default=None, gt=0, description="n; None: the window")
    eps: float = Field(default=1e-6, gt=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)

    def head_widths(self, width: int) -> tuple[int, int]:
        """dqk and dv in a model of width D."""
        return self.qk_width or width // self.heads, self.v_width or width // self.heads

    def check(self, width: int) -> None:
        if not (self.qk_width and self.v_width):
            check_heads(width, self.heads)

    def build(self, width: int, window: int) -> HSTUProduction:
        return HSTUProduction(self, width, window)

    def cost(self, width: int, seen: float) -> TokenCost:
        """The cost. Activations exclude attention weights, which kernels do not store."""
        dqk, dv = (self.heads * one for one in self.head_widths(width))
        flops = 2 * width * 2 * (dqk + dv) + 2 * seen * (dqk + dv) + 2 * 3 * dv * width
        kept = 2 * width + 2 * (dqk + dv) + 9 * dv  # input, norm; projection; SiLU(u), o, LN(o), 2 [u, o, u·LN(o)]
        return TokenCost(self.layers * flops, 4.0 * self.layers * kept, 4.0 * self.layers * (dqk + dv))


class HSTUProductionLayer(nn.Module):
    def __init__(self, config: HSTUProductionConfig, width: int, window: int, salt: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.dqk, self.dv = config.head_widths(width)
        self.scale = 1.0 / (config.normaliser or window)
        self.norm, self.norm_out = nn.LayerNorm(width, config.eps), nn.LayerNorm(self.heads * self.dv, config.eps)
        self.uvqk = nn.Linear(width, 2 * self.heads * (self.dv + self.dqk))
        self.out = nn.Linear(3 * self.heads * self.dv, width, bias=False)
        for layer in (self.uvqk, self.out):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.uvqk.bias)
        self.dropout = Dropout(config.dropout, salt)

    def forward(
        self, x: Tensor, tokens: TokenBatch, geometry: ops.Geometry, memory: LayerMemory | None = None
    ) -> Tensor:
        """x [T, D] -> [T, D]."""
        values, keys = self.heads * self.dv, self.heads * self.dqk
        u, v, q, k = self.uvqk(self.norm(x)).split((values, values, keys, keys), dim=1)
        u = F.silu(u)
        v, q, k = (part.unflatten(1, (self.heads, -1)) for part in (v, q * self.dqk**-0.5, k))
        past = None if memory is None else memory.met(k, v)
        o = ops.hstu_attention(q, k, v, geometry, scale=self.scale, past=past).flatten(1)
        y = self.dropout(cat([u, o, u * self.norm_out(o)], dim=1), tokens.key)
        out: Tensor = x + self.out(y)
        return out


class HSTUProduction(AttentionStack):
    """A stack of layers without a final norm: objectives normalise states."""

    def __init__(self, config: HSTUProductionConfig, width: int, window: int) -> None:
        super().__init__(HSTUProductionLayer(config, width, window, salt=100 + i) for i in range(config.layers))
