"""The item table: ids with features such as titles, from a file of the user's and from a catalogue that came before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from facta.data.events import Source, open_events
from facta.data.files import reading
from facta.data.ids import clean_ids
from facta.data.schema import plain, recognise
from facta.errors import DataError

_TITLES = ("title", "movietitle", "videotitle", "producttitle", "itemtitle", "itemname", "productname", "name")


def read_items(source: Source, like: pl.DataType) -> tuple[pl.DataFrame, list[str]]:
    """(item_id of type `like`, then features; one line per id), and notes on repairs.

    Raises DataError when no column holds the ids or an id is missing.
    """
    log = open_events(source)
    plain_id = next((name for name in log.columns if plain(name) == "id"), None)
    given = {"item_id": plain_id} if plain_id and not any("item" in plain(name) for name in log.columns) else None
    column = recognise(log.columns, given, needed=("item_id",))["item_id"]
    log.refuse_unlike(log.columns, exact=[column])
    frame = pl.DataFrame([log.column(name) for name in log.columns])
    ids = clean_ids(frame[column], "item", text=log.text, like=like)
    if ids.null_count():
        raise DataError(f"The item table has {ids.null_count():,} lines without an id in '{column}'; remove them.")
    notes = list(log.notes)
    frame = frame.drop(column, *(name for name in frame.columns if name == "row")).insert_column(
        0, ids.alias("item_id")
    )
    doubled = len(ids) - ids.n_unique()
    if doubled:
        notes.append(f"{doubled:,} lines of the item table repeat an id; the first of each was kept.")
        frame = frame.unique("item_id", keep="first", maintain_order=True)
    return _titled(frame), notes


def _titled(frame: pl.DataFrame) -> pl.DataFrame:
    """Call the title `title`, whatever it was called."""
    if "title" in frame.columns:
        return frame
    found = [name for known in _TITLES for name in frame.columns if plain(name) == known]
    return frame.rename({found[0]: "title"}) if found else frame


def read_catalogue(place: str | Path) -> pl.DataFrame:
    """The items of an artifact or a dataset, in row order: row, item_id, features."""
    path = Path(place)
    path = path / "items.parquet" if path.is_dir() else path
    if not path.exists():
        raise DataError(f"'{place}' has no items.parquet; expected an artifact, a prepared dataset or that file.")
    with reading(path, "a catalogue"):
        frame = pl.read_parquet(path)
    if not {"row", "item_id"} <= set(frame.columns):
        raise DataError(f"'{path}' has the columns {', '.join(frame.columns)}; expected row and item_id among them.")
    if not np.array_equal(frame["row"].to_numpy(), np.arange(len(frame))) or frame["item_id"].n_unique() < len(frame):
        raise DataError(
            f"'{path}' has rows that do not count 0, 1, 2, …, or an item twice; it is no catalogue of facta."
        )
    return frame.drop("training_events", strict=False)  # an artifact's statistics are no feature of the items


def item_table(ids: pl.Series, tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """row, item_id and the features of all tables, one line per row; where two tables know a value, the first wins."""
    out = pl.DataFrame({"row": np.arange(len(ids), dtype=np.int64), "item_id": ids})
    for table in tables:
        features = [name for name in table.columns if name not in ("row", "item_id")]
        joined = out.join(
            table.select("item_id", *features), on="item_id", how="left", suffix="\0", maintain_order="left"
        )
        both = [name for name in features if name in out.columns]
        try:
            joined = joined.with_columns(pl.coalesce(name, f"{name}\0").alias(name) for name in both)
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"The item table and the catalogue disagree about the type of a feature ({error})."
            ) from error
        out = joined.drop(f"{name}\0" for name in both)
    return out
