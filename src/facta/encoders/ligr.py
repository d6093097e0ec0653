"""LiGR's block (Borisyuk et al. 2025, LinkedIn; the block of eSASRec): both residuals pass a learned gate.

    x <- x + σ(x W_a) ⊙ attention(LN(x))
    x <- x + σ(x W_f) ⊙ SwiGLU(LN(x))

W_a and W_f are [D, D] with biases and read x before its norm. Attention is that of a transformer.

Letters: T tokens, D width, H heads.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from facta import ops
from facta.encoders.encoder import EncoderConfig, TokenCost, check_heads
from facta.encoders.memory import LayerMemory
from facta.encoders.stack import AttentionStack
from facta.encoders.transformer import Attention
from facta.layers.dropout import Dropout
from facta.types import TokenBatch

EPS = 1e-6


class LiGRConfig(EncoderConfig):
    both_ways: ClassVar[bool] = True
    kind: Literal["ligr"] = "ligr"
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=1, ge=1)
    hidden: int | None = Field(default=None, ge=1, description="feed-forward width; None: 4 D")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="of attention output and inside the feed-forward")
    attention_dropout: float = Field(default=0.0, ge=0, lt=1, description="on the attention weights")
    rotary: bool = Field(default=False, description="rotary positions; false: positions of the embedding, if any")

    def hidden_width(self, width: int) -> int:
        """Width of the feed-forward part in a model of width D."""
        return self.hidden or 4 * width

    def check(self, width: int) -> None:
        check_heads(width, self.heads)

    def build(self, width: int, window: int) -> LiGR:
        return LiGR(self, width)

    def cost(self, width: int, seen: float) -> TokenCost:
        """The cost of a transformer with SwiGLU, and two gates. Activations exclude attention weights, which kernels do
        not store.
        """
        hidden = self.hidden_width(width)
        flops = 2 * width * (4 + 2) * width + 4 * seen * width + 2 * width * hidden * 3
        kept = 12 * width + 4 * hidden  # x, LN, q, k, v, attended, gate, gated; x, LN, gate, gated
        return TokenCost(self.layers * flops, 4.0 * self.layers * kept, 4.0 * self.layers * 2 * width)


class LiGRBlock(nn.Module):
    """One block: two gated residuals (Borisyuk et al. 2025, section 3)."""

    def __init__(self, config: LiGRConfig, width: int, salt: int) -> None:
        super().__init__()
        hidden = config.hidden_width(width)
        self.norm_attention, self.norm_feed = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attention = Attention(
            width, config.heads, dropout=config.attention_dropout, salt=salt, biased=True, rotary=config.rotary
        )
        self.inner, self.outer = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)
        self.gate_attention, self.gate_feed = nn.Linear(width, width), nn.Linear(width, width)
        self.dropouts = nn.ModuleList(Dropout(config.dropout, salt + 1 + i) for i in range(3))

    def forward(
        self, x: Tensor, tokens: TokenBatch, geometry: ops.Geometry, memory: LayerMemory | None = None
    ) -> Tensor:
        """x [T, D] -> [T, D]."""
        y = self.norm_attention(x)
        attended = self.dropouts[0](self.attention(y, y, tokens, geometry, memory), tokens.key)
        x = x + torch.sigmoid(self.gate_attention(x)) * attended
        fed = self.dropouts[2](self._feed(self.norm_feed(x), tokens), tokens.key)
        out: Tensor = x + torch.sigmoid(self.gate_feed(x)) * fed
        return out

    def _feed(self, y: Tensor, tokens: TokenBatch) -> Tensor:
        """SwiGLU (Shazeer 2020): [T, D] -> [T, D]."""
        gate, value = self.inner(y).chunk(2, dim=1)
        out: Tensor = self.outer(self.dropouts[1](F.silu(gate) * value, tokens.key))
        return out


class LiGR(AttentionStack):
    """A stack of blocks and a final LayerNorm, since norms at the branches leave the residual stream unnormalised."""

    def __init__(self, config: LiGRConfig, width: int) -> None:
        blocks = [LiGRBlock(config, width, salt=100 + 10 * i) for i in range(config.layers)]
        super().__init__(blocks, nn.LayerNorm(width, eps=EPS))
