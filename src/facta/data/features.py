"""Columns of the item and user tables in codes.

Letters: V items (or users), C codes of a field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from facta import jagged
from facta.data.codes import codes
from facta.data.schema import Field


@dataclass(frozen=True)
class Feature:
    """One feature of every item, or one fact of every user."""

    field: Field
    values: Tensor  # [V] codes; multi: [n] codes, jagged; vector: [V, width] float32
    offsets: Tensor | None = None  # [V+1], multi alone


def feature(described: Field, column: pl.Series) -> Feature:
    """A column in codes; what the description does not know is undefined."""
    match described.kind:
        case "vector":
            width = described.width or 0
            rows = [[0.0] * width if row is None else list(row) for row in column.to_list()]
            return Feature(described, torch.tensor(rows, dtype=torch.float32).view(len(rows), width))
        case "multi":
            lists = texts(column)
            lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
            found = _categories(described, lists.explode(empty_as_null=False, keep_nulls=False))
            return Feature(described, found, jagged.offsets_of(torch.from_numpy(lengths)))
        case "categorical":
            return Feature(described, _categories(described, column.cast(pl.String)))
        case _:
            values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
            return Feature(described, torch.from_numpy(codes(described, values)))


def texts(column: pl.Series) -> pl.Series:
    """A multi-valued column as lists of texts; `A|B` is two."""
    if column.dtype == pl.String:
        return column.str.split("|")
    return column.cast(pl.List(pl.String))


def _categories(described: Field, column: pl.Series) -> Tensor:
    """[n] texts -> [n] codes."""
    known = pl.Series(list(described.categories or ()), dtype=pl.String)
    code = pl.Series(np.arange(1, len(known) + 1))
    found = column.replace_strict(known, code, default=0, return_dtype=pl.Int64) if len(known) else column.is_null() * 0
    return torch.from_numpy(found.fill_null(0).to_numpy().astype(np.int64))
