"""Item towers: a vector for every item, of its id alone or with its features.

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

_HIDDEN = 2  # salt of the draws that hide ids


class ItemsConfig(Config):
    """How items become vectors."""

    item_std: float = Field(default=0.02, gt=0, description="of the initial vectors")
    table: AnyTable | None = Field(
        default=None,
        description="where the vectors of ids are kept: null: a row for every item; or hashed: a fixed number of rows",
    )
    table_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of the item table: one draw per step, the same where items are read and scored",
    )
    features: bool | None = Field(
        default=False, description="read the features of items that the dataset declares; None: where it declares any"
    )
    id_width: int | None = Field(
        default=None, ge=1, description="of the items' own part beside features, made D wide by one matrix; None: D"
    )
    hidden_ids: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of input items shown by their features alone, so that those of new items suffice",
    )

    @model_validator(mode="after")
    def _of_features(self) -> ItemsConfig:
        if self.features is False and (self.id_width or self.hidden_ids):
            raise ConfigError(
                f"embedding.id_width is {self.id_width} and embedding.hidden_ids {self.hidden_ids}, which are of items "
                "with features, and embedding.features is false: set them to null and 0, or features to true."
            )
        return self

    def build(self, catalogue: Catalogue, width: int) -> Table | ItemTower:
        """A table of ids alone, or a tower of ids and features."""
        read = bool(catalogue.features) if self.features is None else self.features
        return ItemTower(self, catalogue, width) if read else self.ids(catalogue, width)

    def ids(self, catalogue: Catalogue, width: int) -> Table:
        """The table of ids. `null` and `plain` are the same: the first is what recipes of older versions say."""
        return (self.table or PlainTableConfig()).build(catalogue, width, self.item_std, self.table_dropout)


class ItemTower(nn.Module):
    """Id and features together: vector = id + Σ features. The id of an item without training events is `unknown`."""

    of_features = True
    trained: Tensor  # [V] bool

    def __init__(self, config: ItemsConfig, catalogue: Catalogue, width: int) -> None:
        super().__init__()
        if not catalogue.features:
            raise ConfigError(
                "model.embedding.features is true, and this dataset declares no features of items: set it to null "
                "(where there are any), or declare some when the log is prepared."
            )
        self.width, self.hidden = width, config.hidden_ids
        self.ids = config.ids(catalogue, config.id_width or width)
        self.wide = nn.Linear(config.id_width, width, bias=False) if config.id_width else None
        self.unknown = nn.Parameter(torch.zeros(width))
        self.features = FeatureVectors(catalogue.features, width, config.item_std)
        self.register_buffer("trained", torch.ones(catalogue.items, dtype=torch.bool))

    @property
    def plain(self) -> bool:
        """Whether losses may ask for all vectors: those of a plain table are made once a step."""
        return self.ids.plain

    @property
    def tables(self) -> list[nn.Parameter]:
        """What has a row for every item, or for every code of a feature."""
        return [*self.ids.tables, *self.features.tables]

    @property
    def bytes(self) -> int:
        """Memory of what is learned, of features, and of what leads from an item to its rows."""
        return bytes_of(self)

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
