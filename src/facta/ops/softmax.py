"""Softmax attention as compiled kernels, registered with torch: jagged in, jagged out, nothing of size N x N.

Letters: T tokens, H heads, dqk, dv head widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from facta.ops import backend
from facta.ops import past as kept
from facta.ops.attention import dense
from facta.types import TokenBatch


@backend.custom_op("facta::softmax_attention")
def _attention(
    kernels: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    sees: Tensor,
    position: Tensor,
    keys: Tensor,
    scale: float,
    p: float,
    salt: int,
    past: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    out = q.new_empty(len(q), q.shape[1], v.shape[2])
    lse = q.new_empty(q.shape[:2], dtype=torch.float32)
    native: Any = backend.module()
    native.softmax_attention(
        kernels, torch.get_num_threads(), dense(q), dense(k), dense(v), offsets, sees, position, keys, scale, p, salt,
        kept.addresses(k, v, past), out, lse,
    )  # fmt: skip
    return out, lse


@_attention.register_fake
def _(kernels: str, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape[0], q.shape[1], v.shape[2]), q.new_empty(q.shape[:2], dtype=torch.float32)


@torch.library.custom_op("facta::softmax_attention_backward", mutates_args=(), device_types="cpu")
def _backward(
    kernels: str,
    d_out: Tensor,
    out: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    sees: Tensor,
    position: Tensor,
    keys: Tensor,
    scale: float,
    p: float,
    salt: int,
) -> tuple[Tensor, Tensor, Tensor]:
    d_q, d_k, d_v = (x.new_empty(x.shape) for x in (q, k, v))
    native: Any = backend.module()
    native.softmax_attention_backward(
        kernels, torch.get_num_threads(), dense(q), dense(k), dense(v), offsets, sees, position, keys, scale, p, salt,
        out, lse, d_out.contiguous(), d_q, d_k, d_v,
    )  # fmt: skip
    return d_q, d_k, d_v


@_backward.register_fake
def _(kernels: str, d_out: Tensor, out: Tensor, lse: Tensor, *qkv_and_rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = qkv_and_rest[:3]
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, Tensor]) -> None:
    ctx.kernels, *tensors = inputs[:8]
    *ctx.settings, past = inputs[8:]
    assert not past, "a kept past has no gradients"  # ops.softmax_attention sees to it
    ctx.save_for_backward(*output, *tensors)


def _gradients(ctx: Any, d_out: Tensor, _: Tensor) -> tuple[Any, ...]:
    d_q, d_k, d_v = _backward(ctx.kernels, d_out, *ctx.saved_tensors, *ctx.settings)
    return None, d_q, d_k, d_v, None, None, None, None, None, None, None, []


_attention.register_autograd(_gradients, setup_context=_setup)


def softmax_attention(
    kernels: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tokens: TokenBatch,
    *,
    scale: float,
    dropout: float,
    salt: int,
    past: kept.Past = (),
) -> Tensor:
    """`ops.reference.softmax_attention` by the kernels named: q, k [T, H, dqk], v [T, H, dv] -> [T, H, dv]."""
    attend = _attention.direct if backend.direct(q) else _attention
    out: Tensor = attend(
        kernels, q, k, v, tokens.offsets, tokens.sees, tokens.position, tokens.key, scale, dropout, salt,
        kept.handed(k, v, past),
    )[0]  # fmt: skip
    return out
