"""HSTU: the research layer of "Actions Speak Louder than Words" (Zhai et al., ICML 2024), section 3 and its public
code.

    u, v, q, k = split(φ1(LN(x) W))
    o          = n⁻¹ · Σ_j SiLU(q·k_j + rab_j) v_j          pointwise aggregated: no softmax
    x         <- x + W_o dropout(u ⊙ LN(o)) + b_o

Letters: T tokens, D width, H heads, dqk, dv head widths.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from facta import ops
from facta.encoders.encoder import EncoderConfig, TokenCost, check_heads
from facta.encoders.memory import LayerMemory
from facta.encoders.stack import AttentionStack
from facta.errors import ConfigError
from facta.layers.norms import plain_layer_norm
from facta.ops.buckets import LAST_BUCKET
from facta.ops.layer import Layer, hstu_layer, hstu_layer_over
from facta.ops.past import check
from facta.types import TokenBatch


class HSTUConfig(EncoderConfig):
    """The settings of the research code; the defaults are its values for MovieLens-1M.

    LN(c·o) equals LN(o) up to `eps`, but at the start o is so small that `eps` dominates: to match published numbers,
    `normaliser`, `eps` and `init_std` must all agree.
    """

    both_ways: ClassVar[bool] = True
    kind: Literal["hstu"] = "hstu"
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=1, ge=1)
    qk_width: int | None = Field(default=None, ge=1, description="dqk of each head; None: D / heads")
    v_width: int | None = Field(default=None, ge=1, description="dv of each head; None: D / heads")
    attention: Literal["silu", "softmax"] = Field(
        default="silu", description="softmax: the paper's ablation, softmax(q·k / √dqk) instead of n⁻¹ SiLU; no bias"
    )
    bias: Literal["none", "position", "time", "both"] = "both"
    recent: int | None = Field(
        default=None,
        ge=1,
        description="initial position bias that falls until twice so many events back; None: no initial preference",
    )
    normaliser: float | None = Field(
        default=None, gt=0, description="n; None: window + 11, the research code's constant"
    )
    eps: float = Field(default=1e-6, gt=0)
    init_std: float = Field(default=0.02, gt=0, description="initial std of the uvqk projection and the bias tables")
    activated: str = Field(default="uvqk", pattern="^u?v?q?k?$", description="projections with SiLU")
    dropout: float = Field(default=0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> HSTUConfig:
        if self.attention == "softmax" and (self.bias != "none" or self.normaliser is not None):
            raise ConfigError(
                f"Found encoder.bias {self.bias} and normaliser {self.normaliser} for encoder.attention=softmax, "
                "which has neither: set them to none and null, or attention to silu."
            )
        if self.recent is not None and self.bias not in ("position", "both"):
            raise ConfigError(
                f"Found encoder.recent, which initialises the position bias, with encoder.bias {self.bias}: set "
                "recent to null, or bias to position or both."
            )
        return self

    def head_widths(self, width: int) -> tuple[int, int]:
        """dqk and dv in a model of width D."""
        return self.qk_width or width // self.heads, self.v_width or width // self.heads

    def check(self, width: int) -> None:
        if not (self.qk_width and self.v_width):
            check_heads(width, self.heads)

    def build(self, width: int, window: int) -> HSTU:
        return HSTU(self, width, window)

    def cost(self, width: int, seen: float) -> TokenCost:
        """Activations are exact for the kernels; for the reference they exclude attention weights."""
        dqk, dv = (self.heads * one for one in self.head_widths(width))
        flops = 2 * width * 2 * (dqk + dv) + 2 * seen * (dqk + dv) + 2 * dv * width
        if self.activated == "uvqk" and ops.backend.current() != ops.backend.REFERENCE:
            kept = width + 2 * (dqk + dv) + dv  # input; projection before SiLU; o: see ops/layer.py
        else:  # input and norm; projections before and after SiLU; o, LN, gated
            kept = 2 * width + 4 * (dqk + dv) + 3 * dv
        return TokenCost(self.layers * flops, 4.0 * self.layers * kept, 4.0 * self.layers * (dqk + dv))

    @property
    def settings_without_time(self) -> list[str]:
        return {"both": ["bias=position"], "time": ["bias=none"]}.get(self.bias, [])


def _recency(size: int, recent: int) -> Tensor:
    """[N+1] by distance: from 2 down to -6 at twice `recent` events, then constant.

    Pointwise attention adds up all visible events. Of a thousand events the last fifty, even if only these matter, are
    at first a twentieth of the sum, and training finds them late or never. ALiBi (Press et al. 2022) has such a slope
    under a softmax. SiLU(bias) is 1.8 for the newest events, slightly negative (≥ -.3) beyond `recent / 2`, and -.015
    for the oldest. A slope that stays above 0 and ends at -10, where SiLU has no gradient, learned less: NE(click) .925
    instead of .891 on validation after two passes of `shortened.py`.
    """
    return 2.0 - 8.0 * (torch.arange(size) / (2.0 * recent)).clamp_max(1.0)


class HSTULayer(nn.Module):
    """x <- x + W_o dropout(LN(o) ⊙ u), o the attention over SiLU(LN(x) W) (Zhai et al. 2024, eq. 1 to 3)."""

    def __init__(self, config: HSTUConfig, width: int, window: int, salt: int) -> None:
        super().__init__()
        self.heads, self.eps = config.heads, config.eps
        self.dqk, self.dv = config.head_widths(width)
        self.activated, self.softmax = config.activated, config.attention == "softmax"
        self.scale = 1.0 / (config.normaliser or window + 11)
        self.uvqk = nn.Parameter(torch.randn(width, 2 * self.heads * (self.dv + self.dqk)) * config.init_std)
        self.position_bias = self._table(window + 1, config, "position")
        if self.position_bias is not None and config.recent is not None:
            with torch.no_grad():
                self.position_bias.add_(_recency(window + 1, config.recent))
        self.time_bias = self._table(LAST_BUCKET + 1, config, "time")
        self.out = nn.Linear(self.heads * self.dv, width)
        nn.init.xavier_uniform_(self.out.weight)
        self.p, self.salt = config.dropout, salt

    @staticmethod
    def _table(size: int, config: HSTUConfig, part: str) -> nn.Parameter | None:
        return nn.Parameter(torch.randn(size) * config.init_std) if config.bias in (part, "both") else None

    def forward(
        self, x: Tensor, tokens: TokenBatch, geometry: ops.Geometry, memory: LayerMemory | None = None
    ) -> Tensor:
        """x [T, D] -> [T, D]."""
        kernels = ops.backend.native_for(x) if x.dtype == torch.float32 else None
        if memory is not None and not ops.backend.direct(x):  # kernels store nothing for gradients
            kernels = None
        if kernels is not None and self.activated == "uvqk" and not self.softmax:
            return self._fused(kernels, x, tokens, geometry, memory)
        return self.by_parts(x, tokens, geometry, memory)

    def _fused(
        self, kernels: str, x: Tensor, tokens: TokenBatch, geometry: ops.Geometry, memory: LayerMemory | None
    ) -> Tensor:
        """`by_parts` in one function that stores less for the backward pass."""
        if self.time_bias is not None:
            geometry.check_times()
        p = self.p if self.training else 0.0
        layer = Layer(kernels, tokens, self.heads, self.dqk, self.dv, self.scale, self.eps, p, self.salt)
        run = hstu_layer if memory is None else partial(hstu_layer_over, past_of=partial(_checked_past, tokens, memory))
        return run(
            layer, x, uvqk=self.uvqk, weight=self.out.weight, bias=self.out.bias,
            position_bias=self.position_bias, time_bias=self.time_bias,
        )  # fmt: skip

    def by_parts(
        self, x: Tensor, tokens: TokenBatch, geometry: ops.Geometry, memory: LayerMemory | None = None
    ) -> Tensor:
        """The definition: x [T, D] -> [T, D]."""
        u, v, q, k = self._project(x)
        past = None if memory is None else memory.met(k, v)
        if self.softmax:
            o = ops.softmax_attention(q, k, v, geometry, scale=self.dqk**-0.5, past=past)
        else:
            biases = {"position_bias": self.position_bias, "time_bias": self.time_bias}
            o = ops.hstu_attention(q, k, v, geometry, **biases, scale=self.scale, past=past)
        p = self.p if self.training else 0.0
        y: Tensor = self.out(ops.gate(o.flatten(1), u, tokens.key, p=p, salt=self.salt, eps=self.eps))
        return x + y

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """u [T, H·dv], v [T, H, dv], q and k [T, H, dqk]."""
        widths = (self.heads * self.dv, self.heads * self.dv, self.heads * self.dqk, self.heads * self.dqk)
        z = plain_layer_norm(x, self.eps) @ self.uvqk
        if self.activated == "uvqk":
            u, v, q, k = torch.split_with_sizes(F.silu(z), widths, dim=1)
        else:
            parts = zip("uvqk", torch.split_with_sizes(z, widths, dim=1), strict=True)
            u, v, q, k = (F.silu(part) if name in self.activated else part for name, part in parts)
        shapes = ((v, self.dv), (q, self.dqk), (k, self.dqk))
        v, q, k = (part.view(len(x), self.heads, width) for part, width in shapes)
        return u, v, q, k


def _checked_past(tokens: TokenBatch, memory: LayerMemory, k: Tensor, v: Tensor) -> ops.Past:
    past = memory.met(k, v)
    check(tokens, past, timed=tokens.time is not None)
    return past


class HSTU(AttentionStack):
    """A stack of HSTU layers; no final norm (the similarity normalises)."""

    def __init__(self, config: HSTUConfig, width: int, window: int) -> None:
        super().__init__(HSTULayer(config, width, window, salt=100 + i) for i in range(config.layers))
