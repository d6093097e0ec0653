"""A prepared dataset: every user's history, in order of time, as memory-mapped arrays beside two id tables.

    manifest.json         schema, counts, content hash, order rule, source
    items.parquet         row, item_id, features (title, …); includes items without events
    users.parquet         row, user_id, constant facts
    histories/*.npy       offsets [U+1] int64, item [E] int32, timestamp [E] int64 ms (absent: order only); fields;
                          delay-* [E] ms until feedback with a time was given (data/split/late.py);
                          items that users had before: user-*-offsets [U+1], user-*-item [n]
    series/*.npy          slowly changing facts of users (data/dataset/series.py)

Letters: U users, E events, V items.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import PositiveInt, Strict, ValidationError

from facta.arguments import PATH, arguments
from facta.arrays import Ints
from facta.config import Config
from facta.data.dataset.columns import condition
from facta.data.dataset.digests import array_digest, content_hash, table_digest
from facta.data.dataset.event_frame import (
    EventColumn,
    event_times,
    field_values,
    first_of,
    given_times,
    item_ids,
    lazy_events,
    user_ids,
)
from facta.data.dataset.features import Feature, feature, listed
from facta.data.dataset.ids import Ids
from facta.data.dataset.parquet import read_parquet, reading
from facta.data.dataset.schema import Field, FieldConfig
from facta.data.dataset.series import ARRAYS as SERIES
from facta.data.dataset.series import Series, coded
from facta.errors import ConfigError, DataError

FORMAT = 2  # 2: delays of late feedback are stored


class Fields(Config):
    """The columns beside user, item and time."""

    fields: tuple[Field, ...] = ()  # of events
    item_fields: tuple[Field, ...] = ()  # features in items.parquet, as far as they are declared
    user_fields: tuple[Field, ...] = ()  # constant facts in users.parquet
    series_fields: tuple[Field, ...] = ()  # slowly changing facts of users


class Manifest(Fields):
    """Facts about a dataset that need none of its arrays."""

    format: Annotated[PositiveInt, Strict()] = FORMAT
    users: int
    items: int
    events: int
    has_time: bool
    order: str  # the rule that puts a user's events in order
    tied_share: float | None  # share of events that share user and time with another; None without times
    content_hash: str  # hash of ids, features, arrays and their meaning: equal for equal content
    digests: Mapping[str, str]  # SHA-256 of every array and table
    source: tuple[str, ...] = ()  # names of the files read
    columns: Mapping[str, str]  # user_id, item_id, timestamp -> name in the source
    unit: str | None = None  # of the source's times
    ids: Mapping[str, Literal["number", "text"]] | None = None  # types of "user" and "item" ids; None: not stored
    notes: tuple[str, ...] = ()  # repairs and omissions, in sentences

    @property
    def others(self) -> tuple[Field, ...]:
        """What is declared of items and users."""
        return self.item_fields + self.user_fields + self.series_fields


def delay_file(field: Field) -> str:
    """The array with the delays of a field's values."""
    return f"delay-{field.file.removeprefix('field-')}"


def array_file(name: str) -> str:
    """Where in a dataset an array lies."""
    return f"{name}.npy" if "/" in name else f"histories/{name}.npy"


