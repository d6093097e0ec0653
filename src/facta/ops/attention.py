"""HSTU's attention as compiled kernels, registered with torch: jagged in, jagged out, nothing of size N x N.

`facta::hstu_attention` and its backward are custom operators, so that `torch.compile` sees them as one node each.
Letters: T tokens, H heads, dqk, dv head widths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from facta.ops import backend
from facta.ops import past as kept
from facta.ops.buckets import boundaries
from facta.types import TokenBatch


@backend.custom_op("facta::hstu_attention")
def _attention(
    kernels: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    sees: Tensor,
    position: Tensor,
    time: Tensor | None,
    query_time: Tensor | None,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    scales: Tensor | None,
    scale: float,
    past: Sequence[Tensor],
) -> Tensor:
    out = q.new_empty(len(q), q.shape[1], v.shape[2])
    native: Any = backend.module()
    native.hstu_attention(
        kernels, torch.get_num_threads(), dense(q), dense(k), dense(v), offsets, sees, position, time, query_time,
        _floats(position_bias), _floats(time_bias), boundaries(), scale, scales, kept.addresses(k, v, past), out,
    )  # fmt: skip
    return out


@_attention.register_fake
def _(kernels: str, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:
    return q.new_empty(q.shape[0], q.shape[1], v.shape[2])


@torch.library.custom_op("facta::hstu_attention_backward", mutates_args=(), device_types="cpu")
def _backward(
    kernels: str,
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    sees: Tensor,
    position: Tensor,
    time: Tensor | None,
    query_time: Tensor | None,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    scales: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grads, tables = _room(q, k, v, position_bias, time_bias)
    native: Any = backend.module()
    native.hstu_attention_backward(
        kernels, torch.get_num_threads(), dense(q), dense(k), dense(v), offsets, sees, position, time, query_time,
        _floats(position_bias), _floats(time_bias), boundaries(), scale, scales, d_out.contiguous(), *grads,
        None if position_bias is None else tables[0], None if time_bias is None else tables[1],
    )  # fmt: skip
    d_position, d_time = _stored(tables, (position_bias, time_bias))
    return grads[0], grads[1], grads[2], d_position, d_time


@_backward.register_fake
def _(kernels: str, d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    grads, tables = _room(q, k, v, *rest[5:7])
    return (*grads, *_stored(tables, rest[5:7]))


def _floats(table: Tensor | None) -> Tensor | None:
    return None if table is None else table.float()


def _room(q: Tensor, k: Tensor, v: Tensor, *tables: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
    """Buffers for gradients of q, k, v and of the tables; an operator returns only tensors, so an empty one for no
    table.
    """
    empty = [q.new_empty(0 if table is None else table.shape, dtype=torch.float32) for table in tables]
    return [x.new_empty(x.shape) for x in (q, k, v)], empty


def _stored(made: Sequence[Tensor], tables: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients, converted to the types of their tables."""
    return [one if like is None else one.to(like.dtype) for one, like in zip(made, tables, strict=True)]


def _setup(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    kernels, *tensors, scale, past = inputs
    assert not past, "a kept past has no gradients"  # ops.hstu_attention sees to it
    ctx.kernels, ctx.scale = kernels, scale
    ctx.save_for_backward(*tensors)


def _gradients(ctx: Any, d_out: Tensor) -> tuple[Any, ...]:
    tensors = ctx.saved_tensors
    d_q, d_k, d_v, d_position, d_time = _backward(ctx.kernels, d_out, *tensors, ctx.scale)
    position_bias, time_bias = tensors[8], tensors[9]
    return (
        None, d_q, d_k, d_v, None, None, None, None, None,
        None if position_bias is None else d_position, None if time_bias is None else d_time, None, None, [],
    )  # fmt: skip


_attention.register_autograd(_gradients, setup_context=_setup)


def hstu_attention(
    kernels: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tokens: TokenBatch,
    *,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    scale: float | Tensor,
    past: kept.Past = (),
) -> Tensor:
    """`ops.reference.hstu_attention` by the kernels named: q, k [T, H, dqk], v [T, H, dv] -> [T, H, dv]."""
    each = isinstance(scale, Tensor)
    timed = time_bias is not None
    attend: Callable[..., Tensor] = _attention.direct if backend.direct(q) else _attention
    handed = kept.handed(k, v, past)
    out: Tensor = attend(
        kernels, q, k, v, tokens.offsets, tokens.sees, tokens.position, tokens.time if timed else None,
        tokens.query_time if timed else None, position_bias, time_bias, scale if each else None, 1.0 if each else scale,
        handed,
    )  # fmt: skip
    return out


def dense(x: Tensor) -> Tensor:
    """Heads and channels contiguous; the stride between tokens is arbitrary."""
    return x if x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()


def backward(
    kernels: str,
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tokens: TokenBatch,
    *tables_and_scale: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `hstu_attention` in q, k, v and the two tables (empty for no table)."""
    position_bias, time_bias, scale = tables_and_scale
    timed = time_bias is not None
    found: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = _backward(
        kernels, d_out, q, k, v, tokens.offsets, tokens.sees, tokens.position, tokens.time if timed else None,
        tokens.query_time if timed else None, position_bias, time_bias, None, scale,
    )  # fmt: skip
    return found
