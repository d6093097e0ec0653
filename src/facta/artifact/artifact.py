"""A stored artifact: loading and saving, items by id and by row, and the inputs of its requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Self

from facta.arguments import FLAG, PATH, arguments
from facta.arrays import Ints
from facta.artifact import files
from facta.artifact.contents import ArtifactData
from facta.artifact.items import ItemLookup
from facta.data.dataset.ids import ItemId, id_from_text


class StoredArtifact(ArtifactData):
    """The contents of an artifact and its items. `infer.artifact.Artifact` adds requests."""

    @classmethod
    @arguments(path=PATH)
    def load(cls, path: Path | str) -> Self:
        """Read a directory written by `facta train`, with all checksums verified. Raises ArtifactError."""
        return cls.of(files.load(path))

    @classmethod
    def of(cls, contents: ArtifactData) -> Self:
        """An artifact of existing contents."""
        return cls(**{one.name: getattr(contents, one.name) for one in fields(ArtifactData)})

    def __repr__(self) -> str:
        return f"Artifact({self.config['name']}, {self.catalogue.height:,} items, fingerprint {self.fingerprint})"

    @arguments(path=PATH, overwrite=FLAG)
    def save(self, path: Path | str, *, overwrite: bool = False) -> str:
        """Write the directory, whole or not at all; returns its fingerprint. Raises ArtifactError, ResourceError."""
        return files.save(self, path, overwrite=overwrite)

    def rows_of(self, ids: Iterable[ItemId]) -> Ints:
        """[n] item ids -> [n] catalogue rows, -1 for unknown ids. Raises DataError for ids of another type."""
        return self._items.rows_of(ids)

    def id_from_text(self, text: str) -> ItemId:
        """The item id of a command-line `text`. Raises DataError."""
        return id_from_text(self.catalogue["item_id"], text, "item")

    def titles(self, ids: Iterable[ItemId]) -> list[str | None]:
        """Titles of items; None for an unknown item, and if the catalogue has no titles."""
        return self._items.titles(self.rows_of(ids))

    @property
    def reads_time(self) -> bool:
        """Whether histories and requests need times: as a feature, or for changing facts."""
        return self.model.config.uses_time or self.model.inputs.series

    @property
    def changing(self) -> list[str]:
        """Facts of users that change."""
        return [one.name for one in files.described(self.schema).series_fields]

    @cached_property
    def _items(self) -> ItemLookup:
        return ItemLookup(self.catalogue)
