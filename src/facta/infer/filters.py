"""Which items may be recommended: what a request says in the words of people, and as rows of a catalogue.

Filters come before the best k are chosen, so a list is short only where nothing is left.

Letters: V catalogue items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from facta.arrays import Bools, Ints
from facta.artifact.items import ItemLookup
from facta.data.batches.encoded import EncodedHistory
from facta.data.dataset.ids import ItemId
from facta.errors import ConfigError
from facta.infer.item_columns import Condition, ItemColumns
from facta.retrieval.capped import Cap, Limits

Exclude = Literal["history", "nothing"] | Sequence[ItemId]


@dataclass(frozen=True)
class Filters:
    """As `Artifact.recommend` is told."""

    exclude: Exclude | None = None
    allow: Sequence[ItemId] | None = None
    where: Mapping[str, Any] | None = None
    at_most: Mapping[str, int] | None = None

    @property
    def said(self) -> dict[str, str]:
        """What a file of lists is told of them beside `exclude`."""
        return {
            name: str(list(one) if name == "allow" else one)
            for name, one in (("allow", self.allow), ("where", self.where), ("at_most", self.at_most))
            if one is not None
        }


@dataclass(frozen=True)
class Selection:
    """The filters of a request in rows of a catalogue of `count` items. Masks are made when it is asked: many requests
    may wait."""

    count: int  # V
    newest: int | None  # events of the history that are excluded; None: all of them
    excluded: Ints | None  # rows; None: those of the history
    allowed: Ints | None  # rows; None: all
    conditions: tuple[Condition, ...]
    caps: tuple[Cap, ...]

    def limits(self, history: EncodedHistory, retired: Ints) -> Limits:
        """What a list for a history may hold. `retired`: rows that no list holds."""
        own = history.rows if self.newest is None else history.rows[max(len(history) - self.newest, 0) :]
        hidden = np.concatenate([own if self.excluded is None else self.excluded, retired])
        if self.allowed is None and not self.conditions:
            return Limits(hidden, self.caps)
        left = self._left()
        left[hidden] = False
        return Limits(np.flatnonzero(~left), self.caps)

    def _left(self) -> Bools:
        """[V] whether an item is allowed and meets all conditions."""
        left = np.full(self.count, self.allowed is None)
        if self.allowed is not None:
            left[self.allowed] = True
        for condition in self.conditions:
            left &= condition.met()
        return left


def selection(filters: Filters, items: ItemLookup, columns: ItemColumns, masked_events: int | None) -> Selection:
    """Raises ConfigError and DataError for what is no filter. `masked_events`: how many of the newest events an
    artifact excludes where nothing is said; None: all."""
    newest, excluded = masked_events if filters.exclude is None else None, None
    if not (filters.exclude is None or isinstance(filters.exclude, str)):
        excluded = _rows(items, filters.exclude)
    elif filters.exclude == "nothing":
        excluded = np.zeros(0, dtype=np.int64)
    elif filters.exclude not in (None, "history"):
        raise ConfigError(f"Found exclude = {filters.exclude!r}; expected 'history', 'nothing' or a list of item ids.")
    return Selection(
        count=len(items.catalogue),
        newest=newest,
        excluded=excluded,
        allowed=None if filters.allow is None else _rows(items, filters.allow),
        conditions=columns.conditions({} if filters.where is None else filters.where),
        caps=_caps({} if filters.at_most is None else filters.at_most, columns),
    )


def _rows(items: ItemLookup, ids: Sequence[ItemId]) -> Ints:
    """Of the ids that the catalogue has."""
    rows = items.rows_of(ids)
    return rows[rows >= 0]


def _caps(at_most: Mapping[str, int], columns: ItemColumns) -> tuple[Cap, ...]:
    fits = isinstance(at_most, Mapping) and all(
        isinstance(name, str) and isinstance(most, (int, np.integer)) and not isinstance(most, bool) and most > 0
        for name, most in at_most.items()
    )
    if not fits:
        raise ConfigError(
            f"Found at_most = {at_most!r:.80}; expected whole numbers above 0 by column, as in {{'genre': 2}}."
        )
    return tuple(Cap(columns.of(name, "at_most").groups, int(most)) for name, most in at_most.items())
