"""The interface of an encoder: a stack of layers over tokens, and its config, which builds it and states its cost.

An encoder from outside only extends `EncoderConfig`: see docs/add_an_encoder.md.

Letters: T tokens, D width, N window.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from facta.config import Config
from facta.errors import ConfigError
from facta.types import TokenBatch


class TokenCost(NamedTuple):
    """Cost of one token in all layers."""

    flops: float  # forward; multiply and add count as two
    activation_bytes: float  # activations for the backward pass in the backend in use, float32
    cache_bytes: float  # cache (keys and values) of a token, float32


class Encoder(nn.Module):
    """x [T, D] -> states [T, D], in which token t has seen the first `tokens.sees[t]` tokens of its row and itself.

    All random draws come from `tokens.key` (`layers.dropout.Dropout`), so that a state does not depend on its batch.
    """

    prefix_stable = True
    """Whether a token's state is independent of later tokens of its row, so that earlier states may be cached."""
    remembers = False
    """Whether `forward` takes a third argument, the `Memory` of the rows' earlier tokens (`encoders/memory.py`)."""

    @abstractmethod
    def forward(self, x: Tensor, tokens: TokenBatch) -> Tensor: ...


class EncoderConfig(Config):
    """The base of every encoder's config."""

    both_ways: ClassVar[bool] = False
    """Whether a token may see later tokens, up to its whole row (`TokenBatch.sees`), as attention allows."""

    @abstractmethod
    def build(self, width: int, window: int) -> Encoder:
        """The encoder of a model of width D whose histories have at most N events."""

    @abstractmethod
    def cost(self, width: int, seen: float) -> TokenCost:
        """The cost of a token that sees `seen` tokens, itself included, in a model of width D."""

    def check(self, width: int) -> None:
        """Raises ConfigError if the encoder does not support this width."""

    @property
    def settings_without_time(self) -> list[str]:
        """Changes of settings that make the encoder independent of time, as in ["bias=none"]."""
        return []


def check_heads(width: int, heads: int, name: str = "encoder.heads") -> None:
    """Raises ConfigError if the width is no multiple of the heads."""
    if width % heads:
        raise ConfigError(f"width {width} is not a multiple of {name} {heads}; change one of them.")
