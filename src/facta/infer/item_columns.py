"""Columns of an item table as people name them in a request: which items have a value, or a number between two.

A condition is a value, a list of values of which an item has one, or {"min": …, "max": …} of numbers, both included.
An item of several values meets it with any of them; an item without a value meets none.

Letters: V catalogue items, n pairs of an item and a value.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from facta.arrays import Bools, Floats, Ints
from facta.data.dataset.columns import as_text
from facta.data.dataset.features import flat, numbers, texts
from facta.data.dataset.ids import plain_value
from facta.data.dataset.moments import moment
from facta.data.dataset.one_value import number, unlike
from facta.data.dataset.schema import Field
from facta.data.log.features import kind_of_values
from facta.errors import ConfigError
from facta.retrieval.capped import Groups

_TEXTS = ("categorical", "multi")
_NUMBERS = ("numeric", "ordinal", "binary")
_OURS = ("row", "item_id", "training_events")
_BOUNDS = ("min", "max")


class ItemColumn:
    """One column of all items."""

    def __init__(self, field: Field, column: pl.Series) -> None:
        self.field, self._column = field, column

    @cached_property
    def groups(self) -> Groups:
        """Which items have which values."""
        item, values = self._pairs
        place = values.replace_strict(self._known, np.arange(len(self._known)), return_dtype=pl.Int64)
        return Groups.of(item, place.to_numpy(), len(self._column), len(self._known))

    @cached_property
    def places(self) -> dict[Hashable, int]:
        """Value -> its number among the groups."""
        return {value: place for place, value in enumerate(self._known.to_list())}

    @cached_property
    def numbers(self) -> Floats:
        """[V] NaN where an item has none."""
        return numbers(self._column, self.field.kind)

    @cached_property
    def _pairs(self) -> tuple[Ints, pl.Series]:
        """[n] items, [n] values of theirs."""
        if self.field.kind == "multi":
            lists = texts(self._column)
            lengths = lists.list.len().fill_null(0).to_numpy()
            item, values = np.repeat(np.arange(len(lists)), lengths), flat(lists)
        else:
            by_text = self.field.kind == "categorical"
            item = np.arange(len(self._column))
            values = as_text(self._column) if by_text else pl.Series(self.numbers, dtype=pl.Float64).fill_nan(None)
        there = values.is_not_null()
        return item[there.to_numpy()], values.filter(there)

    @cached_property
    def _known(self) -> pl.Series:
        return self._pairs[1].unique(maintain_order=True)

    def value(self, given: Any) -> Hashable:
        """A value as it stands among the groups. Raises DataError for one of another type than the column's."""
        given = plain_value(given)
        if given is None or given != given:
            raise unlike(self.field, given)
        if self.field.kind in _TEXTS:
            return _text(self.field, given)
        if self._column.dtype in (pl.Date, pl.Datetime) and isinstance(given, str):
            given = moment(given)
        found = number(self.field, given)
        return float(np.float32(found)) if self._column.dtype == pl.Float32 else found  # 0.7 is another number there


@dataclass(frozen=True)
class Condition:
    """What a column of an item has to be: one of some values, or a number between two."""

    column: ItemColumn
    values: tuple[Hashable, ...] | None = None
    low: float = -np.inf
    high: float = np.inf

    def met(self) -> Bools:
        """[V]."""
        if self.values is None:
            found: Bools = (self.column.numbers >= self.low) & (self.column.numbers <= self.high)
            return found
        groups, places = self.column.groups, self.column.places
        found = np.zeros(len(groups.offsets) - 1, dtype=np.bool_)
        for value in self.values:
            if value in places:
                found[groups.having(places[value])] = True
        return found


class ItemColumns:
    """The columns of a catalogue: the declared ones as the schema has them, the others by what their values tell."""

    def __init__(self, catalogue: pl.DataFrame, declared: Sequence[Field]) -> None:
        self._catalogue, self._declared = catalogue, {one.name: one for one in declared}
        self._made: dict[str, ItemColumn] = {}

    def of(self, name: str, what: str) -> ItemColumn:
        """Raises ConfigError for a column that there is not, or whose items have no values to be told apart by."""
        if name not in self._made:
            self._made[name] = self._make(name, what)
        return self._made[name]

    def _make(self, name: str, what: str) -> ItemColumn:
        named = [column for column in self._catalogue.columns if column not in _OURS]
        if name not in named:
            raise ConfigError(
                f"Found the column {name!r} in {what}; the items of this artifact have: {', '.join(named) or 'none'}."
            )
        column = self._catalogue[name]
        known = self._declared.get(name)
        kind = kind_of_values(column) if known is None else known.kind
        if kind not in (*_TEXTS, *_NUMBERS):
            raise ConfigError(
                f"Found '{name}' in {what}, which is a {kind}; expected one of categories, numbers or truth values."
            )
        return ItemColumn(known or Field(name=name, role="item", kind=kind, dtype=str(column.dtype)), column)

    def conditions(self, where: Mapping[str, Any]) -> tuple[Condition, ...]:
        """What items have to meet, all of it. Raises ConfigError, and DataError for values of another type."""
        if not isinstance(where, Mapping) or not all(isinstance(name, str) for name in where):
            raise ConfigError(
                f"Found where = {where!r:.80}; expected conditions by column, as in {{'genre': 'Comedy'}}."
            )
        return tuple(_condition(self.of(name, "where"), given) for name, given in where.items())


def _condition(column: ItemColumn, given: Any) -> Condition:
    name, kind = column.field.name, column.field.kind
    if isinstance(given, Mapping):
        if not given or not set(given) <= {*_BOUNDS}:
            raise ConfigError(f"Found {dict(given)!r:.80} for '{name}' in where; expected min, max or both.")
        if kind not in ("numeric", "ordinal"):
            raise ConfigError(
                f"Found {dict(given)!r:.80} for '{name}' in where, which is {kind}; only numbers have a min and a max: "
                "give a value, or a list of values."
            )
        low, high = (column.value(given[one]) if one in given else None for one in _BOUNDS)
        return Condition(column, None, -np.inf if low is None else low, np.inf if high is None else high)  # type: ignore[arg-type]
    several = isinstance(given, Collection) and not isinstance(given, (str, bytes))
    return Condition(column, tuple(column.value(one) for one in (given if several else [given])))


def _text(field: Field, given: Any) -> str:
    """A category as the log names it."""
    if not isinstance(given, (str, bool, int, float)):
        raise unlike(field.change(kind="categorical"), given)
    if isinstance(given, bool):
        return str(given).lower()
    return str(int(given)) if isinstance(given, float) and given.is_integer() else str(given)
