"""Stored values as codes: what embeddings and heads count by. 0 is undefined, 1 and up are the values in order.

    binary        false, true
    categorical   the sorted categories
    ordinal       the levels
    numeric       buckets: below the first boundary, from it up to the next, …; a bucket holds its lower boundary

Letters: n values, C codes of a field, "undefined" among them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.arrays import Floats, Ints
from facta.data.schema import Field
from facta.errors import ConfigError

BUCKETS = 16


def codes(field: Field, values: npt.NDArray[Any]) -> Ints:
    """[n] stored values -> [n] codes 0 … C-1."""
    missing = _missing(field, values)
    match field.kind:
        case "ordinal":
            found = np.searchsorted(np.asarray(field.levels), values, side="left")
        case "numeric":
            found = np.searchsorted(np.asarray(field.boundaries or ()), values, side="right")
        case _:
            found = np.asarray(values, dtype=np.int64)
    return np.where(missing, 0, found.astype(np.int64) + 1)


def _missing(field: Field, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values))
    return np.zeros(len(values), dtype=bool) if field.undefined is None else np.asarray(values == field.undefined)


def centers(field: Field) -> Floats:
    """[C-1] the number that stands for each code but "undefined": a level, or the middle of a bucket.

    The first and last bucket have one boundary alone; it stands for them.
    """
    if field.kind == "ordinal":
        return np.asarray(field.levels, dtype=np.float64)
    edges = np.asarray(field.boundaries or (0.0,), dtype=np.float64)
    return np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])


def quantiles(values: npt.NDArray[Any], buckets: int = BUCKETS) -> tuple[float, ...]:
    """Boundaries that part the finite values into about equally full buckets; fewer where values repeat."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ()
    cuts = np.unique(np.quantile(finite, np.arange(1, buckets) / buckets, method="higher"))
    return tuple(float(cut) for cut in cuts if cut > finite.min())


def positive_codes(field: Field, condition: str) -> tuple[int, ...]:
    """The codes whose values meet a condition such as ">= 4", "= 'like'" or "in (3, 4)" (SQL, of the value alone).

    A numeric field is cut at its boundaries: what the condition names has to be one of them. Raises ConfigError.
    """
    values = _values(field)
    try:
        held = pl.DataFrame({"value": values}).select(pl.sql_expr(f"value {condition}").cast(pl.Boolean))
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            f"Found positive = {condition!r} for '{field.name}' ({error}); expected a condition on its value, as in "
            "'>= 4', \"= 'like'\" or 'in (3, 4)'."
        ) from error
    found = tuple(int(place) + 1 for place in np.flatnonzero(held.to_series().to_numpy()))
    if not found or len(found) == len(values):
        raise ConfigError(
            f"positive = {condition!r} holds for {'every' if found else 'no'} value of '{field.name}' "
            f"({', '.join(map(str, values[:8]))}{', …' if len(values) > 8 else ''}); expected some and not all."
        )
    return found


def _values(field: Field) -> list[Any]:
    """What stands for each code but "undefined"."""
    match field.kind:
        case "binary":
            return [0, 1]
        case "ordinal":
            return list(field.levels or ())
        case "numeric":
            return [-np.inf, *(field.boundaries or ())]
        case _:
            return list(field.categories or ())
