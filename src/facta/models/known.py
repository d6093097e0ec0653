"""facta's own models; a new one is added here."""

from __future__ import annotations

from typing import Annotated

from facta.kinds import Kinds
from facta.models.baselines import DecayedPopularityConfig, ItemKNNConfig, PopularityConfig
from facta.models.bpr_mf import BPRMFConfig
from facta.models.dlrm import DLRMConfig
from facta.models.ease import EASEConfig
from facta.models.model import ModelConfig
from facta.models.rates import RatesConfig
from facta.models.recommender import RecommenderConfig
from facta.models.rules import RulesConfig

__all__ = [
    "BPRMFConfig",
    "DLRMConfig",
    "DecayedPopularityConfig",
    "EASEConfig",
    "ItemKNNConfig",
    "ModelConfig",
    "PopularityConfig",
    "RatesConfig",
    "RecommenderConfig",
    "RulesConfig",
]
"""The configs that `facta.configs` exports."""

AnyModel = Annotated[
    ModelConfig,
    Kinds(
        ModelConfig,
        (
            RecommenderConfig,
            DLRMConfig,
            RatesConfig,
            PopularityConfig,
            DecayedPopularityConfig,
            ItemKNNConfig,
            EASEConfig,
            BPRMFConfig,
            RulesConfig,
        ),
    ),
]
"""The type of a config's field that holds a model."""
