"""A whole HSTU layer as one differentiable function that stores three tensors for the backward pass: its input, the
projection before its SiLU, and the output of attention. Everything else is recomputed, at little cost in memory
traffic.

Letters: T tokens, D width, H heads, dqk, dv head widths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facta.ops import attention, backend, pointwise
from facta.ops.once import first_derivatives
from facta.ops.past import Past
from facta.types import TokenBatch


@dataclass(frozen=True)
class Layer:
    """Settings and inputs of a layer besides its weights; `p` is 0 outside training."""

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


@backend.custom_op("facta::project")
def _project(kernels: str, x: Tensor, uvqk: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """z = LN(x) W and SiLU(z)."""
    z, act = (x.new_empty(len(x), uvqk.shape[1]) for _ in range(2))
    native: Any = backend.module()
    native.project(kernels, torch.get_num_threads(), x, uvqk, eps, z, act)
    return z, act


@_project.register_fake
def _(kernels: str, x: Tensor, uvqk: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return x.new_empty(len(x), uvqk.shape[1]), x.new_empty(len(x), uvqk.shape[1])


@torch.library.custom_op("facta::project_backward", mutates_args=(), device_types="cpu")
def _project_backward(
    kernels: str, d_y: Tensor, x: Tensor, z: Tensor, uvqk: Tensor, u: Tensor, v: Tensor, q: Tensor, k: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """d_y through z, from the gradients of the four parts of SiLU(z); and the gradient of W."""
    d_x, d_uvqk = x.new_empty(x.shape), uvqk.new_empty(uvqk.shape)
    native: Any = backend.module()
    native.project_backward(kernels, torch.get_num_threads(), x, uvqk, eps, z, [u, v, q, k], d_y, d_x, d_uvqk)
    return d_x, d_uvqk


@_project_backward.register_fake
def _(kernels: str, d_y: Tensor, x: Tensor, z: Tensor, uvqk: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), uvqk.new_empty(uvqk.shape)


@backend.custom_op("facta::output")
def _output(
    kernels: str, o: Tensor, u: Tensor, keys: Tensor, weight: Tensor, bias: Tensor, x: Tensor, p: float, salt: int,
    eps: float,
) -> Tensor:  # fmt: skip
    """x + W_o dropout(u ⊙ LN(o)) + b_o."""
    y = x.new_empty(x.shape)  # not `empty_like(x)`: x may have other strides
    native: Any = backend.module()
    native.output(kernels, torch.get_num_threads(), o, u, keys, p, salt, eps, weight, bias, x, y)
    return y


@_output.register_fake
def _(kernels: str, o: Tensor, u: Tensor, keys: Tensor, weight: Tensor, bias: Tensor, x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("facta::output_backward", mutates_args=(), device_types="cpu")
def _output_backward(
    kernels: str, d_y: Tensor, o: Tensor, u: Tensor, keys: Tensor, weight: Tensor, p: float, salt: int, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of o, u, W_o and b_o."""
    d_o, d_u = o.new_empty(o.shape), o.new_empty(o.shape)
    d_weight, d_bias = weight.new_empty(weight.shape), d_y.new_empty(len(weight))
    native: Any = backend.module()
    native.output_backward(
        kernels, torch.get_num_threads(), o, u, keys, p, salt, eps, weight, d_y, d_o, d_u, d_weight, d_bias
    )
    return d_o, d_u, d_weight, d_bias


@_output_backward.register_fake
def _(
    kernels: str, d_y: Tensor, o: Tensor, u: Tensor, keys: Tensor, weight: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shapes = (o.shape, o.shape, weight.shape, (len(weight),))
    return tuple(d_y.new_empty(shape) for shape in shapes)  # type: ignore[return-value]


class _HSTULayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, layer: Layer, x: Tensor, uvqk: Tensor, weight: Tensor, bias: Tensor, *tables: Tensor | None
    ) -> Tensor:
        position_bias, time_bias = tables
        project, put_out = (_project.direct, _output.direct) if backend.direct(x) else (_project, _output)
        z, act = project(layer.kernels, x, uvqk, layer.eps)
        u, v, q, k = layer.split(act)
        o = attention.hstu_attention(
            layer.kernels, q, k, v, layer.tokens, position_bias=position_bias, time_bias=time_bias, scale=layer.scale
        ).flatten(1)
        ctx.layer = layer
        ctx.save_for_backward(x, z, o, uvqk, weight, position_bias, time_bias)
        y: Tensor = put_out(layer.kernels, o, u, layer.tokens.key, weight, bias, x, layer.p, layer.salt, layer.eps)
        return y

    @staticmethod
    @first_derivatives
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, z, o, uvqk, weight, position_bias, time_bias = ctx.saved_tensors
        layer, tokens, d_y = ctx.layer, ctx.layer.tokens, grads[0].contiguous()
        u, v, q, k = layer.split(pointwise.silu(layer.kernels, z))
        d_o, d_u, d_weight, d_bias = _output_backward(
            layer.kernels, d_y, o, u, tokens.key, weight, layer.p, layer.salt, layer.eps
        )
        d_q, d_k, d_v, d_position, d_time = attention.backward(
            layer.kernels, d_o.view_as(v), q, k, v, tokens, position_bias, time_bias, layer.scale
        )
        parts = (d_u, *(part.flatten(1) for part in (d_v, d_q, d_k)))
        d_x, d_uvqk = _project_backward(layer.kernels, d_y, x, z, uvqk, *parts, layer.eps)
        tables = (
            None if table is None else found for table, found in ((position_bias, d_position), (time_bias, d_time))
        )
        return None, d_x, d_uvqk, d_weight, d_bias, *tables


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
        layer, x.contiguous(), uvqk.contiguous(), weight.contiguous(), bias.contiguous(), position_bias, time_bias
    )
    return y


def hstu_layer_over(
    layer: Layer,
    x: Tensor,
    *,
    past_of: Callable[[Tensor, Tensor], Past],
    uvqk: Tensor,
    weight: Tensor,
    bias: Tensor,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
) -> Tensor:
    """`hstu_layer` without gradients and with cached keys and values: `past_of` gets k and v [T, H, d] of the call and
    returns the past of each row.
    """
    x = x.contiguous()
    _, act = _project.direct(layer.kernels, x, uvqk.contiguous(), layer.eps)
    u, v, q, k = layer.split(act)
    biases = {"position_bias": position_bias, "time_bias": time_bias}
    o = attention.hstu_attention(layer.kernels, q, k, v, layer.tokens, scale=layer.scale, past=past_of(k, v), **biases)
    keys, out = layer.tokens.key, (weight.contiguous(), bias.contiguous())
    y: Tensor = _output.direct(layer.kernels, o.flatten(1), u, keys, *out, x, 0.0, layer.salt, layer.eps)
    return y
