"""Items by what their titles say: those that begin with what was typed, then those that have all its words.

Letters: V catalogue items.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from facta.arrays import Ints


class Titles:
    """The titles of a catalogue; without titles, its ids."""

    def __init__(self, catalogue: pl.DataFrame) -> None:
        self._catalogue = catalogue
        named = "title" if "title" in catalogue.columns else "item_id"
        self._titles = catalogue[named].cast(pl.String).fill_null("")
        self._low = self._titles.str.to_lowercase()  # [V]
        self._shown = self._titles if named == "title" else None
        self._seen = catalogue["training_events"]

    def find(self, typed: str, k: int) -> list[dict[str, Any]]:
        """The k items that fit best; of equal ones those with more training events."""
        words = typed.lower().split()
        if not words:
            return []
        fits = self._low.str.contains(words[0], literal=True)
        for word in words[1:]:
            fits &= self._low.str.contains(word, literal=True)
        rows = fits.arg_true()
        begins = self._low[rows].str.starts_with(" ".join(words))
        best = pl.DataFrame({"row": rows, "begins": begins, "seen": self._seen[rows]})
        best = best.sort(["begins", "seen", "row"], descending=[True, True, False]).head(k)
        return self.of(best["row"].to_numpy())

    def of(self, rows: Ints) -> list[dict[str, Any]]:
        """The items of some rows of the catalogue, in their order."""
        ids = self._catalogue["item_id"][rows].to_list()
        titles = [None] * len(ids) if self._shown is None else self._shown[rows].to_list()
        return [{"id": id_, "title": title} for id_, title in zip(ids, titles, strict=True)]
