"""Token vectors: the item tower and learned positions.

Letters: V catalogue items, D width, T tokens, N window.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from facta import ops
from facta.config import Config
from facta.layers.dropout import Dropout
from facta.types import SequenceBatch, TokenBatch

FEW = 4  # rows are few where the table has this many times more


class EmbeddingConfig(Config):
    """How an event becomes a vector; the defaults are those of the HSTU research code."""

    item_std: float = Field(default=0.02, gt=0, description="of the item table's truncated normal initialisation")
    scale_by_width: bool = Field(default=True, description="multiply item vectors by √D at the input")
    positions: Literal["learned", "none"] = "learned"
    dropout: float = Field(default=0.2, ge=0, lt=1, description="of the token vectors")
    table_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of the item table: one draw per step, the same where items are read and scored",
    )


class ItemTable(nn.Module):
    """The item tower of plain ids: one learned vector per catalogue row, shared by input and output."""

    def __init__(self, num_items: int, width: int, std: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.dropout = width, dropout
        self.weight = nn.Parameter(torch.empty(num_items, width))
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def vectors(self, rows: Tensor | None = None) -> Tensor:
        """[U] rows -> [U, D]; None: the whole catalogue [V, D], in row order.

        The gradient of few rows is row-sparse: writing zeros for all others would cost more than the step itself.
        """
        if rows is None:
            return self.weight
        return nn.functional.embedding(rows, self.weight, sparse=rows.numel() * FEW < len(self.weight))

    def dropped(self, key: int, rows: Tensor | None = None) -> Tensor:
        """The same as a training step sees it: entries left out as drawn for (row, channel, the step's key)."""
        vectors = self.vectors(rows)
        if not self.training or self.dropout == 0.0:
            return vectors
        rows = torch.arange(len(self.weight), device=vectors.device) if rows is None else rows
        return ops.dropout(vectors, self.dropout, rows, key)


class Embedder(nn.Module):
    """x = item · √D + position, then dropout; [T, D]."""

    SALT = 1

    def __init__(self, config: EmbeddingConfig, num_items: int, width: int, window: int) -> None:
        super().__init__()
        self.item = ItemTable(num_items, width, config.item_std, config.table_dropout)
        self.scale = width**0.5 if config.scale_by_width else 1.0
        self.position = nn.Embedding(window + 1, width) if config.positions == "learned" else None
        if self.position is not None:
            nn.init.xavier_normal_(self.position.weight)
        self.dropout = Dropout(config.dropout, self.SALT)

    def tokens(self, batch: SequenceBatch, tokens: TokenBatch) -> Tensor:
        """[T, D]: the sum of the facts that each token shows, and of its place."""
        x = self.item.dropped(batch.key, batch.events.item[tokens.source]) * self.scale
        if self.position is not None:
            x = x + self.position(tokens.position)
        dropped: Tensor = self.dropout(x, tokens.key)
        return dropped
