"""The items of an artifact by id and by row: ids, titles and training events of its catalogue.

A catalogue may have millions of items, so no Python object is made for each: ids and titles are read from the table on
demand.

Letters: V catalogue items, n items asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from facta.arguments import unlike
from facta.arrays import Bools, Floats32, Ints
from facta.data.dataset.ids import Ids, ItemId, plain_value
from facta.errors import DataError


class ItemLookup:
    """`catalogue`: row, item_id, training_events, and optionally title."""

    def __init__(self, catalogue: pl.DataFrame) -> None:
        self.catalogue = catalogue
        self._ids = Ids(catalogue["item_id"], "item")

    def rows_of(self, ids: Iterable[ItemId]) -> Ints:
        """[n] item ids -> [n] catalogue rows, -1 for unknown ids. Raises DataError for ids of another type."""
        if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
            raise unlike("the ids", ids, "a list of item ids")
        return self._ids.rows_if_known(self.same_type(list(ids)))

    def known_rows(self, ids: Iterable[Any]) -> Ints:
        """[n] item ids -> [n] catalogue rows. Raises DataError for unknown ids, too."""
        return self._ids.rows(self.same_type(list(ids)))

    def same_type(self, ids: list[Any]) -> list[ItemId]:
        """[n] ids as plain values. Raises DataError for ids of another type than the catalogue's."""
        plain, first = [plain_value(id_) for id_ in ids], self._ids.ids[0]
        wrong = [id_ for id_ in plain if type(id_) is not type(first)]
        if wrong:
            raise DataError(
                f"Found the item id {wrong[0]!r} of type {type(wrong[0]).__name__}; ids of this catalogue are of type "
                f"{type(first).__name__}, such as {first!r}."
            )
        return plain

    @property
    def text_ids(self) -> bool:
        """Whether ids are texts, not whole numbers."""
        return self._ids.ids.dtype == pl.String

    def ids(self, rows: Ints) -> list[ItemId]:
        """[n] catalogue rows -> their ids."""
        return self._ids.ids[rows].to_list()

    def titles(self, rows: Ints) -> list[str | None]:
        """[n] catalogue rows -> their titles; None for the row -1, and for an item without a title."""
        if "title" not in self.catalogue.columns:
            return [None] * len(rows)
        found = iter(self.catalogue["title"][rows[rows >= 0]].cast(pl.String).to_list())
        return [next(found) if row >= 0 else None for row in rows.tolist()]

    @cached_property
    def training_events(self) -> Floats32:
        """[V] training events of each item."""
        return self.catalogue["training_events"].to_numpy().astype(np.float32)

    @cached_property
    def trained(self) -> Bools:
        """[V] whether an item has training events."""
        found: Bools = self.training_events > 0
        return found
