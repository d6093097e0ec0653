"""Visibility and distances (position and time) of tokens, shared by all attention layers of a forward pass.

Letters: B rows, N longest row, T tokens. The dense [B, N, N] tensors exist for the reference implementation only.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from facta import jagged
from facta.errors import ConfigError
from facta.ops.buckets import bucket
from facta.types import TokenBatch


class Geometry:
    """Dense views of a token batch, each computed at first use and then shared by the layers."""

    def __init__(self, tokens: TokenBatch) -> None:
        self.tokens = tokens
        self.offsets = tokens.offsets

    @cached_property
    def longest(self) -> int:
        """N."""
        return int(jagged.lengths(self.offsets).max()) if self.offsets.numel() > 1 else 0

    @cached_property
    def _flat(self) -> Tensor:
        """[T] into B * N."""
        return jagged.rows(self.offsets) * self.longest + jagged.places(self.offsets)

    def check_times(self) -> None:
        """Raises ConfigError if the tokens have no times."""
        if self.tokens.time is None or self.tokens.query_time is None:
            raise ConfigError(
                "This model's attention uses time, but the events or the request have none. Give timestamps (and the "
                "request's own time), or train with encoder.bias=position."
            )

    def pad(self, values: Tensor) -> Tensor:
        """[T, …] -> [B, N, …], zeros after each row."""
        rows = self.offsets.numel() - 1
        padded = values.new_zeros((rows * self.longest, *values.shape[1:])).index_copy(0, self._flat, values)
        return padded.view(rows, self.longest, *values.shape[1:])

    def unpad(self, padded: Tensor) -> Tensor:
        """[B, N, …] -> [T, …]."""
        return padded.flatten(0, 1).index_select(0, self._flat)

    @cached_property
    def mask(self) -> Tensor:
        """[B, N, N] bool: query i sees key j, that is j < sees[i] or j = i, and both exist."""
        sees = self.pad(self.tokens.sees)
        place = torch.arange(self.longest, device=sees.device)
        seen = (place < sees[:, :, None]) | torch.eye(self.longest, dtype=torch.bool, device=sees.device)
        exists = place < jagged.lengths(self.offsets)[:, None]
        return seen & exists[:, None, :] & exists[:, :, None]

    @cached_property
    def distance(self) -> Tensor:
        """[B, N, N] int64: position of the query minus position of the key, at least 0."""
        position = self.pad(self.tokens.position)
        return (position[:, :, None] - position[:, None, :]).clamp_min_(0)

    @cached_property
    def time_bucket(self) -> Tensor:
        """[B, N, N] int32: bucket of (query time of the query - time of the key)."""
        self.check_times()
        assert self.tokens.time is not None and self.tokens.query_time is not None
        return bucket(self.pad(self.tokens.query_time)[:, :, None] - self.pad(self.tokens.time)[:, None, :])
