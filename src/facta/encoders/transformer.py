"""Transformers: the SASRec block (Kang & McAuley 2018) and a modern one (Transformer++: RMSNorm, RoPE, SwiGLU).

Letters: T tokens, D width, H heads, d head width.
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
from facta.layers.dropout import Dropout
from facta.types import TokenBatch


class TransformerConfig(EncoderConfig):
    """`sasrec`: post-residual LayerNorms, ReLU feed-forward, positions of the embedding unless `rotary` is set.
    `modern`: pre-norm RMSNorm, rotary positions, SwiGLU feed-forward, no biases."""

    both_ways: ClassVar[bool] = True
    kind: Literal["transformer"] = "transformer"
    preset: Literal["sasrec", "modern"] = "sasrec"
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=1, ge=1)
    hidden: int | None = Field(default=None, ge=1, description="feed-forward width; None: D (sasrec), 8/3 D (modern)")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="of attention output and inside the feed-forward")
    attention_dropout: float = Field(default=0.0, ge=0, lt=1, description="on the attention weights")
    rotary: bool | None = Field(
        default=None, description="rotary positions; None: as the preset (modern: yes, sasrec: no)"
    )

    def hidden_width(self, width: int) -> int:
        """Width of the feed-forward part in a model of width D."""
        return self.hidden or (width if self.preset == "sasrec" else -(-8 * width // 24) * 8)  # a multiple of 8

    def check(self, width: int) -> None:
        check_heads(width, self.heads)

    def attention(self, width: int, salt: int) -> Attention:
        """Attention of one block."""
        modern = self.preset == "modern"
        rotary = modern if self.rotary is None else self.rotary
        return Attention(width, self.heads, dropout=self.attention_dropout, salt=salt, biased=not modern, rotary=rotary)

    def build(self, width: int, window: int) -> Transformer:
        return Transformer(self, width)

    def cost(self, width: int, seen: float) -> TokenCost:
        """The cost. Activations exclude attention weights, which kernels do not store."""
        gated, hidden = self.preset == "modern", self.hidden_width(width)
        flops = 2 * width * 4 * width + 4 * seen * width + 2 * width * hidden * (3 if gated else 2)
        kept = 9 * width + hidden * (4 if gated else 2)
        return TokenCost(self.layers * flops, 4.0 * self.layers * kept, 4.0 * self.layers * 2 * width)


class Attention(nn.Module):
    """Multi-head softmax attention over the visible tokens; queries and keys may read different inputs."""

    def __init__(self, width: int, heads: int, *, dropout: float, salt: int, biased: bool, rotary: bool) -> None:
        super().__init__()
        self.heads, self.salt, self.p, self.rotary = heads, salt, dropout, rotary
        self.q = nn.Linear(width, width, bias=biased)
        self.kv = nn.Linear(width, 2 * width, bias=biased)
        self.out = nn.Linear(width, width, bias=biased)

    def forward(
        self,
        queries: Tensor,
        values: Tensor,
        tokens: TokenBatch,
        geometry: ops.Geometry,
        memory: LayerMemory | None = None,
    ) -> Tensor:
        q, k, v = (x.unflatten(1, (self.heads, -1)) for x in (self.q(queries), *self.kv(values).chunk(2, dim=1)))
        if self.rotary:
            q, k = rotate(q, tokens.position), rotate(k, tokens.position)
        p = self.p if self.training else 0.0
        past = None if memory is None else memory.met(k, v)
        attended = ops.softmax_attention(
            q, k, v, geometry, scale=q.shape[-1] ** -0.5, dropout=p, salt=self.salt, past=past
        )
        out: Tensor = self.out(attended.flatten(1))
        return out


def rotate(x: Tensor, position: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021): x [T, H, d] turned by position · 10000^(-2i/d) in d/2 planes."""
    half = x.shape[-1] // 2
    speed = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
    angle = position[:, None] * speed  # [T, d/2], float64: long histories keep their precision
    cos, sin = angle.cos().to(x.dtype)[:, None], angle.sin().to(x.dtype)[:, None]
    a, b = x[..., :half], x[..., half : 2 * half]
    return torch.cat([a * cos - b * sin, a * sin + b * cos, x[..., 2 * half :]], dim=-1)


class SASRecBlock(nn.Module):
    """y = LN(x) + attention(LN(x), x); x <- LN(y) + FFN(LN(y)): as in the SASRec authors' code, the residuals add the
    normalised input, and keys and values are computed before the norm.
    """

    def __init__(self, config: TransformerConfig, width: int, salt: int) -> None:
        super().__init__()
        hidden = config.hidden_width(width)
        self.norm_attention, self.norm_feed = nn.LayerNorm(width, eps=1e-8), nn.LayerNorm(width, eps=1e-8)
        self.attention = config.attention(width, salt)
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropouts = nn.ModuleList(Dropout(config.dropout, salt + 1 + i) for i in range(3))

    def forward(
        self, x: Tensor, tokens: TokenBatch, geometry: ops.Geometry, memory: LayerMemory | None = None
    ) -> Tensor:
        """x [T, D] -> [T, D]."""
        q = self.norm_attention(x)
        y = self.norm_feed(q + self.dropouts[0](self.attention(q, x, tokens, geometry, memory), tokens.key))
        hidden = self.dropouts[1](F.relu(self.inner(y)), tokens.key)
        out: Tensor = y + self.dropouts[2](self.outer(hidden), tokens.key)
        return out


class ModernBlock(nn.Module):
    """x <- x + attention(RMS(x)); x <- x + SwiGLU(RMS(x))."""

    def __init__(self, config: TransformerConfig, width: int, salt: int) -> None:
        super().__init__()
        hidden = config.hidden_width(width)
        self.norm_attention, self.norm_feed = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.attention = config.attention(width, salt)
        self.inner, self.outer = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)
        self.dropouts = nn.ModuleList(Dropout(config.dropout, salt + 1 + i) for i in range(2))

    def forward(
        self, x: Tensor, tokens: TokenBatch, geometry: ops.Geometry, memory: LayerMemory | None = None
    ) -> Tensor:
        """x [T, D] -> [T, D]."""
        y = self.norm_attention(x)
        x = x + self.dropouts[0](self.attention(y, y, tokens, geometry, memory), tokens.key)
        gate, value = self.inner(self.norm_feed(x)).chunk(2, dim=1)
        out: Tensor = x + self.dropouts[1](self.outer(F.silu(gate) * value), tokens.key)
        return out


class Transformer(AttentionStack):
    """A stack of blocks and a final norm."""

    def __init__(self, config: TransformerConfig, width: int) -> None:
        block = SASRecBlock if config.preset == "sasrec" else ModernBlock
        blocks = [block(config, width, salt=100 + 10 * i) for i in range(config.layers)]
        super().__init__(
            blocks, nn.LayerNorm(width, eps=1e-8) if config.preset == "sasrec" else nn.RMSNorm(width, eps=1e-6)
        )
