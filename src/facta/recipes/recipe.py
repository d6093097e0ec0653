"""What a recipe returns: a whole configuration, from which a system is trained and measured without another choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from facta.artifact.calibration import CalibrationKind
from facta.config import Config
from facta.errors import ConfigError
from facta.eval.protocol import ProtocolConfig
from facta.kinds import kind_of
from facta.models.known import AnyModel
from facta.settings import Overrides, assignments, parts
from facta.training.trainer import TrainingConfig
from facta.training.tune import Space


class RecipeConfig(Config):
    """Model, training, protocol; and where `facta tune` may search."""

    name: str
    model: AnyModel
    training: TrainingConfig | None = None  # None for models that are counted, not trained
    calibration: CalibrationKind | None = None  # of predicted feedback: fitted on validation, kept in the artifact
    choose: bool = False  # counted models only: take the best of the settings that the model proposes, on validation
    protocol: ProtocolConfig = ProtocolConfig()
    derived: dict[str, str] = {}
    """Settings that follow from the size of the log (`recipes.sizing`): dotted key -> "" in a recipe; in an artifact
    the value and its reason. A key that somebody sets is taken out."""
    search: Space = {}  # dotted key -> the values, or the range of them, that a search may try

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        trained = self.model.trained
        if trained and self.training is None:
            raise ConfigError(f"The recipe '{self.name}' has a model that is trained and no `training`; give it one.")
        if not trained and self.training is not None:
            kind = kind_of(self.model)
            raise ConfigError(f"A model of kind '{kind}' is counted, not trained: set `training` to null.")
        if self.choose and (trained or set(self.model.model_dump(exclude_defaults=True)) - {"positive"}):
            raise ConfigError(
                f"The recipe '{self.name}' has settings of its own, or chooses them: set choose to false."
            )
        if self.protocol.targets != "all" and self.protocol.split != "temporal" and "feedback" in self.model.tasks:
            raise ConfigError(
                f"The recipe '{self.name}' predicts feedback, and under {self.protocol.split} with "
                f"targets={self.protocol.targets} the held-out events begin with a success: use a temporal protocol, "
                "or targets=all."
            )
        if self.calibration is not None and "feedback" not in self.model.tasks:
            raise ConfigError(
                f"The recipe '{self.name}' predicts no feedback, and probabilities of feedback alone are calibrated: "
                "set calibration to null."
            )
        return self

    def change(self, **values: Any) -> Self:
        return self._without_derived(super().change(**values), values)

    def override(self, settings: Overrides) -> Self:
        return self._without_derived(super().override(settings), dict(assignments(settings, parts(self))))

    def _without_derived(self, changed: Self, values: Mapping[str, Any]) -> Self:
        """What somebody has set is no longer derived."""
        if "derived" in values or not changed.derived:
            return changed
        given = _paths(values)
        kept = {
            key: reason
            for key, reason in changed.derived.items()
            if not any(key == path or key.startswith(f"{path}.") for path in given)
        }
        return changed if kept == changed.derived else changed.parse({**dict(changed), "derived": kept})


def _paths(values: Mapping[str, Any], below: str = "") -> list[str]:
    """The dotted paths of all values in nested mappings."""
    found = []
    for key, value in values.items():
        path = f"{below}{key}"
        found += _paths(value, f"{path}.") if isinstance(value, Mapping) and value else [path]
    return found
