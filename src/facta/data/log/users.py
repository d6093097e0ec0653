"""The user table: constant facts of users, as columns of codes or as lists of earlier items without times.

Letters: U users of the dataset, V items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from facta.arrays import Ints, offsets_of
from facta.data.dataset.features import flat, texts
from facta.data.dataset.ids import Ids, clean_ids
from facta.data.dataset.schema import FeatureConfig, Field
from facta.data.log.events import Source
from facta.data.log.features import check_columns, describe_all
from facta.data.log.fields import file_name
from facta.data.log.separators import parted
from facta.data.log.tables import read_table
from facta.data.log.writing import DatasetWriter
from facta.errors import DataError, counted


class UserTable:
    """The declared columns of a user table, one line per user of the dataset, in row order."""

    def __init__(self, frame: pl.DataFrame, declared: Mapping[str, FeatureConfig], like: pl.DataType) -> None:
        listed = {name for name, one in declared.items() if one.kind == "items"}
        self.frame = frame.select(name for name in declared if name not in listed)
        self.declared = {name: one for name, one in declared.items() if name not in listed}
        self.lists = {name: _lists(parted(frame[name], declared[name])[0], like) for name in declared if name in listed}

    def items(self) -> list[pl.Series]:
        """The items of the lists, all of which belong to the catalogue."""
        return [ids.unique() for _, ids in self.lists.values()]

    def write(self, users: Ids, items: Ids, writer: DatasetWriter) -> tuple[Field, ...]:
        """users.parquet and the arrays of the lists; their descriptions."""
        ids = pl.DataFrame({"row": np.arange(len(users)), "user_id": users.ids})
        writer.table("users", ids.hstack(self.frame))
        found = {field.name: field for field in describe_all(self.frame, self.declared, "user")}
        for name, (offsets, listed) in self.lists.items():
            file = file_name("user", name, [field.file for field in found.values()])
            writer.array(f"{file}-offsets", offsets)
            writer.array(f"{file}-item", items.rows_known(listed))
            found[name] = Field(name=name, role="user", kind="items", dtype="int32", file=file)
        return tuple(found.values())


def read_users(
    source: Source | None,
    declared: Mapping[str, FeatureConfig],
    users: Ids,
    like: pl.DataType,
    named: str,
    columns: Sequence[str] = (),
) -> tuple[UserTable, list[str]]:
    """The user table, and notes on it. `like`: the type of item ids; `named`: its user column, one of `columns`.

    Raises DataError if it cannot be read or a declared column is missing.
    """
    table = pl.DataFrame({"user_id": users.ids})
    if source is None:
        check_columns([], declared, "user")
        return UserTable(table, {}, like), []
    found, notes = read_table(source, "user", users.ids, named, columns)
    check_columns(found.columns, declared, "user")
    known = found["user_id"].is_in(users.ids.implode())
    if not known.all():
        notes.append(f"Left out {counted(int((~known).sum()), 'user')} of the user table without events.")
    table = table.join(found.select("user_id", *declared), on="user_id", how="left", maintain_order="left")
    return UserTable(table, declared, like), notes


def _lists(column: pl.Series, like: pl.DataType) -> tuple[Ints, pl.Series]:
    """[U] lists of item ids, or `1|2` -> offsets [U+1], ids [n] of the type of all item ids."""
    text = not isinstance(column.dtype, (pl.List, pl.Array))
    lists = texts(column) if text else column.cast(pl.List(column.dtype.inner))  # type: ignore[attr-defined]
    ids = clean_ids(flat(lists), "item", text=text, like=like)
    if ids.null_count():
        missing = counted(ids.null_count(), "item")
        raise DataError(f"The lists of '{column.name}' have {missing} without id; remove them.")
    return offsets_of(lists.list.len().fill_null(0).cast(pl.Int64).to_numpy()), ids