class Dataset:
    """Histories of all users, read-only; arrays are memory-mapped and cost memory only where they are read."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.offsets = self._array("offsets", manifest.users + 1)  # [U+1] int64
        self.item = self._array("item", manifest.events)  # [E] int32 rows
        self.timestamp = self._array("timestamp", manifest.events) if manifest.has_time else None  # [E] int64 ms
        self.fields = {field.name: self._array(field.file, manifest.events) for field in manifest.fields}
        timed = [field for field in manifest.fields if field.given_when is not None]
        self.delays = {field.name: self._array(delay_file(field), manifest.events) for field in timed}

    @classmethod
    @arguments(path=PATH)
    def open(cls, path: str | Path, *, verify: bool = True) -> Dataset:
        """Open a dataset that `prepare` wrote. Raises DataError for no dataset, a newer format, missing or altered
        files.

        `verify` reads and hashes all files: a second a gigabyte where the processor has SHA instructions, three
        without. Results carry the hash of the content, so it must be true.
        """
        path = Path(path)
        try:
            values = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                f"'{path}' is no prepared dataset (no manifest.json); make one with `facta prepare`."
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(f"The manifest of '{path}' cannot be read ({error}); prepare the dataset again.") from error
        dataset = cls(path, _manifest(path, values))
        if verify:
            dataset.check()
        return dataset

    def _array(self, name: str, length: int) -> npt.NDArray[Any]:
        file = self.path / array_file(name)
        try:
            array: npt.NDArray[Any] = np.load(file, mmap_mode="r" if length else None)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"'{file}' is missing or torn ({error}); prepare the dataset again.") from error
        if len(array) != length:
            raise DataError(
                f"'{file}' holds {len(array):,} values; the manifest says {length:,}: prepare the dataset again."
            )
        return array

    def _table(self, name: str) -> pl.DataFrame:
        file = self.path / f"{name}.parquet"
        with reading(file, "a table of this dataset"):
            return read_parquet(file)

    def check(self) -> None:
        """Compare every array and table with its checksum; raises DataError for one that was altered. Reads all."""
        tables = {name: self._table(name) for name in ("items", "users")}  # not kept: users are rarely needed
        arrays: dict[str, npt.NDArray[Any]] = {"offsets": self.offsets, "item": self.item}
        if self.timestamp is not None:
            arrays["timestamp"] = self.timestamp
        arrays |= {field.file: self.fields[field.name] for field in self.manifest.fields}
        arrays |= {delay_file(one): self.delays[one.name] for one in self.manifest.fields if one.name in self.delays}
        arrays |= {f"{file}-{name}": values for file, lists in self._lists.items() for name, values in lists.items()}
        if self.stored_series is not None:
            arrays |= {f"series/{name}": getattr(self.stored_series, name) for name in SERIES}
        digests = self.manifest.digests
        if (
            content_hash(digests, self.manifest.fields, self.manifest.others) != self.content_hash
            or digests.keys() != {*arrays, *tables}
            or len(tables["items"]) != self.num_items
        ):
            raise DataError(f"The manifest of '{self.path}' was altered; prepare the dataset again.")
        found = {array_file(name): (name, array_digest(values)) for name, values in arrays.items()}
        found |= {f"{name}.parquet": (name, table_digest(table)) for name, table in tables.items()}
        for file, (name, digest) in found.items():
            if digest != digests[name]:
                raise DataError(
                    f"'{self.path / file}' has another checksum than its manifest; prepare the dataset again."
                )

    def described(self, known: Fields) -> Dataset:
        """The same data with other descriptions of its columns; nothing is copied."""
        other = copy(self)
        other.manifest = self.manifest.change(**{name: getattr(known, name) for name in Fields.model_fields})
        for coded_before in ("user_facts", "series"):
            vars(other).pop(coded_before, None)
        return other

    @property
    def num_users(self) -> int:
        return self.manifest.users

    @property
    def num_items(self) -> int:
        return self.manifest.items

    @property
    def num_events(self) -> int:
        return self.manifest.events

    @property
    def content_hash(self) -> str:
        return self.manifest.content_hash

    @property
    def events(self) -> pl.LazyFrame:
        """All events, by user and time: user_id, item_id, timestamp (UTC), fields, and when late feedback was given.

        Values are as in the log, of a category its text; null is undefined. Columns are read when the frame is
        collected, each at 1 to 16 bytes an event and twice that while it is made; columns that are not selected cost
        nothing, and `collect(engine="streaming")` makes a part of the events at a time. An id or the time keeps its
        name in the source where a field has the usual one. `facta.prepare(dataset.events, out,
        fields=dataset.declared_fields)` makes the dataset again, or one of a part of its events; docs/python.md says
        where it does not.
        """
        return lazy_events(self._event_columns, self.num_events)

    @property
    def declared_fields(self) -> dict[str, FieldConfig]:
        """Field configs of the columns of `events`, for `prepare`. Conditions on columns outside of `events` are left
        out.
        """
        there, found = set(self._event_columns), {field.name: field.declared for field in self.manifest.fields}
        for name, one in found.items():
            read = () if one.undefined is None else condition(name, one.undefined).meta.root_names()
            found[name] = one if there.issuperset(read) else one.change(undefined=None)
        return found

    @property
    def _event_columns(self) -> dict[str, EventColumn]:
        fields = self.manifest.fields
        taken = {field.name for field in fields} | {field.given_when for field in fields}
        user, item, time = (
            self.manifest.columns[role] if role in taken and role in self.manifest.columns else role
            for role in ("user_id", "item_id", "timestamp")
        )
        found = {user: user_ids(self.users["user_id"], self.offsets), item: item_ids(self.items["item_id"], self.item)}
        found |= {} if self.timestamp is None else {time: event_times(self.timestamp)}
        found |= {field.name: field_values(field, self.fields[field.name]) for field in fields}
        given: dict[str, list[EventColumn]] = {}
        for field in fields:
            if field.given_when is not None and field.given_when not in found and self.timestamp is not None:
                given.setdefault(field.given_when, []).append(given_times(self.timestamp, self.delays[field.name]))
        return found | {name: first_of(columns) for name, columns in given.items()}

    @cached_property
    def items(self) -> pl.DataFrame:
        """row, item_id, and features; one line per row, in row order."""
        return self._table("items")

    @cached_property
    def users(self) -> pl.DataFrame:
        """row, user_id; one line per row, in row order."""
        return self._table("users")

    @cached_property
    def _item_ids(self) -> Ids:
        return Ids(self.items["item_id"], "item")

    @cached_property
    def _user_ids(self) -> Ids:
        return Ids(self.users["user_id"], "user")

    @cached_property
    def _lists(self) -> dict[str, dict[str, npt.NDArray[Any]]]:
        """File -> the arrays of a user fact that is a list of items."""
        found = {}
        for file in [field.file for field in self.manifest.user_fields if field.kind == "items"]:
            offsets = self._array(f"{file}-offsets", self.num_users + 1)
            found[file] = {"offsets": offsets, "item": self._array(f"{file}-item", int(offsets[-1]))}
        return found

    @cached_property
    def user_facts(self) -> Mapping[str, Feature]:
        """Constant facts of all users, in row order: codes [U], or for `items` jagged rows + 1."""
        return {
            field.name: listed(field, **self._lists[field.file])
            if field.kind == "items"
            else feature(field, self.users[field.name])
            for field in self.manifest.user_fields
        }

    @cached_property
    def series(self) -> Series | None:
        """Slowly changing facts of all users, in codes; None where none were given."""
        return None if self.stored_series is None else coded(self.stored_series, self.manifest.series_fields)

    @cached_property
    def stored_series(self) -> Series | None:
        """Slowly changing facts of all users, as stored values."""
        if not self.manifest.series_fields:
            return None
        offsets = self._array("series/offsets", self.num_users + 1)
        arrays = {name: self._array(f"series/{name}", int(offsets[-1])) for name in SERIES if name != "offsets"}
        return Series(offsets=offsets, **arrays)

    def user_rows(self, ids: Iterable[Any] | pl.Series) -> Ints:
        """[n] ids -> [n] int64 rows; DataError names the unknown ones."""
        return self._user_ids.rows(ids)

    def item_rows(self, ids: Iterable[Any] | pl.Series) -> Ints:
        """[n] ids -> [n] int64 rows; DataError names the unknown ones."""
        return self._item_ids.rows(ids)

    def __repr__(self) -> str:
        return f"Dataset('{self.path}': {self.num_users:,} users, {self.num_items:,} items, {self.num_events:,} events)"


def _manifest(path: Path, values: Any) -> Manifest:
    found = values.get("format") if isinstance(values, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise DataError(
            f"'{path}' has dataset format {found}, this facta reads up to {FORMAT}; "
            f"update facta or prepare the dataset again."
        )
    try:
        manifest = Manifest.model_validate(values)
    except (ValidationError, ConfigError) as error:
        raise DataError(f"The manifest of '{path}' is not one of facta's; prepare the dataset again.") from error
    if early := shown_early(manifest):
        raise DataError(
            f"'{path}' was prepared by an older facta, which did not store when '{early}' became known; "
            "prepare the dataset again."
        )
    return manifest


def shown_early(known: Fields) -> str | None:
    """A field with a time whose delays an older facta did not store; None: there is none."""
    return next((one.name for one in known.fields if one.late is not None and one.given_when is None), None)
