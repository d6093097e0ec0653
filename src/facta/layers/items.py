"""Item vectors: of ids alone, or of ids and features (item tower).

Letters: V catalogue items, U rows asked for, D width.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from facta import draws
from facta.config import Config
from facta.data.dataset.catalogue import Catalogue
from facta.errors import ConfigError
from facta.layers.codes import FeatureVectors
from facta.layers.tables import AnyTable, PlainTableConfig, Table, bytes_of

_HIDING_SALT = 2  # salt of the draws that hide ids


class ItemsConfig(Config):
    """How items become vectors."""

    item_std: float = Field(default=0.02, gt=0, description="of the initial vectors")
    table: AnyTable | None = Field(
        default=None,
        description="table of id vectors: null: a row for every item; hashed: a fixed number of rows",
    )
    table_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="dropout of the item table, drawn once a step for both inputs and scores",
    )
    features: bool | None = Field(
        default=False, description="read the features of items that the dataset declares; None: if it declares any"
    )
    id_width: int | None = Field(
        default=None, ge=1, description="width of id vectors beside features, projected to D; None: D"
    )
    hidden_ids: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of input items whose ids are hidden in training, so that the features of new items suffice",
    )

    @model_validator(mode="after")
    def _of_features(self) -> ItemsConfig:
        if self.features is False and (self.id_width or self.hidden_ids):
            raise ConfigError(
                f"Found embedding.id_width {self.id_width} and embedding.hidden_ids {self.hidden_ids} without item "
                "features (embedding.features is false): set them to null and 0, or features to true."
            )
        return self

    def build(self, catalogue: Catalogue, width: int) -> Table | ItemTower:
        """A table of ids alone, or a tower of ids and features."""
        read = bool(catalogue.features) if self.features is None else self.features
        return ItemTower(self, catalogue, width) if read else self.ids(catalogue, width)

    def ids(self, catalogue: Catalogue, width: int) -> Table:
        """The table of ids. `null`, of recipes of older versions, means `plain`."""
        return (self.table or PlainTableConfig()).build(catalogue, width, self.item_std, self.table_dropout)


class ItemTower(nn.Module):
    """Id and features together: vector = id + Σ features. The id of an item without training events is `unknown`."""

    of_features = True
    trained: Tensor  # [V] bool

    def __init__(self, config: ItemsConfig, catalogue: Catalogue, width: int) -> None:
        super().__init__()
        if not catalogue.features:
            raise ConfigError(
                "Found model.embedding.features=true for a dataset without declared item features: set it to null "
                "(features if there are any), or declare some when the log is prepared."
            )
        self.width, self.hidden = width, config.hidden_ids
        self.ids = config.ids(catalogue, config.id_width or width)
        self.wide = nn.Linear(config.id_width, width, bias=False) if config.id_width else None
        self.unknown = nn.Parameter(torch.zeros(width))
        self.features = FeatureVectors(catalogue.features, width, config.item_std)
        self.register_buffer("trained", torch.ones(catalogue.items, dtype=torch.bool))

    @property
    def plain(self) -> bool:
        """Whether losses may read all vectors: those over a plain table are computed once a step."""
        return self.ids.plain

    @property
    def tables(self) -> list[nn.Parameter]:
        """Parameters with a row for every item or code of a feature."""
        return [*self.ids.tables, *self.features.tables]

    @property
    def bytes(self) -> int:
        """Memory of parameters, features, and the map from items to rows."""
        return bytes_of(self)

    def mark_trained(self, trained: Tensor) -> None:
        """[V] bool: which items have training events."""
        self.trained.copy_(trained)

    def vectors(self, rows: Tensor | None = None) -> Tensor:
        """[U] rows -> [U, D]; None: the whole catalogue [V, D], in row order."""
        return self._of(rows, self.ids.vectors(rows))

    def dropped(self, key: int, rows: Tensor | None = None) -> Tensor:
        """The vectors with this step's dropout."""
        return self._of(rows, self.ids.dropped(key, rows))

    def read(self, key: int, rows: Tensor, token_keys: Tensor | None = None) -> Tensor:
        """[n] rows as inputs of a step: [n, D]; the token's draws decide which ids are hidden."""
        hidden = None
        if self.training and self.hidden and token_keys is not None:
            bits = draws.below(draws.mix(token_keys, _HIDING_SALT), 1 << 30)
            hidden = bits < self.hidden * (1 << 30)
        return self._of(rows, self.ids.dropped(key, rows), hidden)

    def _of(self, rows: Tensor | None, ids: Tensor, hidden: Tensor | None = None) -> Tensor:
        known = self.trained if rows is None else self.trained[rows]
        known = known if hidden is None else known & ~hidden
        ids = ids if self.wide is None else self.wide(ids)
        ids = torch.where(known[:, None], ids, self.unknown)
        return ids + self._features(rows)

    def _features(self, rows: Tensor | None) -> Tensor:
        """Feature vectors of rows; computed once per item if there are more rows than items."""
        every = torch.arange(len(self.trained), device=self.unknown.device)
        if rows is None or len(rows) > len(every):
            vectors: Tensor = self.features(every)
            return vectors if rows is None else nn.functional.embedding(rows, vectors)
        few: Tensor = self.features(rows)
        return few
