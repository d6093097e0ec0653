"""Item towers: a vector for every item, of its id alone or with its features.

Letters: V catalogue items, U rows asked for, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from facta import draws, ops
from facta.data.dataset.catalogue import Catalogue
from facta.errors import ConfigError
from facta.layers.codes import FeatureVectors

if TYPE_CHECKING:
    from facta.layers.embedding import EmbeddingConfig

SPARSE_ROW_FACTOR = 4  # rows are few where the table has this many times more
_HIDDEN = 2  # salt of the draws that hide ids


class ItemTable(nn.Module):
    """The item tower of plain ids: one learned vector per catalogue row, shared by input and output."""

    def __init__(self, num_items: int, width: int, std: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.dropout = width, dropout
        self.weight = nn.Parameter(torch.empty(num_items, width))
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    @classmethod
    def of(cls, config: EmbeddingConfig, catalogue: Catalogue, width: int) -> ItemTable:
        return cls(catalogue.items, width, config.item_std, config.table_dropout)

    @property
    def tables(self) -> list[nn.Parameter]:
        """What has a row for every item."""
        return [self.weight]

    def mark_trained(self, trained: Tensor) -> None:
        """Every row has a vector of its own, whether it is trained or not."""

    def vectors(self, rows: Tensor | None = None) -> Tensor:
        """[U] rows -> [U, D]; None: the whole catalogue [V, D], in row order.

        The gradient of few rows is row-sparse: writing zeros for all others would cost more than the step itself.
        """
        if rows is None:
            return self.weight
        return nn.functional.embedding(rows, self.weight, sparse=rows.numel() * SPARSE_ROW_FACTOR < len(self.weight))

    def dropped(self, key: int, rows: Tensor | None = None) -> Tensor:
        """The same as a training step sees it: entries left out as drawn for (row, channel, the step's key)."""
        vectors = self.vectors(rows)
        if not self.training or self.dropout == 0.0:
            return vectors
        rows = torch.arange(len(self.weight), device=vectors.device) if rows is None else rows
        return ops.dropout(vectors, self.dropout, rows, key)

    def read(self, key: int, rows: Tensor, token_keys: Tensor | None = None) -> Tensor:
        """[n] rows as inputs of a step: [n, D]."""
        return self.dropped(key, rows)


class ItemTower(nn.Module):
    """Id and features together: vector = id + Σ features. The id of an item without training events is `unknown`."""

    trained: Tensor  # [V] bool

    def __init__(self, config: EmbeddingConfig, catalogue: Catalogue, width: int) -> None:
        super().__init__()
        if not catalogue.features:
            raise ConfigError(
                "model.embedding.features is true, and this dataset declares no features of items: set it to null "
                "(where there are any), or declare some when the log is prepared."
            )
        self.width, self.hidden = width, config.hidden_ids
        self.ids = ItemTable.of(config, catalogue, config.id_width or width)
        self.wide = nn.Linear(config.id_width, width, bias=False) if config.id_width else None
        self.unknown = nn.Parameter(torch.zeros(width))
        self.features = FeatureVectors(catalogue.features, width, config.item_std)
        self.register_buffer("trained", torch.ones(catalogue.items, dtype=torch.bool))

    @classmethod
    def of(cls, config: EmbeddingConfig, catalogue: Catalogue, width: int) -> ItemTower:
        return cls(config, catalogue, width)

    @property
    def tables(self) -> list[nn.Parameter]:
        """What has a row for every item, or for every code of a feature."""
        return [*self.ids.tables, *self.features.tables]

    def mark_trained(self, trained: Tensor) -> None:
        """[V] bool: which items have training events."""
        self.trained.copy_(trained)

    def vectors(self, rows: Tensor | None = None) -> Tensor:
        """[U] rows -> [U, D]; None: the whole catalogue [V, D], in row order."""
        return self._of(rows, self.ids.vectors(rows))

    def dropped(self, key: int, rows: Tensor | None = None) -> Tensor:
        """The same as a training step sees it."""
        return self._of(rows, self.ids.dropped(key, rows))

    def read(self, key: int, rows: Tensor, token_keys: Tensor | None = None) -> Tensor:
        """[n] rows as inputs of a step: [n, D]; ids are hidden as drawn for the token."""
        hidden = None
        if self.training and self.hidden and token_keys is not None:
            bits = draws.below(draws.mix(token_keys, _HIDDEN), 1 << 30)
            hidden = bits < self.hidden * (1 << 30)
        return self._of(rows, self.ids.dropped(key, rows), hidden)

    def _of(self, rows: Tensor | None, ids: Tensor, hidden: Tensor | None = None) -> Tensor:
        known = self.trained if rows is None else self.trained[rows]
        known = known if hidden is None else known & ~hidden
        ids = ids if self.wide is None else self.wide(ids)
        ids = torch.where(known[:, None], ids, self.unknown)
        return ids + self._features(rows)

    def _features(self, rows: Tensor | None) -> Tensor:
        """Made once an item where more are asked for than there are."""
        every = torch.arange(len(self.trained), device=self.unknown.device)
        if rows is None or len(rows) > len(every):
            vectors: Tensor = self.features(every)
            return vectors if rows is None else nn.functional.embedding(rows, vectors)
        few: Tensor = self.features(rows)
        return few
