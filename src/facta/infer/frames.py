"""Answers as frames of polars: a line for each item of each request, with the columns of `recommend_users` and
`rank_users` and the number of the request in place of the user."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from facta import arrays
from facta.arrays import Ints

REQUEST, RANK, ITEM, SCORE, TITLE, SOURCE = "request", "rank", "item_id", "score", "title", "source"

Lists = Sequence[Sequence[Any]]
"""A list for each request."""


def lines(ids: Lists, titles: Lists, scores: Lists, item_type: pl.DataType) -> pl.DataFrame:
    """request (from 0), rank (from 1), item_id, score, title (null where there is none)."""
    offsets = arrays.offsets_of(lengths(ids))
    return pl.DataFrame(
        [
            pl.Series(REQUEST, np.repeat(np.arange(len(ids)), np.diff(offsets)), dtype=pl.Int64),
            pl.Series(RANK, arrays.places(offsets) + 1, dtype=pl.Int32),
            pl.Series(ITEM, list(chain.from_iterable(ids)), dtype=item_type),
            pl.Series(SCORE, list(chain.from_iterable(scores)), dtype=pl.Float32),
            pl.Series(TITLE, list(chain.from_iterable(titles)), dtype=pl.String),
        ]
    )


def lengths(ids: Lists) -> Ints:
    """[B] items of each request."""
    return np.array([len(one) for one in ids], dtype=np.int64)


def with_scores(frame: pl.DataFrame, scores: Mapping[str, Any]) -> pl.DataFrame:
    """The lines with the predicted scores beside them."""
    named = {beside(name, frame.columns): column for name, column in scores.items()}
    return frame.with_columns(pl.Series(name, column, dtype=pl.Float32) for name, column in named.items())


def beside(name: str, taken: Collection[str]) -> str:
    """The column of a score: a feedback field may be called "score" or "rank" itself."""
    return f"{name} (predicted)" if name in taken else name
