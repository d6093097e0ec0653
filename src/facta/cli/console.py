"""What the verbs share: tables and JSON on stdout, everything else on stderr, errors as one sentence."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from facta.errors import FactaError

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
OutOption = Annotated[str, typer.Option("--out", help="Directory to write; it appears whole or not at all.")]
DataOption = Annotated[str, typer.Option("--data", help="A prepared dataset (`facta prepare`, `facta data`).")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a config key, as in training.epochs=3.")
]
OverwriteFlag = Annotated[bool, typer.Option("--overwrite", help="Replace what --out holds.")]

out = Console(soft_wrap=False)
notes = Console(stderr=True, highlight=False)


def emit(values: Any) -> None:
    """The answer as JSON, alone on stdout."""
    sys.stdout.write(json.dumps(values, indent=2, ensure_ascii=False, default=str) + "\n")


def note(text: str) -> None:
    """A line about what is being done, on stderr."""
    notes.print(text, markup=False, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[str] = ()) -> None:
    """A table on stdout; the columns in `numbers` are set to the right."""
    drawn = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        drawn.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(drawn)


def speaking_plainly(command: Callable[[], object]) -> None:
    """Run the command line: a FactaError is a sentence on stderr and exit code 1; --debug asks for the stack."""
    try:
        command()
    except FactaError as error:
        if debugging():
            raise
        note(f"facta: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        note("facta: interrupted; what was being written has been removed, a training run resumes from its checkpoint.")
        sys.exit(130)


def debugging() -> bool:
    return os.environ.get("FACTA_DEBUG", "") not in ("", "0")
