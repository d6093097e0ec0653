"""The whole configuration of a recipe, from which a system is trained and measured without further choices."""

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
    """Model, training, protocol, and the search space of `facta tune`."""

    name: str
    model: AnyModel
    training: TrainingConfig | None = None  # None for models that are counted, not trained
    calibration: CalibrationKind | None = None  # of predicted feedback: fitted on validation, stored in the artifact
    choose: bool = False  # counted models only: choose the best of the model's proposed settings on validation
    protocol: ProtocolConfig = ProtocolConfig()
    derived: dict[str, str] = {}
    """Settings derived from the size of the log (`recipes/sizing.py`): dotted key -> "" in a recipe; in an artifact the
    value and its reason. A key that is set explicitly is removed.
    """
    search: Space = {}  # dotted key -> values or range for a search

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        trained = self.model.trained
        if trained and self.training is None:
            raise ConfigError(f"The recipe '{self.name}' has a trained model without `training`; add it.")
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
                f"The recipe '{self.name}' predicts no feedback, and only probabilities of feedback can be "
                "calibrated: set calibration to null."
            )
        return self

    def change(self, **values: Any) -> Self:
        return self._without_derived(super().change(**values), values)

    def override(self, settings: Overrides) -> Self:
        return self._without_derived(super().override(settings), dict(assignments(settings, parts(self))))

    def _without_derived(self, changed: Self, values: Mapping[str, Any]) -> Self:
        """Remove explicitly set keys from `derived`."""
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
