"""Stored values as codes, which index embeddings and heads. 0 is undefined, 1 and up are the values in order.

    binary        false, true
    categorical   the sorted categories
    ordinal       the levels
    numeric       buckets: below the first boundary, then between boundaries; a bucket includes its lower boundary

Letters: n values, C codes of a field, "undefined" among them.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.arrays import Bools, Floats, Ints
from facta.data.dataset.schema import Field
from facta.errors import ConfigError

BUCKETS = 16
_SAMPLE_VALUES = 1_000_000
_BOUND = re.compile(r"\s*(?:>=|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


def codes(field: Field, values: npt.NDArray[Any]) -> Ints:
    """[n] stored values -> [n] codes 0 … C-1."""
    missing = ~defined(field, values)
    exact = values.dtype if values.dtype.kind == "f" else np.float64  # 0.7 as float32 lies below 0.7
    match field.kind:
        case "ordinal":
            found = np.searchsorted(np.asarray(field.levels or (), dtype=exact), values, side="left")
        case "numeric":
            found = np.searchsorted(np.asarray(field.boundaries or (), dtype=exact), values, side="right")
        case _:
            found = np.where(missing, 0, values).astype(np.int64)
    return np.where(missing, 0, found.astype(np.int64) + 1)


def defined(field: Field, values: npt.NDArray[Any]) -> Bools:
    """[n] stored values -> [n] which of them are not missing."""
    found: Bools
    if values.dtype.kind == "f":
        found = ~np.isnan(values)
    else:
        found = np.ones(len(values), dtype=np.bool_) if field.undefined is None else values != field.undefined
    return found


def centers(field: Field) -> Floats:
    """[C-1] the representative number of each code but "undefined": a level, or the middle of a bucket.

    The first and last bucket have only one boundary, which represents them.
    """
    if field.kind == "ordinal":
        return np.asarray(field.levels, dtype=np.float64)
    edges = np.asarray(field.boundaries or (), dtype=np.float64)
    if not len(edges):
        return np.zeros(1)
    return np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])


def quantiles(values: npt.NDArray[Any]) -> tuple[float, ...]:
    """Boundaries that divide [n] numbers into 16 about equally full buckets, fewer where values repeat.

    Of more than a million numbers, a million are used, evenly spaced.
    """
    some = values[:: max(1, len(values) // _SAMPLE_VALUES)]
    if not len(some):
        return ()
    cuts = np.unique(np.quantile(some, np.arange(1, BUCKETS) / BUCKETS, method="higher"))
    return tuple(float(cut) for cut in cuts if cut > some.min())


def bound(name: str, condition: str) -> float:
    """The number in a condition on a numeric field, such as ">= 18": a boundary of its buckets. Raises ConfigError."""
    found = _BOUND.fullmatch(condition)
    if found is None:
        raise ConfigError(
            f"Found positive = {condition!r} for '{name}', which is kept in buckets that hold their lower boundary; "
            "expected '>= NUMBER' or '< NUMBER'."
        )
    return float(found[1])


def positive_codes(field: Field, condition: str) -> tuple[int, ...]:
    """The codes whose values meet a condition such as ">= 4", "= 'like'" or "in (3, 4)" (SQL, of the value alone).

    For a numeric field the number of the condition (`bound`) must be one of its boundaries. Raises ConfigError.
    """
    values = values_of(field)
    try:
        held = pl.DataFrame({"value": values}).select(pl.sql_expr(f"value {condition}")).to_series()
    except pl.exceptions.PolarsError as error:
        raise _no_condition(field.name, condition, str(error).partition("\n")[0]) from error
    if held.dtype != pl.Boolean:
        raise _no_condition(field.name, condition, f"its value is {held.dtype}")
    found = tuple(int(place) + 1 for place in np.flatnonzero(held.fill_null(False).to_numpy()))
    if not found or len(found) == len(values):
        raise ConfigError(
            f"positive = {condition!r} holds for {'every' if found else 'no'} value of '{field.name}' "
            f"({', '.join(map(str, values[:8]))}{', …' if len(values) > 8 else ''}); expected some and not all."
        )
    return found


def _no_condition(name: str, condition: str, why: str) -> ConfigError:
    return ConfigError(
        f"Found positive = {condition!r} for '{name}' ({why}); expected a condition on its value, as in "
        "'>= 4', \"= 'like'\" or 'in (3, 4)'."
    )


def values_of(field: Field) -> list[Any]:
    """[C-1] the value of each code but "undefined"; of a bucket its lower boundary, of the first bucket -inf."""
    match field.kind:
        case "binary":
            return [0, 1]
        case "ordinal":
            return list(field.levels or ())
        case "numeric":
            return [-np.inf, *(field.boundaries or ())]
        case _:
            return list(field.categories or ())
