"""`facta import` and `facta export`: histories into an event store, and events of a store as a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facta.cli import console
from facta.data.dataset.dataset import Dataset
from facta.errors import counted
from facta.store.content import Clock
from facta.store.exporting import export_events
from facta.store.importing import import_dataset
from facta.store.opening import open_store
from facta.store.posted import Words, read_schema

StoreOption = Annotated[
    str, typer.Option("--store", metavar="URL", help="sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE.")
]


def import_(
    dataset: Annotated[Path, typer.Argument(help="A prepared dataset (`facta prepare`).")],
    store: StoreOption,
    as_json: console.JsonFlag = False,
) -> None:
    """Put the histories of a dataset into an event store. Existing events do not change, so an interrupted import
    resumes when it is started again.
    """
    opened = Dataset.open(dataset)
    target = open_store(store, Clock(max_future=None))
    try:
        with console.counting("importing events") as progress:
            found = import_dataset(opened, target, progress)
    finally:
        target.close()
    if as_json:
        console.emit(found._asdict())
        return
    facts = f"; facts of {counted(found.users, 'user')}" if found.users else ""
    console.note(f"{counted(found.events, 'event')} imported, {found.duplicates:,} were there already{facts}.")


def export(
    store: StoreOption,
    out: Annotated[Path, typer.Option("--out", help="The Parquet file to write.")],
    like: Annotated[
        Path | None,
        typer.Option("--like", help="A dataset or an artifact whose log names the columns of late feedback's times."),
    ] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """Write the events of an event store as a log that `facta prepare` reads, for the next model."""
    words = None if like is None else Words(read_schema(like))
    source = open_store(store)
    try:
        with console.counting("exporting events") as progress:
            events = export_events(source, out, words, lambda done: progress(done, done))
    finally:
        source.close()
    if as_json:
        console.emit({"events": events, "out": str(out)})
        return
    console.note(f"{counted(events, 'event')} written to '{out}'.")
