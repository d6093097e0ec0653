"""Bucket boundaries that are quantiles: they are computed from the training part.

A dataset stores numbers; a batch looks up their buckets. So one dataset can be read with different boundaries: those of
the training part of a split (`of_training`), or those of an artifact (`as_read_by`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from facta import arrays
from facta.arrays import Bools
from facta.data.dataset.codes import bound, defined, positive_codes, quantiles
from facta.data.dataset.dataset import Dataset, Fields
from facta.data.dataset.features import numbers
from facta.data.dataset.schema import Field
from facta.data.split.splits import Split, training_events

Values = Callable[[Field], npt.NDArray[Any]]
"""A field -> its values in the training part, without missing ones."""


def of_training(dataset: Dataset, split: Split) -> Dataset:
    """The dataset with quantiles of the training part as boundaries, where none were declared.

    The training part: training events, their items, their users, and the series of each user up to the user's last
    training event. Values out of range fall in the first or the last bucket.
    """
    known = dataset.manifest
    if not any(one.quantiles for one in (*known.fields, *known.others)):
        return dataset
    events, users = training_events(dataset, split), np.flatnonzero(split.train_end)
    items = np.unique(dataset.item[events])

    def event_values(one: Field) -> npt.NDArray[Any]:
        values = dataset.fields[one.name][events]
        return values[defined(one, values)]

    return dataset.described(
        Fields(
            fields=_cut(known.fields, event_values),
            item_fields=_cut(known.item_fields, lambda one: _present(dataset.items[one.name].gather(items))),
            user_fields=_cut(known.user_fields, lambda one: _present(dataset.users[one.name].gather(users))),
            series_fields=_cut(known.series_fields, lambda one: _series_values(dataset, split, one)),
        )
    )


def as_read_by(dataset: Dataset, known: Fields) -> Dataset:
    """The dataset with the boundaries of an artifact (`known`), except where the dataset declares its own."""
    ours = dataset.manifest
    return dataset.described(
        Fields(
            fields=_taken(ours.fields, known.fields),
            item_fields=_taken(ours.item_fields, known.item_fields),
            user_fields=_taken(ours.user_fields, known.user_fields),
            series_fields=_taken(ours.series_fields, known.series_fields),
        )
    )


def with_boundaries(field: Field, cuts: tuple[float, ...]) -> Field:
    """A numeric field with other boundaries, to which the number of its condition of success is added."""
    condition = field.positive_when
    if condition is None:
        return field.change(boundaries=cuts)
    field = field.change(boundaries=tuple(sorted({*cuts, bound(field.name, condition)})))
    return field.change(positive=positive_codes(field, condition))


def _cut(fields: Sequence[Field], values: Values) -> tuple[Field, ...]:
    return tuple(with_boundaries(one, quantiles(values(one))) if one.quantiles else one for one in fields)


def _taken(ours: Sequence[Field], theirs: Sequence[Field]) -> tuple[Field, ...]:
    """Our fields with the boundaries of theirs. The number of our condition of success is added where theirs lack it;
    the comparison of the two codings then finds the difference.
    """
    cuts = {one.name: one.boundaries for one in theirs if one.kind == "numeric"}
    return tuple(
        with_boundaries(one, cuts[one.name] or ()) if one.quantiles and one.name in cuts else one for one in ours
    )


def _present(column: pl.Series) -> npt.NDArray[Any]:
    found = numbers(column, "numeric")
    present: npt.NDArray[Any] = found[~np.isnan(found)]
    return present


def _series_values(dataset: Dataset, split: Split, field: Field) -> npt.NDArray[Any]:
    stored, place = dataset.stored_series, dataset.manifest.series_fields.index(field)
    assert stored is not None
    owner = arrays.rows(stored.offsets)
    keep: Bools = (stored.field == place) & (split.train_end[owner] > 0)
    if dataset.timestamp is not None:
        last = dataset.offsets[:-1] + np.maximum(split.train_end, 1) - 1
        keep &= stored.time <= dataset.timestamp[np.minimum(last, dataset.num_events - 1)][owner]
    found: npt.NDArray[Any] = stored.value[keep & ~np.isnan(stored.value)]
    return found
