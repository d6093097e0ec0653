"""Tables of items and users: ids with features such as titles, from a file and from an existing catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from facta.data.dataset.ids import clean_ids
from facta.data.dataset.parquet import read_parquet, reading
from facta.data.dataset.schema import candidates, plain
from facta.data.log.events import Source, open_events
from facta.data.log.meeting import meeting
from facta.data.log.odd_ids import refuse_odd_ids
from facta.errors import DataError

_TITLES = ("title", "movietitle", "videotitle", "producttitle", "itemtitle", "itemname", "productname", "name")


def read_table(
    source: Source, what: Literal["item", "user"], known: pl.Series, named: str, columns: Sequence[str] = ()
) -> tuple[pl.DataFrame, list[str]]:
    """(item_id or user_id, then features; one line per id), and notes on repairs.

    `known`: the distinct ids of the log, `named`: its column of these ids, `columns`: all of its columns. Raises
    DataError if no column holds the ids, an id is missing, or ids have another type than the log's.
    """
    name = f"{what}_id"
    log = open_events(source, {name: named})
    column = _id_column(log.columns, what, named, columns)
    log.check_types(log.columns, exact=[column])
    frame = pl.DataFrame([log.column(one) for one in log.columns])
    refuse_odd_ids(frame[column], what)
    ids = _ids_like(frame[column], what, known, text=log.text)
    if ids.null_count():
        raise DataError(f"The {what} table has {ids.null_count():,} lines without an id in '{column}'; remove them.")
    notes = list(log.notes)
    if name in frame.columns and column != name:
        notes.append(f"Left out '{name}' of the {what} table: its ids are in '{column}', as in the log.")
    frame = frame.drop({column, name, "row"} & set(frame.columns)).insert_column(0, ids.alias(name))
    doubled = len(ids) - ids.n_unique()
    if doubled:
        notes.append(f"{doubled:,} lines of the {what} table repeat an id; the first of each was kept.")
        frame = frame.unique(name, keep="first", maintain_order=True)
    notes += meeting(frame[name], known, what)
    return (_titled(frame) if what == "item" else frame), notes


def _ids_like(raw: pl.Series, what: str, known: pl.Series, *, text: bool) -> pl.Series:
    """The ids of a table, of the type of those of the log."""
    try:
        return clean_ids(raw, what, text=text, like=known.dtype)
    except DataError:
        found = clean_ids(raw, what, text=text)
        if found.dtype.is_integer() == known.dtype.is_integer():
            raise
        kinds = {True: "whole numbers", False: "text"}
        raise DataError(
            f"The {what} ids of the table are {kinds[found.dtype.is_integer()]}, such as {_odd(found, raw)!r}, and "
            f"those of the log {kinds[known.dtype.is_integer()]}, such as {known[0]!r}: they cannot meet; write both "
            "in one way."
        ) from None


def _odd(found: pl.Series, raw: pl.Series) -> object:
    """An id that keeps a column from being whole numbers."""
    if found.dtype != pl.String:
        return raw.drop_nulls()[0]
    odd = found.filter(~found.str.contains(r"^-?(0|[1-9][0-9]*)$")).drop_nulls()
    return odd[0] if len(odd) else found.drop_nulls()[0]


def _id_column(columns: Sequence[str], what: str, named: str, of_log: Sequence[str]) -> str:
    """The id column of a table: the log's own name, else `id` if no other column is recognised, else the recognised
    one.

    Users can name the columns of the log but not those of the table, so the errors here say what to do.
    """
    if named in columns:
        return named
    plain_id = next((name for name in columns if plain(name) == "id"), None)
    if plain_id and not any(what in plain(name) for name in columns):
        return plain_id
    known = candidates(f"{what}_id", columns)
    if len(known) == 1 or known[:1] == [f"{what}_id"]:
        return known[0]
    found = " and ".join(f"'{name}'" for name in known) if known else f"no {what} ids among {', '.join(columns)}"
    both = [name for name in columns if name in of_log and plain(name).endswith(("id", "asin", "sku", "code"))]
    if both and not known:
        raise DataError(
            f"The {what} table has no column '{named}', the {what}s of the log; both have '{both[0]}': if it names the "
            f"{what}s, say so with columns={{'{what}_id': '{both[0]}'}} (--column {what}_id={both[0]})."
        )
    names = " or ".join(f"'{name}'" for name in dict.fromkeys((f"{what}_id", named)))
    raise DataError(f"Found {found} in the {what} table; expected one column of {what} ids: rename it to {names}.")


def _titled(frame: pl.DataFrame) -> pl.DataFrame:
    """Rename the recognised title column to `title`."""
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
        frame = read_parquet(path)
    if not {"row", "item_id"} <= set(frame.columns):
        raise DataError(f"'{path}' has the columns {', '.join(frame.columns)}; expected row and item_id among them.")
    if not np.array_equal(frame["row"].to_numpy(), np.arange(len(frame))) or frame["item_id"].n_unique() < len(frame):
        raise DataError(
            f"'{path}' has rows that do not count 0, 1, 2, …, or an item twice; it is no catalogue of facta."
        )
    return frame.drop("training_events", strict=False)  # statistics of an artifact are no features of the items


def item_table(ids: pl.Series, tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """row, item_id and the features of all tables, one line per row; the first table with a value wins."""
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
