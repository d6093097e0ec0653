"""What a recipe returns: a whole configuration, from which a system is trained and measured without another choice."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from facta.artifact.calibration import CalibrationKind
from facta.artifact.model import ModelConfig
from facta.config import Config
from facta.errors import ConfigError
from facta.eval.protocol import ProtocolConfig
from facta.layouts.layout import named
from facta.models.dlrm import DLRMConfig
from facta.models.rates import RatesConfig
from facta.models.recommender import RecommenderConfig
from facta.training.trainer import TrainingConfig
from facta.training.tune import Space


class RecipeConfig(Config):
    """Model, training, protocol; and where `facta tune` may search."""

    name: str
    model: ModelConfig
    training: TrainingConfig | None = None  # None for models that are counted, not trained
    calibration: CalibrationKind | None = None  # of predicted feedback: fitted on validation, kept in the artifact
    choose: bool = False  # counted models only: take the best of the settings that the model proposes, on validation
    protocol: ProtocolConfig = ProtocolConfig()
    search: Space = {}  # dotted key -> the values, or the range of them, that a search may try

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        trained = self.model.trained
        if trained and self.training is None:
            raise ConfigError(f"The recipe '{self.name}' has a model that is trained and no `training`; give it one.")
        if not trained and self.training is not None:
            raise ConfigError(f"A model of kind '{self.model.kind}' is counted, not trained: set `training` to null.")
        if self.choose and (trained or self.model != type(self.model)()):
            raise ConfigError(
                f"The recipe '{self.name}' has settings of its own, or chooses them: set choose to false."
            )
        ranks = isinstance(self.model, RecommenderConfig) and self.model.feedback is None
        if self.calibration is not None and (not trained or ranks):
            raise ConfigError(
                f"The recipe '{self.name}' predicts no feedback, and probabilities of feedback alone are calibrated: "
                "set calibration to null."
            )
        return self

    @property
    def fewest(self) -> int:
        """Training events that somebody must have: an item is told by earlier events, feedback by its own event too."""
        match self.model:
            case DLRMConfig() | RatesConfig():
                return 1
            case RecommenderConfig(next_item=None, layout=layout) if named(layout).own("feedback"):
                return 1
            case _:
                return 2
