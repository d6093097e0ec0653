"""Attention, losses and the rest of a layer: one signature, several backends. The reference is the definition."""

from __future__ import annotations

from torch import Tensor

from facta.ops import attention, backend, reference, softmax
from facta.ops.geometry import Geometry
from facta.ops.pointwise import dropout, gate

__all__ = ["Geometry", "backend", "dropout", "gate", "hstu_attention", "softmax_attention"]


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

    q, k [T, H, dqk] and v [T, H, dv] -> [T, H, dv]. `scale` is a constant or [T]; it must not be a function of the
    length of the row or of the batch, or a score would depend on what came later or on who else is in the batch.
    Raises ConfigError where `time_bias` is given and the tokens have no times.
    """
    kernels = backend.native_for(q, k, v)
    if kernels is None:
        return reference.hstu_attention(
            q, k, v, geometry, position_bias=position_bias, time_bias=time_bias, scale=scale
        )
    if time_bias is not None:
        geometry.check_times()
    return attention.hstu_attention(
        kernels, q, k, v, geometry.tokens, position_bias=position_bias, time_bias=time_bias, scale=scale
    )


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, geometry: Geometry, *, scale: float, dropout: float = 0.0, salt: int = 0
) -> Tensor:
    """softmax(scale · q kᵀ over the keys seen) v; q, k [T, H, dqk], v [T, H, dv] -> [T, H, dv].

    `dropout` falls on the attention weights, as drawn for (key of the query's token, salt, head, place of the key).
    """
    kernels = backend.native_for(q, k, v)
    if kernels is None:
        return reference.softmax_attention(q, k, v, geometry, scale=scale, dropout=dropout, salt=salt)
    return softmax.softmax_attention(kernels, q, k, v, geometry.tokens, scale=scale, dropout=dropout, salt=salt)
