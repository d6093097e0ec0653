"""`facta doctor`: problems of a log that spoil results."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, cast

import typer
from rich.markup import escape

from facta.cli import console
from facta.cli.prepare import SchemaOption, columns_of, schema_of
from facta.data.dataset.times import Unit
from facta.data.log.doctor import Finding, examine

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def doctor(
    source: Annotated[
        str, typer.Argument(metavar="PATH", help="A prepared dataset, or an event log: file, folder, glob.")
    ],
    column: Annotated[
        list[str] | None, typer.Option("--column", metavar="user_id=NAME", help="A column that is not recognised.")
    ] = None,
    schema: SchemaOption = None,
    unit: Annotated[
        str | None, typer.Option("--unit", help="Unit of the times: s, ms, us, ns (default: detected).")
    ] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """Find problems that spoil results: duplicates, ties, impossible times, missing ids, items without training events.

    Exit code 1 if `facta prepare` would refuse the log.
    """
    with console.notes.status(escape(f"Examining '{source}'.")):
        findings = examine(
            source,
            columns=columns_of(column or []),
            fields=schema_of(schema).fields,
            unit=cast("Unit | None", unit),
        )
    if as_json:
        console.emit({"source": source, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            _show(finding)
        counts = {level: sum(finding.level == level for finding in findings) for level in _COLOURS}
        console.note(", ".join(f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items()) + ".")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    console.out.print(f"[{_COLOURS[finding.level]}]{finding.level}[/]: [bold]{escape(finding.name)}[/]")
    for text in (finding.what, f"Effect: {finding.effect}", f"Fix: {finding.fix}"):
        console.out.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)
