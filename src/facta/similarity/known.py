"""facta's own similarities; a new one is added here."""

from __future__ import annotations

from typing import Annotated

from facta.kinds import Kinds
from facta.similarity.inner import InnerProductConfig
from facta.similarity.mol import MoLConfig
from facta.similarity.similarity import SimilarityConfig

__all__ = ["InnerProductConfig", "MoLConfig", "SimilarityConfig"]
"""The configs that `facta.configs` exports."""

AnySimilarity = Annotated[SimilarityConfig, Kinds(SimilarityConfig, (InnerProductConfig, MoLConfig))]
"""The type of a config's field that holds a similarity."""
