"""How a model is rebuilt from its config and tensors alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from facta.config import Config
from facta.models.known import AnyModel
from facta.models.model import Model, ModelConfig


class _Holder(Config):
    model: AnyModel


def parse(values: Mapping[str, Any]) -> ModelConfig:
    """The config that plain values describe. Raises ConfigError."""
    return _Holder.parse({"model": values}).model


class Unfilled(TorchFunctionMode):
    """A context in which models are built with zeros in place of random initial values, for tensors that a file
    overwrites.

    Drawing the values of a million items takes 20 s, reading them .2 s. Zeros, not what the memory holds: `nn.init`
    draws a truncated normal again until all values lie within its bounds, which other memory may never do.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0].zero_() if func in _RANDOM else func(*args, **(kwargs or {}))


_RANDOM = (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_)  # all that `nn.init` fills with


def state_of(model: Model) -> dict[str, Tensor]:
    """Name -> tensor: all that was learned."""
    return {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}


def read_state(model: Model, state: Mapping[str, Tensor]) -> None:
    """Put saved tensors into a model that `build` made. Raises RuntimeError where names or shapes differ."""
    model.load_state_dict(dict(state), strict=True)
    model.eval()
