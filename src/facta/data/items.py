"""The item table: ids with features such as titles, from a file of the user's and from a catalogue that came before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from facta.data.events import Source, open_events
from facta.data.files import reading
from facta.data.ids import clean_ids
from facta.data.schema import candidates, plain
from facta.errors import DataError

_TITLES = ("title", "movietitle", "videotitle", "producttitle", "itemtitle", "itemname", "productname", "name")


def read_items(source: Source, like: pl.DataType, named: str = "item_id") -> tuple[pl.DataFrame, list[str]]:
    """(item_id of type `like`, then features; one line per id), and notes on repairs. `named`: the log's item column.

    Raises DataError when no column holds the ids or an id is missing.
    """
    log = open_events(source, {"item_id": named})
    column = _id_column(log.columns, named)
    log.refuse_unlike(log.columns, exact=[column])
    frame = pl.DataFrame([log.column(name) for name in log.columns])
    ids = clean_ids(frame[column], "item", text=log.text, like=like)
    if ids.null_count():
        raise DataError(f"The item table has {ids.null_count():,} lines without an id in '{column}'; remove them.")
    notes = list(log.notes)
    if "item_id" in frame.columns and column != "item_id":
        notes.append(f"Left out 'item_id' of the item table: its ids are in '{column}', as in the log.")
    frame = frame.drop({column, "item_id", "row"} & set(frame.columns)).insert_column(0, ids.alias("item_id"))
    doubled = len(ids) - ids.n_unique()
    if doubled:
        notes.append(f"{doubled:,} lines of the item table repeat an id; the first of each was kept.")
        frame = frame.unique("item_id", keep="first", maintain_order=True)
    return _titled(frame), notes


def _id_column(columns: Sequence[str], named: str) -> str:
    """The log's own name where the table has it, then `id` where nothing else names an item, then what is recognised.

    The log's columns may be named by the user, those of the table may not: its own errors say what to do.
    """
    if named in columns:
        return named
    plain_id = next((name for name in columns if plain(name) == "id"), None)
    if plain_id and not any("item" in plain(name) for name in columns):
        return plain_id
    known = candidates("item_id", columns)
    if len(known) == 1 or known[:1] == ["item_id"]:
        return known[0]
    found = " and ".join(f"'{name}'" for name in known) if known else f"no item ids among {', '.join(columns)}"
    names = " or ".join(f"'{name}'" for name in dict.fromkeys(("item_id", named)))
    raise DataError(f"Found {found} in the item table; expected one column of item ids: rename it to {names}.")


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
