"""Dropout, HSTU's gate and SiLU as compiled operators: one pass over memory each, random draws included.

Letters: T tokens, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from facta import draws
from facta.ops import backend


def dropout(x: Tensor, p: float, keys: Tensor, salt: int) -> Tensor:
    """`draws.dropout`: x [T, C], keys [T]; differentiable."""
    kernels = backend.native_for(x) if x.dtype == torch.float32 else None
    if p == 0.0 or kernels is None:
        return draws.dropout(x, p, keys, salt)
    out: Tensor = _dropout(kernels, x, keys, p, salt)
    return out


def gate(o: Tensor, u: Tensor, keys: Tensor, *, p: float, salt: int, eps: float) -> Tensor:
    """dropout(u ⊙ LN(o)), LN without scale and shift: o, u [T, C], keys [T] -> [T, C]."""
    kernels = backend.native_for(o, u) if o.dtype == torch.float32 else None
    if kernels is None:
        return draws.dropout(u * F.layer_norm(o, o.shape[-1:], eps=eps), p, keys, salt)
    out: Tensor = (_gate.direct if backend.direct(o) else _gate)(kernels, o, u, keys, p, salt, eps)
    return out


@torch.library.custom_op("facta::dropout", mutates_args=(), device_types="cpu")
def _dropout(kernels: str, x: Tensor, keys: Tensor, p: float, salt: int) -> Tensor:
    x = x.contiguous()
    out = torch.empty_like(x)
    native: Any = backend.module()
    native.dropout(kernels, torch.get_num_threads(), x, keys, p, salt, out)
    return out


@_dropout.register_fake
def _(kernels: str, x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


def _keep_draws(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.kernels, _, keys, ctx.p, ctx.salt = inputs
    ctx.save_for_backward(keys)


_dropout.register_autograd(
    lambda ctx, grad: (None, _dropout(ctx.kernels, grad, *ctx.saved_tensors, ctx.p, ctx.salt), None, None, None),
    setup_context=_keep_draws,
)


@backend.custom_op("facta::gate")
def _gate(kernels: str, o: Tensor, u: Tensor, keys: Tensor, p: float, salt: int, eps: float) -> Tensor:
    o = o.contiguous()
    out = torch.empty_like(o)
    native: Any = backend.module()
    native.gate(kernels, torch.get_num_threads(), o, _rows(u), keys, p, salt, eps, out)
    return out


@_gate.register_fake
def _(kernels: str, o: Tensor, *_: Any) -> Tensor:
    return o.new_empty(o.shape)


@torch.library.custom_op("facta::gate_backward", mutates_args=(), device_types="cpu")
def gate_backward(
    kernels: str, grad: Tensor, o: Tensor, u: Tensor, keys: Tensor, p: float, salt: int, eps: float
) -> tuple[Tensor, Tensor]:
    o = o.contiguous()
    d_o, d_u = torch.empty_like(o), torch.empty_like(o)
    native: Any = backend.module()
    native.gate_backward(kernels, torch.get_num_threads(), o, _rows(u), keys, p, salt, eps, grad.contiguous(), d_o, d_u)
    return d_o, d_u


@gate_backward.register_fake
def _(kernels: str, grad: Tensor, o: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return o.new_empty(o.shape), o.new_empty(o.shape)


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.kernels, o, u, keys, *ctx.rest = inputs
    ctx.save_for_backward(o, u, keys)


def _gate_gradients(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    d_o, d_u = gate_backward(ctx.kernels, grad, *ctx.saved_tensors, *ctx.rest)
    return None, d_o, d_u, None, None, None, None


_gate.register_autograd(_gate_gradients, setup_context=_keep_inputs)


@torch.library.custom_op("facta::silu", mutates_args=(), device_types="cpu")
def silu(kernels: str, z: Tensor) -> Tensor:
    """z · σ(z); z [T, C]. Without a backward: the layer that uses it has its own."""
    out = torch.empty_like(z)
    native: Any = backend.module()
    native.silu(kernels, torch.get_num_threads(), z, out)
    return out


@silu.register_fake
def _(kernels: str, z: Tensor) -> Tensor:
    return torch.empty_like(z)


def _rows(x: Tensor) -> Tensor:
    """Channels contiguous; the stride between tokens is arbitrary."""
    return x if x.stride(1) == 1 else x.contiguous()
