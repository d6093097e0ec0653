"""The definition of facta's attention in plain PyTorch: dense, padded and slow. Every kernel must equal it.

Tensors stored as bfloat16 are computed in float32. Letters: T tokens, B rows, N longest row, H heads, d head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from facta import draws
from facta.ops.geometry import Geometry
from facta.ops.once import first_derivatives


class _Lookup(torch.autograd.Function):
    """table[index] for a small table and a huge index: the backward is one histogram instead of a serial scatter."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.size = table.numel()
        return table[index]

    @staticmethod
    @first_derivatives
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        at, values = index.flatten(), grads[0].flatten()
        if values.device.type == "cpu":
            total = torch.bincount(at, weights=values, minlength=ctx.size)
        else:  # bincount adds by atomics there, so runs would differ
            total = torch.zeros(ctx.size, dtype=torch.float64, device=at.device).index_add_(0, at, values.double())
        return total.to(grads[0].dtype), None


def relative_bias(geometry: Geometry, position_bias: Tensor | None, time_bias: Tensor | None) -> Tensor | None:
    """rab^{p,t} [B, N, N] from tables by distance [≥ longest distance + 1] and by time bucket [129]; shared over
    heads.
    """
    parts = []
    if position_bias is not None:
        parts.append(_Lookup.apply(position_bias, geometry.distance))  # type: ignore[no-untyped-call]
    if time_bias is not None:
        parts.append(_Lookup.apply(time_bias, geometry.time_bucket))  # type: ignore[no-untyped-call]
    return sum(parts[1:], parts[0]) if parts else None


def hstu_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    geometry: Geometry,
    *,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
    scale: float | Tensor = 1.0,
) -> Tensor:
    """Pointwise aggregated attention, o_i = scale_i · Σ_{j seen by i} SiLU(q_i·k_j + rab_ij) v_j (HSTU paper, eq. 2).

    q, k [T, H, dqk] and v [T, H, dv] -> [T, H, dv]. `scale` is a constant or [T]; it must not depend on the length of
    the row or on the batch, since a score would then depend on later events or on batch mates.
    """
    qp, kp, vp = _padded(geometry, q, k, v)
    logits = qp @ kp.transpose(2, 3)
    bias = relative_bias(geometry, position_bias, time_bias)
    if bias is not None:
        logits = logits + bias[:, None]
    weights = F.silu(logits) * geometry.mask[:, None]
    out = geometry.unpad((weights @ vp).transpose(1, 2))
    return (out * (scale[:, None, None] if isinstance(scale, Tensor) else scale)).to(q.dtype)


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, geometry: Geometry, *, scale: float, dropout: float = 0.0, salt: int = 0
) -> Tensor:
    """softmax(scale · q kᵀ over the keys seen) v; q, k [T, H, dqk], v [T, H, dv] -> [T, H, dv].

    `dropout` is of the attention weights, drawn by (key of the query's token, salt, head, place of the key).
    """
    qp, kp, vp = _padded(geometry, q, k, v)
    if dropout == 0.0:
        attended = F.scaled_dot_product_attention(qp, kp, vp, attn_mask=_open_padding(geometry), scale=scale)
        return geometry.unpad(attended.transpose(1, 2)).to(q.dtype)
    logits = (qp @ kp.transpose(2, 3) * scale).masked_fill(~_open_padding(geometry), -torch.inf)
    weights = torch.softmax(logits, dim=-1)
    keys = geometry.pad(geometry.tokens.key)[:, None] + torch.arange(q.shape[1], device=q.device)[None, :, None]
    dropped = draws.dropout(weights.flatten(0, 2), dropout, keys.flatten(), salt).view_as(weights)
    return geometry.unpad((dropped @ vp).transpose(1, 2)).to(q.dtype)


def _padded(geometry: Geometry, *given: Tensor) -> Iterator[Tensor]:
    """Each [T, H, d] as [B, H, N, d], in float32 or better."""
    for x in given:
        yield geometry.pad(x).transpose(1, 2).to(torch.promote_types(x.dtype, torch.float32))


def _open_padding(geometry: Geometry) -> Tensor:
    """[B, 1, N, N]: the mask; padded queries see all, so that their (unused) softmax is defined."""
    return (geometry.mask | ~geometry.mask.any(dim=2, keepdim=True))[:, None]
