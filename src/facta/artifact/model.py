"""Rebuilding a model from its config and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from facta.config import Config
from facta.data.dataset.catalogue import Catalogue
from facta.models.known import AnyModel
from facta.models.model import Model, ModelConfig


class _Holder(Config):
    model: AnyModel


def parse(values: Mapping[str, Any]) -> ModelConfig:
    """The config of plain values. Raises ConfigError."""
    return _Holder.parse({"model": values}).model


def state_of(model: Model) -> dict[str, Tensor]:
    """Name -> tensor: the whole state of a model."""
    return {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}


def restored(config: ModelConfig, catalogue: Catalogue, state: Mapping[str, Tensor]) -> Model:
    """The model of a config with saved tensors. Raises RuntimeError if names or shapes differ.

    It is built on the meta device, since initial weights would be overwritten: those of a million items take 20 s to
    draw and .2 s to read. Tensors are copied, since a memory-mapped file may change under the model.
    """
    with torch.device("meta"):
        model = config.build(catalogue)
    kinds = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    copies = {name: tensor.to(kinds.get(name, tensor.dtype), copy=True) for name, tensor in state.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    model.eval()
    return model
