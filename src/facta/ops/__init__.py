"""Attention, losses and parts of layers: one signature, several backends. The reference is the definition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facta.errors import ConfigError
from facta.ops import attention, backend, reference, softmax
from facta.ops import past as kept
from facta.ops.geometry import Geometry
from facta.ops.past import Past, PastLayer
from facta.ops.pointwise import dropout, gate

__all__ = ["Geometry", "Past", "PastLayer", "backend", "dropout", "gate", "hstu_attention", "softmax_attention"]


def hstu_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    geometry: Geometry,
    *,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
    scale: float | Tensor = 1.0,
    past: Past | None = None,
) -> Tensor:
    """Pointwise aggregated attention, o_i = scale_i · Σ_{j seen by i} SiLU(q_i·k_j + rab_ij) v_j (HSTU paper, eq. 2).

    q, k [T, H, dqk] and v [T, H, dv] -> [T, H, dv]. `scale` is a constant or [T]; it must not depend on the length of
    the row or on the batch, since a score would then depend on later events or on batch mates. `past` (cached keys and
    values, one a row) precedes the row's tokens and is counted by `sees`; there are no gradients then. Raises
    ConfigError if `time_bias` is given and the tokens or the past have no times.
    """
    if time_bias is not None:
        geometry.check_times()
    rows = _rows(past, geometry, (q, k, v, position_bias, time_bias), timed=time_bias is not None)
    biases = {"position_bias": position_bias, "time_bias": time_bias}
    kernels = backend.native_for(q, k, v)
    if isinstance(scale, Tensor):
        learned = scale.requires_grad and torch.is_grad_enabled()
        kernels, scale = None if learned else kernels, scale.expand(len(q))  # the kernels give it no gradient
    if kernels is not None:
        return attention.hstu_attention(kernels, q, k, v, geometry.tokens, scale=scale, past=rows, **biases)
    if not rows:
        return reference.hstu_attention(q, k, v, geometry, scale=scale, **biases)
    q, k, v, tokens, own = kept.whole(q, k, v, geometry.tokens, rows)
    if isinstance(scale, Tensor):
        scale = scale.new_zeros(len(q)).index_copy(0, own, scale)
    return reference.hstu_attention(q, k, v, Geometry(tokens), scale=scale, **biases)[own]


def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    geometry: Geometry,
    *,
    scale: float,
    dropout: float = 0.0,
    salt: int = 0,
    past: Past | None = None,
) -> Tensor:
    """softmax(scale · q kᵀ over the keys seen) v; q, k [T, H, dqk], v [T, H, dv] -> [T, H, dv].

    `dropout` is of the attention weights, drawn by (key of the query's token, salt, head, place of the key). `past`
    (cached keys and values, one a row) precedes the row's tokens and is counted by `sees`; there are no gradients then.
    """
    rows = _rows(past, geometry, (q, k, v), timed=False)
    kernels = backend.native_for(q, k, v)
    if kernels is not None:
        return softmax.softmax_attention(
            kernels, q, k, v, geometry.tokens, scale=scale, dropout=dropout, salt=salt, past=rows
        )
    if not rows:
        return reference.softmax_attention(q, k, v, geometry, scale=scale, dropout=dropout, salt=salt)
    q, k, v, tokens, own = kept.whole(q, k, v, geometry.tokens, rows)
    return reference.softmax_attention(q, k, v, Geometry(tokens), scale=scale, dropout=dropout, salt=salt)[own]


def _rows(past: Past | None, geometry: Geometry, tensors: Sequence[Tensor | None], *, timed: bool) -> Past:
    """The past of each row, checked; empty if no row has one."""
    if past is None:
        return ()
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        raise ConfigError("Cached keys and values have no gradients: use torch.no_grad().")
    kept.check(geometry.tokens, past, timed=timed)
    return past
