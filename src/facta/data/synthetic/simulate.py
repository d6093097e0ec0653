"""Writing the log of a simulated service: events in the input format, items, and a schema.

events.parquet   user_id, item_id, timestamp, surface, click, long_view, rating; a row group for each chunk of users
items.parquet    item_id, title, category, duration, birth
schema.json      what the columns mean, for `facta prepare --schema`
world.json       the constants, the seed of the users and their number, which reproduce the log
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from pyarrow import parquet

from facta import durable
from facta.arguments import silent
from facta.data.dataset.schema import SchemaConfig
from facta.data.synthetic.simulator import World, chunks, frame
from facta.errors import DataError

SCHEMA = SchemaConfig(
    fields={
        "surface": {"role": "context", "kind": "categorical"},
        "click": {"kind": "binary"},
        "long_view": {"kind": "binary"},
        "rating": {"kind": "ordinal", "positive": ">= 4"},
    },
    items={"category": "categorical", "duration": "categorical"},
)

Progress = Callable[[int, int], None]
"""Called with (users so far, all users)."""


def write(
    world: World,
    out: str | Path,
    *,
    seed: int = 0,
    users: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Write the directory `out`, one chunk of users at a time; returns the number of events.

    The same world, seed and users give the same log. Raises DataError if `out` exists already, ResourceError if it
    cannot be written.
    """
    out, users = Path(out), world.config.users if users is None else users
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"'{out}' exists already; choose another place, it will not be touched.")
    with durable.directory(out, replace=False) as draft:
        events = _write_events(draft / "events.parquet", world, seed, users, progress or silent)
        durable.save_table(draft / "items.parquet", world.items())
        _document(draft / "schema.json", SCHEMA.model_dump(exclude_defaults=True))
        _document(draft / "world.json", {"world": world.config.model_dump(), "users": users, "seed": seed})
    return events


def _write_events(place: Path, world: World, seed: int, users: int, progress: Progress) -> int:
    """Write the log; memory holds one chunk at a time."""
    total, writer = 0, None
    try:
        for first, events in chunks(world, seed, users):
            table = frame(world, first, events).with_columns(pl.col("surface").cast(pl.String)).to_arrow()
            writer = writer or parquet.ParquetWriter(place, table.schema, compression="zstd")
            writer.write_table(table)
            total += table.num_rows
            progress(first + len(events.steps.offsets) - 1, users)
    finally:
        if writer is not None:
            writer.close()
    return total


def _document(place: Path, values: Any) -> None:
    place.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
