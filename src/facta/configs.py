"""All config classes of a recipe, for recipes in Python with types and completion.

    from facta import configs

    configs.RecipeConfig(name="mine", model=configs.RecommenderConfig(…), training=configs.TrainingConfig(epochs=20))

Each class is defined beside the part that it configures; kinds of encoders, similarities, models and readers of
histories come from the lists of facta's own. A recipe with contradictions raises ConfigError.
"""

from __future__ import annotations

from facta.data.batches.cloze import ClozeConfig
from facta.data.batches.negatives import NegativesConfig
from facta.data.batches.stochastic_length import StochasticLengthConfig
from facta.encoders import known as _encoders
from facta.encoders.known import *  # noqa: F403
from facta.eval.protocol import ProtocolConfig
from facta.layers.embedding import EmbeddingConfig
from facta.layers.tables import HashedTableConfig, PlainTableConfig, TableConfig
from facta.models import histories as _histories
from facta.models import known as _models
from facta.models.histories import *  # noqa: F403
from facta.models.known import *  # noqa: F403
from facta.models.prior import PriorConfig
from facta.objectives.feedback import FeedbackConfig
from facta.objectives.losses import BCEConfig, GBCEConfig, LossConfig, SampledSoftmaxConfig, SoftmaxConfig
from facta.objectives.next_item import NextItemConfig
from facta.recipes.recipe import RecipeConfig
from facta.similarity import known as _similarities
from facta.similarity.known import *  # noqa: F403
from facta.training.trainer import TrainingConfig
from facta.training.tune import Range

__all__ = [
    "BCEConfig",
    "ClozeConfig",
    "EmbeddingConfig",
    "FeedbackConfig",
    "GBCEConfig",
    "HashedTableConfig",
    "LossConfig",
    "NegativesConfig",
    "NextItemConfig",
    "PlainTableConfig",
    "PriorConfig",
    "ProtocolConfig",
    "Range",
    "RecipeConfig",
    "SampledSoftmaxConfig",
    "SoftmaxConfig",
    "StochasticLengthConfig",
    "TableConfig",
    "TrainingConfig",
]
__all__ += _encoders.__all__
__all__ += _histories.__all__
__all__ += _models.__all__
__all__ += _similarities.__all__
