"""Rebuilding a model from its config and tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from facta.config import Config
from facta.data.dataset.catalogue import Catalogue
from facta.layers.initial import truncated_normal_
from facta.models.known import AnyModel
from facta.models.model import Model, ModelConfig


class _Holder(Config):
    model: AnyModel


class _Undrawn(TorchFunctionMode):
    """Random tensors stay empty: they take no time, and tables of items no memory until something is written to them.

    The meta device would do the same, but its operators are torch's in Python, which import torch's compiler: 2 s and
    70 MB for each process that loads a model.
    """

    WHOLE = (init.normal_, init.uniform_, init.kaiming_uniform_, truncated_normal_)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func in (torch.randn, torch.rand):
            return torch.empty(*args, **named)
        if func in self.WHOLE:
            return args[0] if args else named["tensor"]
        if func in (Tensor.normal_, Tensor.uniform_):  # one number: torch's trunc_normal_ draws until all are inside
            return args[0].fill_(args[1] if len(args) > 1 else 0.0)
        return func(*args, **named)


def parse(values: Mapping[str, Any]) -> ModelConfig:
    """The config of plain values. Raises ConfigError."""
    return _Holder.parse({"model": values}).model


def state_of(model: Model) -> dict[str, Tensor]:
    """Name -> tensor: the whole state of a model."""
    return {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}


def restored(config: ModelConfig, catalogue: Catalogue, state: Mapping[str, Tensor]) -> Model:
    """The model of a config with saved tensors. Raises RuntimeError if names or shapes differ.

    Nothing is drawn that the file overwrites: the values of a million items take 20 s to draw and .2 s to read. Tensors
    are copied, since a memory-mapped file may change under the model.
    """
    with _Undrawn():
        model = config.build(catalogue)
    kinds = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    copies = {name: tensor.to(kinds.get(name, tensor.dtype), copy=True) for name, tensor in state.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    model.eval()
    return model
