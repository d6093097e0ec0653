"""Which models can be saved, and how each is rebuilt from its config and tensors alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from facta.config import Config
from facta.models.recommender import Recommender, RecommenderConfig

ModelConfig = RecommenderConfig
SavedModel = Recommender


class _Choice(Config):
    model: ModelConfig


def build(config: Mapping[str, Any] | ModelConfig, num_items: int, seed: int = 0) -> SavedModel:
    """The model that a config describes, for a catalogue of `num_items`; untrained. Raises ConfigError."""
    chosen = config if isinstance(config, Config) else _Choice.parse({"model": config}).model
    return Recommender(chosen, num_items, seed)


def state_of(model: SavedModel) -> dict[str, Tensor]:
    """Name -> tensor: all that was learned."""
    return {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}


def read_state(model: SavedModel, state: Mapping[str, Tensor]) -> None:
    """Put saved tensors into a model that `build` made. Raises RuntimeError where names or shapes differ."""
    model.load_state_dict(dict(state), strict=True)
    model.eval()


def reads_time(model: SavedModel) -> bool:
    """Whether a request must say when it is made."""
    return model.config.uses_time


def window_of(model: SavedModel) -> int:
    """How many events of a history the model sees."""
    return model.window
