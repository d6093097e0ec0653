"""Tables of the vectors of item ids.

All tables implement `Table`. A plain table has a row for every item. A hashed table has a fixed number of rows: the
vector of an item is the sum of a few rows, chosen by hashes of its id (Svenstrup, Hansen & Winther, "Hash Embeddings
for Efficient Word Representations", NeurIPS 2017, without its learned weights). It does not depend on the order of the
catalogue or on items that are added to it.

Letters: V catalogue items, U rows asked for, D width, R rows of a hashed table, H hashes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from facta import draws, ops
from facta.config import Config
from facta.data.dataset.catalogue import Catalogue
from facta.kinds import Kinds
from facta.layers.initial import truncated_normal_

SPARSE_ROW_FACTOR = 4  # rows are few if the table has this many times more


class Table(nn.Module):
    """A vector for each of V items. `count`: V. `width`: D. `weight`: the learned rows.

    `plain`: `vectors()` is `weight` itself, so a loss may read all vectors at no cost (fused kernels do). From other
    tables a loss asks only for the items that it needs.
    """

    plain = False
    of_features = False  # whether the vector of an item without training events is meaningful
    weight: nn.Parameter

    def __init__(self, count: int, rows: int, width: int, std: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.count, self.width, self.dropout = count, width, dropout
        self.weight = nn.Parameter(torch.empty(rows, width))
        truncated_normal_(self.weight, std=std)

    @abstractmethod
    def vectors(self, rows: Tensor | None = None) -> Tensor:
        """[U] catalogue rows -> [U, D]; None: of the whole catalogue [V, D], in row order."""

    @property
    def tables(self) -> list[nn.Parameter]:
        """Parameters of which a step changes few rows."""
        return [self.weight]

    @property
    def bytes(self) -> int:
        """Memory of parameters, and of the map from items to rows."""
        return bytes_of(self)

    def mark_trained(self, trained: Tensor) -> None:
        """Nothing: every item has a vector, trained or not."""

    def dropped(self, key: int, rows: Tensor | None = None) -> Tensor:
        """The vectors with dropout drawn by (row, channel, the step's key)."""
        vectors = self.vectors(rows)
        if not self.training or self.dropout == 0.0:
            return vectors
        rows = torch.arange(self.count, device=vectors.device) if rows is None else rows
        return ops.dropout(vectors, self.dropout, rows, key)

    def read(self, key: int, rows: Tensor, token_keys: Tensor | None = None) -> Tensor:
        """[n] rows as inputs of a step: [n, D]."""
        return self.dropped(key, rows)

    def _few(self, read: int) -> bool:
        """Whether the gradient of `rows` rows is row-sparse: a dense one would cost more than the step."""
        return read * SPARSE_ROW_FACTOR < len(self.weight)


def bytes_of(module: nn.Module) -> int:
    """Memory of all tensors of a module."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


class TableConfig(Config):
    """The base of every table's config."""

    @abstractmethod
    def build(self, catalogue: Catalogue, width: int, std: float, dropout: float = 0.0) -> Table:
        """`std`: of the initial item vectors."""


class PlainTableConfig(TableConfig):
    """A row for every item."""

    kind: Literal["plain"] = "plain"

    def build(self, catalogue: Catalogue, width: int, std: float, dropout: float = 0.0) -> PlainTable:
        return PlainTable(catalogue.items, width, std, dropout)


class HashedTableConfig(TableConfig):
    """A fixed number of rows for any catalogue."""

    kind: Literal["hashed"] = "hashed"
    rows: int = Field(default=65_536, ge=2, lt=2**31, description="R")
    hashes: int = Field(default=2, ge=1, le=16, description="H, rows that make the vector of an item")

    def build(self, catalogue: Catalogue, width: int, std: float, dropout: float = 0.0) -> HashedTable:
        return HashedTable(self, catalogue.keys, width, std, dropout)


AnyTable = Annotated[TableConfig, Kinds(TableConfig, (PlainTableConfig, HashedTableConfig))]
"""The type of a config's field that holds a table."""


class PlainTable(Table):
    """One row for each item of the catalogue, shared by input and output."""

    plain = True

    def __init__(self, count: int, width: int, std: float, dropout: float = 0.0) -> None:
        super().__init__(count, count, width, std, dropout)

    def vectors(self, rows: Tensor | None = None) -> Tensor:
        """[U] catalogue rows -> [U, D]; None: the table itself."""
        if rows is None:
            return self.weight
        return F.embedding(rows, self.weight, sparse=self._few(rows.numel()))


class HashedTable(Table):
    """vector(item) = Σ_h weight[place_h], place_h = below(mix(key of the item's id, h), R), for h < H (`facta.draws`).

    Two items share a vector if all H places are equal: about V² / 2R^H pairs of a catalogue. A file stores only the
    rows: keys follow from the ids. Memory holds the keys (8 bytes an item); places are computed on demand, so all V
    vectors cost V · H · D, and losses ask only for the items that they need.
    """

    keys: Tensor  # [V] int64

    def __init__(self, config: HashedTableConfig, keys: Tensor, width: int, std: float, dropout: float = 0.0) -> None:
        super().__init__(len(keys), config.rows, width, std / config.hashes**0.5, dropout)  # the sum has `std`
        self.hashes = config.hashes
        self.register_buffer("keys", keys, persistent=False)

    def places(self, rows: Tensor | None = None) -> Tensor:
        """[U] catalogue rows -> [U, H] rows of the table."""
        keys = self.keys if rows is None else self.keys[rows]
        hashes = torch.arange(self.hashes, device=keys.device)
        return draws.below(draws.mix(keys[:, None], hashes), len(self.weight))

    def vectors(self, rows: Tensor | None = None) -> Tensor:
        """[U] catalogue rows -> [U, D]."""
        places = self.places(rows)
        return F.embedding_bag(places, self.weight, mode="sum", sparse=self._few(places.numel()))
