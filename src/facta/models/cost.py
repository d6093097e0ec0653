"""What a recommender costs per token, from its config: multiply and add count as two operations.

Letters: D width, H heads, dqk, dv head widths, n tokens of the history (the average token sees (n + 1) / 2 of them).
Activations are the float32 tensors that the backend in use keeps for the backward pass. For an HSTU layer by kernels
that is exact; the rest counts the reference's tensors with the attention weights left out (a kernel keeps none).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facta.encoders.gru import GRUConfig
from facta.encoders.hstu import HSTUConfig
from facta.encoders.production import HSTUProductionConfig
from facta.encoders.transformer import TransformerConfig
from facta.ops import backend
from facta.types import Cost

if TYPE_CHECKING:
    from facta.models.recommender import EncoderConfig, RecommenderConfig


def cost(config: RecommenderConfig, parameters: int, tokens: int) -> Cost:
    """Forward cost of one token in a history of `tokens` tokens: the encoder's matrix products and attention's.

    Norms, activations, biases, dropout, the embedding, objectives and the read-out over the catalogue are not counted.
    """
    flops, kept, cached = encoder_cost(config.encoder, config.width, (tokens + 1) / 2)
    return Cost(parameters, flops, kept, cached)


def encoder_cost(encoder: EncoderConfig, width: int, seen: float) -> tuple[float, float, float]:
    """FLOPs, activation bytes and cache bytes of a token that sees `seen` tokens, itself included, in all layers."""
    match encoder:
        case HSTUConfig():
            dqk, dv = (encoder.heads * one for one in encoder.head_widths(width))
            flops = 2 * width * 2 * (dqk + dv) + 2 * seen * (dqk + dv) + 2 * dv * width
            if encoder.activated == "uvqk" and backend.current() != backend.REFERENCE:
                kept = width + 2 * (dqk + dv) + dv  # input; projection before SiLU; o: see ops/layer.py
            else:  # input and norm; projections before and after SiLU; o, LN, gated
                kept = 2 * width + 4 * (dqk + dv) + 3 * dv
            cached = dqk + dv
        case HSTUProductionConfig():
            dqk, dv = (encoder.heads * one for one in encoder.head_widths(width))
            flops = 2 * width * 2 * (dqk + dv) + 2 * seen * (dqk + dv) + 2 * 3 * dv * width
            kept = 2 * width + 2 * (dqk + dv) + 9 * dv  # input, norm; projection; SiLU(u), o, LN(o), 2 [u, o, u·LN(o)]
            cached = dqk + dv
        case TransformerConfig():
            gated, hidden = encoder.preset == "modern", encoder.hidden_width(width)
            flops = 2 * width * 4 * width + 4 * seen * width + 2 * width * hidden * (3 if gated else 2)
            kept = 9 * width + hidden * (4 if gated else 2)
            cached = 2 * width
        case GRUConfig():
            hidden = encoder.hidden or width
            given = (width + (encoder.layers - 1) * hidden) / encoder.layers  # the lowest layer is given D numbers
            flops = 2 * 3 * hidden * (given + hidden) + 2 * hidden * width / encoder.layers
            kept = width + 5 * hidden
            cached = 0
    layers = encoder.layers
    return layers * flops, 4.0 * layers * kept, 4.0 * layers * cached
