"""A whole HSTU layer as one differentiable function that keeps three tensors: its input, the projection before its
SiLU, and what attention gave. Everything else is computed again in the backward, in passes that memory hardly notices.

Letters: T tokens, D width, H heads, dqk, dv head widths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from facta.ops import attention, pointwise
from facta.types import TokenBatch


@dataclass(frozen=True)
class Layer:
    """What a layer is, besides its weights, and what it is told; `p` is 0 outside training."""

    kernels: str
    tokens: TokenBatch
    heads: int
    dqk: int
    dv: int
    scale: float
    eps: float
    p: float
    salt: int

    def split(self, act: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """[T, 2·H·(dv + dqk)] -> views u [T, H·dv], v [T, H, dv], q and k [T, H, dqk]."""
        wide, narrow = self.heads * self.dv, self.heads * self.dqk
        u, v, q, k = act.split_with_sizes((wide, wide, narrow, narrow), dim=1)
        by_head = (len(act), self.heads)
        return u, v.view(*by_head, self.dv), q.view(*by_head, self.dqk), k.view(*by_head, self.dqk)


class _HSTULayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, layer: Layer, x: Tensor, uvqk: Tensor, weight: Tensor, bias: Tensor, *tables: Tensor | None
    ) -> Tensor:
        position_bias, time_bias = tables
        z = F.layer_norm(x, x.shape[-1:], eps=layer.eps) @ uvqk
        u, v, q, k = layer.split(pointwise.silu(layer.kernels, z))
        o = attention.hstu_attention(
            layer.kernels, q, k, v, layer.tokens, position_bias=position_bias, time_bias=time_bias, scale=layer.scale
        ).flatten(1)
        gated = pointwise.gate(o, u, layer.tokens.key, p=layer.p, salt=layer.salt, eps=layer.eps)
        ctx.layer = layer
        ctx.save_for_backward(x, z, o, uvqk, weight, position_bias, time_bias)
        return torch.addmm(bias, gated, weight.T).add_(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, z, o, uvqk, weight, position_bias, time_bias = ctx.saved_tensors
        layer, tokens, d_y = ctx.layer, ctx.layer.tokens, grads[0].contiguous()
        u, v, q, k = layer.split(pointwise.silu(layer.kernels, z))
        gated = pointwise.gate(o, u, tokens.key, p=layer.p, salt=layer.salt, eps=layer.eps)
        d_weight, d_bias = d_y.T @ gated, d_y.sum(0)
        d_o, d_u = pointwise.gate_backward(
            layer.kernels, d_y @ weight, o, u, tokens.key, layer.p, layer.salt, layer.eps
        )
        d_q, d_k, d_v, d_position, d_time = attention.backward(
            layer.kernels, d_o.view_as(v), q, k, v, tokens, position_bias, time_bias, layer.scale
        )
        d_z = pointwise.silu_backward(layer.kernels, z, d_u, *(part.flatten(1) for part in (d_v, d_q, d_k)))
        normed, mean, rate = torch.native_layer_norm(x, x.shape[-1:], None, None, layer.eps)
        d_normed = d_z @ uvqk.T
        d_x = torch.ops.aten.native_layer_norm_backward(
            d_normed, x, x.shape[-1:], mean, rate, None, None, [True, False, False]
        )[0]
        tables = (
            None if table is None else found for table, found in ((position_bias, d_position), (time_bias, d_time))
        )
        return None, d_x.add_(d_y), normed.T @ d_z, d_weight, d_bias, *tables


def hstu_layer(
    layer: Layer,
    x: Tensor,
    *,
    uvqk: Tensor,
    weight: Tensor,
    bias: Tensor,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
) -> Tensor:
    """x + W_o dropout(u ⊙ LN(o)) + b_o with u, v, q, k = SiLU(LN(x) W): x [T, D] -> [T, D].

    `uvqk` [D, 2·H·(dv + dqk)], `weight` [D, H·dv] and `bias` [D] of the output. float32 on the CPU.
    """
    y: Tensor = _HSTULayer.apply(  # type: ignore[no-untyped-call]
        layer, x, uvqk, weight, bias, position_bias, time_bias
    )
    return y
