"""`facta prepare`: an event log becomes a dataset."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.markup import escape
from rich.status import Status

from facta.cli import console
from facta.cli.histories import moment
from facta.cli.many import ids_of
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.ids import clean_ids, id_from_text
from facta.data.dataset.schema import SchemaConfig, recognise
from facta.data.dataset.times import Unit
from facta.data.log.events import open_events
from facta.data.log.prepare import Progress
from facta.data.log.prepare import prepare as prepared
from facta.data.log.repairs import Drop
from facta.errors import ConfigError
from facta.hardware import human, memory_peak

SchemaOption = Annotated[
    Path | None,
    typer.Option("--schema", metavar="FILE.json", help="What the columns mean: fields, items, users, series."),
]

PivotOption = Annotated[
    str | None,
    typer.Option(
        "--pivot", metavar="NAME", help="The column of actions (view, cart, buy) of a log with a line for each."
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="Leave out events before this moment: ISO 8601, milliseconds."),
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Leave out events at this moment and later.")
]


def prepare(
    events: Annotated[
        list[str], typer.Argument(metavar="EVENTS...", help="Parquet, CSV or JSON-lines: files, a folder, a glob.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory to write; it appears whole or not at all.")],
    items: Annotated[Path | None, typer.Option("--items", help="A table of items: id, title, other features.")] = None,
    users: Annotated[Path | None, typer.Option("--users", help="A table of constant facts of users.")] = None,
    series: Annotated[
        Path | None, typer.Option("--series", help="Changing facts of users: user_id, timestamp, field, value.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="user_id=NAME", help="A column that is not recognised; timestamp= for no time."
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="NAME[:context]", help="A column to keep (default: all numeric ones)."),
    ] = None,
    schema: SchemaOption = None,
    unit: Annotated[
        str | None, typer.Option("--unit", help="Unit of the times: s, ms, us, ns (default: detected).")
    ] = None,
    catalogue: Annotated[
        Path | None, typer.Option("--catalogue", help="An artifact or dataset whose item rows keep their meaning.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", metavar="duplicates|invalid", help="Events to leave out.")
    ] = None,
    pivot: PivotOption = None,
    drop_user: Annotated[
        list[str] | None, typer.Option("--drop-user", metavar="ID", help="A user whose events are left out.")
    ] = None,
    drop_users_file: Annotated[
        Path | None,
        typer.Option("--drop-users-file", help="More users to leave out: text with one id a line, or a table."),
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    overwrite: console.OverwriteFlag = False,
    as_json: console.JsonFlag = False,
) -> None:
    """Prepare an event log: recognise columns and units, map ids to rows, order every history, write a dataset."""
    start = time.perf_counter()
    said = schema_of(schema, field)
    with console.notes.status("Opening the log.") as status:
        dataset = prepared(
            events,
            out,
            items=items,
            users=users,
            series=series,
            columns=columns_of(column or []),
            fields=said.fields,
            item_fields=said.items,
            user_fields=said.users,
            series_fields=said.series,
            unit=cast("Unit | None", unit),
            catalogue=catalogue,
            drop=cast("list[Drop]", drop or []),
            pivot=pivot,
            drop_users=_users(events, columns_of(column or []), drop_user or [], drop_users_file),
            since=moment(since),
            until=moment(until),
            overwrite=overwrite,
            progress=_show(status),
        )
    seconds = time.perf_counter() - start
    if as_json:
        used = {"seconds": round(seconds, 3), "memory_peak": memory_peak()}
        console.emit({"path": str(out), **dataset.manifest.model_dump(), **used})
        return
    _print(dataset, out, seconds)


def _print(dataset: Dataset, out: Path, seconds: float) -> None:
    """Notes, ties and sizes of what was prepared."""
    manifest = dataset.manifest
    for text in manifest.notes:
        console.note(f"Note: {text}")
    if manifest.tied_share:
        console.note(f"Ties: {manifest.tied_share:.1%} of the events share user and time; they keep the input's order.")
    console.table(
        f"{out}", ["users", "items", "events", "fields", "content"],
        [[f"{manifest.users:,}", f"{manifest.items:,}", f"{manifest.events:,}",
          ", ".join(one.name for one in manifest.fields) or "none", manifest.content_hash[:12]]],
    )  # fmt: skip
    console.note(f"{seconds:.1f} s, peak memory {human(memory_peak())}.")


def _users(
    events: Sequence[str], columns: Mapping[str, str], named: Sequence[str], file: Path | None
) -> list[str | int]:
    """The ids of users to drop, of the type of the log's user ids. Raises DataError."""
    if not named and file is None:
        return []
    log = open_events(list(events), columns)
    raw = log.column(recognise(log.columns, columns)["user_id"])
    known = clean_ids(raw, "user", text=log.text).drop_nulls()
    listed = [] if file is None else ids_of(file, "user", known).to_list()
    return [*(id_from_text(known, text, "user") for text in named), *listed]


def columns_of(assignments: Sequence[str]) -> dict[str, str]:
    """["user_id=uid"] -> {"user_id": "uid"}."""
    pairs = [assignment.partition("=") for assignment in assignments]
    for role, equals, _ in pairs:
        if not equals:
            raise ConfigError(f"Found --column {role}; expected ROLE=NAME, as in --column user_id=uid.")
    return {role.strip(): name.strip() for role, _, name in pairs}


def schema_of(file: Path | None, names: Sequence[str] | None = None) -> SchemaConfig:
    """The schema of a file, with the fields of --field (NAME or NAME:role) added."""
    schema = SchemaConfig() if file is None else _read(file)
    if names is None:
        return schema
    parts = [
        name.rpartition(":") if name.endswith((":context", ":feedback")) else (name, "", "feedback") for name in names
    ]
    return schema.change(fields={**(schema.fields or {}), **{name: role for name, _, role in parts}})


def _read(file: Path) -> SchemaConfig:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"The schema '{file}' cannot be read ({error}); expected a file of JSON.") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"The schema '{file}' holds a {type(values).__name__}; "
            'expected an object such as {"fields": {"rating": {"kind": "ordinal"}}}.'
        )
    return SchemaConfig.parse(values)


def _show(status: Status) -> Progress:
    """Findings stay on the screen; progress shares one line."""

    def show(text: str, stays: bool) -> None:
        console.note(text) if stays else status.update(escape(text))

    return show
