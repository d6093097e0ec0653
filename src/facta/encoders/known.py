"""facta's own encoders; a new one is added here."""

from __future__ import annotations

from typing import Annotated

from facta.encoders.encoder import EncoderConfig
from facta.encoders.fuxi import FuXiLinearConfig
from facta.encoders.gru import GRUConfig
from facta.encoders.hstu import HSTUConfig
from facta.encoders.ligr import LiGRConfig
from facta.encoders.production import HSTUProductionConfig
from facta.encoders.transformer import TransformerConfig
from facta.kinds import Kinds

__all__ = [
    "EncoderConfig",
    "FuXiLinearConfig",
    "GRUConfig",
    "HSTUConfig",
    "HSTUProductionConfig",
    "LiGRConfig",
    "TransformerConfig",
]
"""The configs that `facta.configs` exports."""

_KNOWN = (HSTUConfig, HSTUProductionConfig, FuXiLinearConfig, TransformerConfig, LiGRConfig, GRUConfig)

AnyEncoder = Annotated[EncoderConfig, Kinds(EncoderConfig, _KNOWN)]
"""The type of a config's field that holds an encoder."""
