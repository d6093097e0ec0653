"""Lists for many users of a dataset: recommended items or ranked candidates, as a frame or as a Parquet file.

The answers are those that `recommend` and `rank` give for `history_of(dataset, user, until=at)`, one user at a time.
Histories are read in codes, a part of the users at a time, so memory does not grow with the number of users.

Letters: B users of a part, k items of a list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl

from facta import arrays
from facta.arrays import Floats, Floats32, Ints
from facta.data.batches.request import Asked
from facta.data.batches.stored import RowsOf
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.times import Time, moment
from facta.errors import DataError
from facta.infer import frames, parts
from facta.infer.catalogue_lists import Lists
from facta.infer.parts import Progress
from facta.infer.ranking import lists_of

USERS = 2048  # of a part: a row group of the file, and what a stopped run loses at most

Make = Callable[[Ints], pl.DataFrame]
"""The lines of some users, by their rows."""


def user_rows(dataset: Dataset, users: Iterable[Any] | pl.Series | None) -> Ints:
    """Rows of the users that are asked, each once, in their order; None: of all. Raises DataError for unknown users."""
    if users is None:
        return np.arange(dataset.num_users)
    rows = dataset.user_rows(users)
    first = np.unique(rows, return_index=True)[1]
    return rows[np.sort(first)]


def identity(fingerprint: str, dataset: Dataset, users: Ints, at: Time | None, **asked: Any) -> dict[str, Any]:
    """What a file of lists is of: equal where an unfinished one may be continued."""
    return {
        "artifact": fingerprint or uuid4().hex,  # weights that were never saved are like no others
        "dataset": dataset.content_hash,
        "users": hashlib.sha256(users.tobytes()).hexdigest(),
        "part": USERS,
        "at": None if at is None else moment(at),
        **asked,
    }


def digest(values: Any) -> str:
    """A short name of plain values."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def finished(
    make: Make, users: Ints, named: Mapping[str, Any], out: Path | str | None, *, overwrite: bool,
    progress: Progress | None,
) -> pl.DataFrame | None:  # fmt: skip
    """All parts in one frame; None where they are written to the file `out`. The lists of nobody are one empty part."""
    count = max(-(-len(users) // USERS), 1)

    def part(number: int) -> pl.DataFrame:
        return make(users[number * USERS : (number + 1) * USERS])

    if out is not None:
        parts.write(Path(out), named, count, part, overwrite=overwrite, progress=progress)
        return None
    frames = []
    for number in range(count):
        frames.append(part(number))
        if progress is not None:
            progress(number + 1, count)
    return pl.concat(frames)


def recommended(dataset: Dataset, catalogue: pl.DataFrame, users: Ints, found: Lists) -> pl.DataFrame:
    """The lines of recommended items of users [B]."""
    kept = found.rows >= 0
    lengths = kept.sum(axis=1)
    source = np.repeat(np.where(found.of_model, "model", "popularity"), lengths)
    lines = _lines(dataset, catalogue, users, lengths, found.rows[kept], found.scores[kept])
    return lines.with_columns(pl.Series("source", source, dtype=pl.String))


def ranked(
    dataset: Dataset,
    catalogue: pl.DataFrame,
    users: Ints,
    asked: Sequence[Asked],
    best: Sequence[Ints],
    value: Floats,
    scores: Mapping[str, Floats32],
) -> pl.DataFrame:
    """The lines of ranked candidates of users [B]; `best`: of each the places of its candidates among all, in order."""
    none = np.zeros(0, dtype=np.int64)
    chosen, every = np.concatenate([*best, none]), np.concatenate([*(one.rows for one in asked), none])
    lengths = np.array([len(line) for line in best], dtype=np.int64)
    lines = _lines(dataset, catalogue, users, lengths, every[chosen], value[chosen].astype(np.float32))
    return frames.with_scores(lines, {name: column[chosen] for name, column in scores.items()})


def _lines(
    dataset: Dataset, catalogue: pl.DataFrame, users: Ints, lengths: Ints, rows: Ints, score: Floats32
) -> pl.DataFrame:
    """Lists of `lengths` [B], one after the other: user_id, rank from 1, item_id, score, and title where there is one.

    `rows`, `score`: [sum of lengths] catalogue rows and scores.
    """
    columns = [
        dataset.users["user_id"].gather(np.repeat(users, lengths)),
        pl.Series("rank", arrays.places(arrays.offsets_of(lengths)) + 1, dtype=pl.Int32),
        catalogue["item_id"].gather(rows),
        pl.Series("score", score, dtype=pl.Float32),
    ]
    if "title" in catalogue.columns:
        columns.append(catalogue["title"].gather(rows).cast(pl.String))
    return pl.DataFrame(columns)


def candidates_of(
    candidates: Iterable[Any] | pl.DataFrame, dataset: Dataset, users: Ints, rows_of: RowsOf
) -> dict[int, Ints]:
    """Row of a user -> catalogue rows of the candidates that are known. Raises DataError as `rank`, and for unknown
    users of pairs.
    """
    if not isinstance(candidates, pl.DataFrame):
        rows = rows_of(lists_of(candidates, 1)[0])
        return dict.fromkeys(users.tolist(), rows[rows >= 0])
    if not {"user_id", "item_id"} <= set(candidates.columns):
        raise DataError(
            f"Found candidates with the columns {', '.join(candidates.columns)}; expected user_id and item_id, or a "
            "list of item ids for all users."
        )
    grouped = candidates.group_by("user_id", maintain_order=True).agg(pl.col("item_id"))
    found = {}
    for user, ids in zip(dataset.user_rows(grouped["user_id"]).tolist(), grouped["item_id"], strict=True):
        rows = rows_of(ids.to_list())
        found[user] = rows[rows >= 0]
    return found
