"""Normalisation layers that torch lacks."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def plain_layer_norm(x: Tensor, eps: float) -> Tensor:
    """LayerNorm over the last axis without learned scale and shift, as in the HSTU research code."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)
