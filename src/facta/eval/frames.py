"""Predictions and lists as tables with ids, for other tools.

predictions   name, user_id, item_id, time (UTC), field, label, prediction: a row for each field of each event
lists         name, user_id, rank, item_id, time of the request (UTC): a row for each item of each list, best first
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from facta import durable
from facta.arrays import Floats
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import Requests
from facta.errors import ProtocolError
from facta.eval.predictions import Predictions
from facta.eval.result import Result


def predictions(found: Predictions, dataset: Dataset, name: str = "") -> pl.DataFrame:
    """Every prediction of a dataset's events. `label`: 1 success, 0 none, or the observed value; null: undefined.

    Raises ProtocolError for another dataset.
    """
    _check(found.dataset, dataset)
    event = dataset.offsets[found.user] + found.place
    ids: dict[str, pl.Series] = {
        "user_id": dataset.users["user_id"].gather(found.user),
        "item_id": dataset.items["item_id"].gather(np.asarray(dataset.item[event], dtype=np.int64)),
    }
    if found.time is not None:
        ids["time"] = pl.Series(found.time).cast(pl.Datetime("ms", "UTC"))
    events, parts = pl.DataFrame(ids), []
    for field in found.p:
        label = pl.Series(found.y[field]).cast(pl.Float64)
        parts.append(_part(events, name, field, label.set(label < 0, None), found.p[field]))
    for field in found.expected:
        parts.append(_part(events, name, field, pl.Series(found.observed[field]).fill_nan(None), found.expected[field]))
    return pl.concat(parts)


def _part(events: pl.DataFrame, name: str, field: str, label: pl.Series, prediction: Floats) -> pl.DataFrame:
    columns = [pl.lit(field).alias("field"), label.alias("label"), pl.Series("prediction", prediction)]
    return events.select(pl.lit(name).alias("name"), pl.all()).with_columns(columns)


def lists(result: Result, dataset: Dataset, requests: Requests, name: str = "") -> pl.DataFrame:
    """Every list of a result; `requests` are its requests (`ProtocolConfig.requests`).

    Raises ProtocolError for another dataset or other requests.
    """
    _check(result.dataset, dataset)
    if len(requests) != len(result.lists):
        raise ProtocolError(
            f"Found {len(result.lists):,} lists for {len(requests):,} requests; give the requests of the result."
        )
    request, rank = np.nonzero(result.lists >= 0)
    columns = {
        "name": pl.Series([name], dtype=pl.String).new_from_index(0, len(request)),
        "user_id": dataset.users["user_id"].gather(requests.user[request]),
        "rank": pl.Series(rank + 1, dtype=pl.Int32),
        "item_id": dataset.items["item_id"].gather(result.lists[request, rank].astype(np.int64)),
    }
    if requests.time is not None:
        columns["time"] = pl.Series(requests.time[request]).cast(pl.Datetime("ms", "UTC"))
    return pl.DataFrame(columns)


def save(path: Path, tables: Sequence[pl.DataFrame]) -> None:
    """Concatenate tables into a Parquet file, written whole or not at all. Raises ResourceError."""
    buffer = io.BytesIO()
    pl.concat(tables).write_parquet(buffer)
    durable.file(path, buffer.getvalue())


def _check(content: str, dataset: Dataset) -> None:
    if content != dataset.content_hash:
        raise ProtocolError(f"The numbers are of another dataset than '{dataset.path}'; give their own.")
