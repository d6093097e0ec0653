"""What an encoder is: a stack of layers over tokens, built by its config, which also states what it costs.

An encoder from outside extends `EncoderConfig` and needs nothing else of facta: see docs/add_an_encoder.md.

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
    """Of one token in all layers."""

    flops: float  # forward; multiply and add count as two
    activation_bytes: float  # kept for the backward pass by the backend in use, float32
    cache_bytes: float  # kept of a token for those that come later, float32


class Encoder(nn.Module):
    """x [T, D] -> states [T, D], in which token t has seen the first `tokens.sees[t]` tokens of its row and itself.

    All random draws come from `tokens.key` (`layers.dropout.Dropout`), so that a state does not depend on its batch.
    """

    prefix_stable = True
    """Whether a token's state depends on no later token of its row: earlier states may then be kept."""
    remembers = False
    """Whether `forward` takes a third argument, the `Memory` of the rows' earlier tokens (`encoders/memory.py`)."""

    @abstractmethod
    def forward(self, x: Tensor, tokens: TokenBatch) -> Tensor: ...


class EncoderConfig(Config):
    """The base of every encoder's config."""

    both_ways: ClassVar[bool] = False
    """Whether a token may see tokens behind itself, up to its whole row (`TokenBatch.sees`), as attention can."""

    @abstractmethod
    def build(self, width: int, window: int) -> Encoder:
        """The encoder of a model of width D whose histories have at most N events."""

    @abstractmethod
    def cost(self, width: int, seen: float) -> TokenCost:
        """What a token costs that sees `seen` tokens, itself included, in a model of width D."""

    def check(self, width: int) -> None:
        """Raises ConfigError where the encoder does not exist at this width."""

    @property
    def settings_without_time(self) -> list[str]:
        """Of the settings by which it reads time: what they would be without it, as in ["bias=none"]."""
        return []


def check_heads(width: int, heads: int, name: str = "encoder.heads") -> None:
    """Raises ConfigError where heads do not share the width evenly."""
    if width % heads:
        raise ConfigError(f"width {width} is not a multiple of {name} {heads}; change one of them.")
