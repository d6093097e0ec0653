"""Which models can be saved, and how each is rebuilt from its config and tensors alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from facta.config import Config
from facta.data.catalogue import Catalogue
from facta.errors import ConfigError
from facta.models.baselines import (
    Baseline,
    BaselineConfig,
    DecayedPopularity,
    DecayedPopularityConfig,
    ItemKNN,
    ItemKNNConfig,
    Popularity,
    PopularityConfig,
)
from facta.models.dlrm import DLRM, DLRMConfig
from facta.models.rates import RateRegression, RatesConfig
from facta.models.recommender import Recommender, RecommenderConfig
from facta.models.rules import Rules, RulesConfig

TrainedConfig = RecommenderConfig | DLRMConfig | RatesConfig
ModelConfig = Annotated[TrainedConfig | BaselineConfig, Field(discriminator="kind")]
TrainedModel = Recommender | DLRM | RateRegression
SavedModel = TrainedModel | Baseline


class _Choice(Config):
    model: ModelConfig


def parse(values: Mapping[str, Any]) -> TrainedConfig | BaselineConfig:
    """The config that plain values describe. Raises ConfigError."""
    return _Choice.parse({"model": values}).model


def build(config: TrainedConfig | BaselineConfig, catalogue: Catalogue, seed: int = 0) -> SavedModel:
    """The model of a config for a catalogue: neither trained nor fitted yet."""
    match config:
        case RecommenderConfig():
            return Recommender(config, catalogue, seed)
        case DLRMConfig():
            return DLRM(config, catalogue, seed)
        case RatesConfig():
            return RateRegression(config, catalogue)
        case PopularityConfig():
            return Popularity(config, catalogue.items)
        case DecayedPopularityConfig():
            return DecayedPopularity(config, catalogue.items)
        case ItemKNNConfig():
            return ItemKNN(config, catalogue.items)
        case RulesConfig():
            return Rules(config, catalogue.items)
        case other:
            raise ConfigError(
                f"Found a model config of type {type(other).__name__}, which facta can neither build nor save; "
                "expected one of the configs of facta.artifact.model.ModelConfig."
            )


Task = Literal["next_item", "feedback"]


def tasks(model: SavedModel) -> list[Task]:
    """What a model has learned."""
    if not isinstance(model, Recommender):
        return ["next_item"] if isinstance(model, Baseline) else ["feedback"]
    return [*(["next_item"] if model.next_item else []), *(["feedback"] if model.feedback else [])]  # type: ignore[list-item]


def state_of(model: SavedModel) -> dict[str, Tensor]:
    """Name -> tensor: all that was learned."""
    return {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}


def parameters_of(model: SavedModel) -> int:
    """Numbers that were learned or counted; a buffer of a trained model is neither."""
    learned = model.parameters() if model.config.trained else model.state_dict().values()
    return sum(tensor.numel() for tensor in learned if tensor.is_floating_point())


def restored(config: TrainedConfig | BaselineConfig, catalogue: Catalogue, state: Mapping[str, Tensor]) -> SavedModel:
    """The model of a config with saved tensors. Raises RuntimeError where names or shapes differ.

    It is built on the meta device, so nothing is drawn that the file overwrites: the values of a million items take
    20 s to draw and .2 s to read. Tensors are copied, for a file that is read by mapping may change under the model.
    """
    with torch.device("meta"):
        model = build(config, catalogue)
    kinds = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    copies = {name: tensor.to(kinds.get(name, tensor.dtype), copy=True) for name, tensor in state.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    model.eval()
    return model
