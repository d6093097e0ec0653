"""What a model is built from: the number of items, their features, and the fields of events and users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl
from torch import Tensor

from facta.data.dataset.dataset import Dataset, Fields
from facta.data.dataset.features import Feature, feature
from facta.data.dataset.keys import id_keys
from facta.data.dataset.schema import Field


@dataclass(frozen=True)
class Catalogue:
    """The items by row, and the fields that a model may read. An artifact stores all of it."""

    items: int
    features: Mapping[str, Feature] = field(default_factory=dict)
    fields: tuple[Field, ...] = ()  # context and feedback of events
    users: tuple[Field, ...] = ()  # constant facts of users
    series: tuple[Field, ...] = ()  # slowly changing facts of users
    ids: pl.Series | None = None  # the items' own ids, by row; None: rows are the ids, as in synthetic worlds

    @cached_property
    def keys(self) -> Tensor:
        """[V] int64: a key of each item's own id. Computed where it is asked for: a million texts take a second."""
        return id_keys(pl.Series("item_id", range(self.items), dtype=pl.Int64) if self.ids is None else self.ids)

    @classmethod
    def of(cls, dataset: Dataset) -> Catalogue:
        return cls.described(dataset.items, dataset.manifest)

    @classmethod
    def described(cls, items: pl.DataFrame, known: Fields) -> Catalogue:
        """From an item table and the fields of a dataset."""
        features = {one.name: feature(one, items[one.name]) for one in known.item_fields}
        return cls(items.height, features, known.fields, known.user_fields, known.series_fields, items["item_id"])
