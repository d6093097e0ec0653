"""Attention: one signature, several backends. The reference implementation is the definition."""

from facta.ops.geometry import Geometry
from facta.ops.reference import hstu_attention, softmax_attention

__all__ = ["Geometry", "hstu_attention", "softmax_attention"]
