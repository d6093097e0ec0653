"""Common code of the verbs: tables and JSON on stdout, everything else on stderr, errors as one sentence."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from typer.core import TyperGroup

from facta.errors import FactaError, UnknownValueWarning

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
DataOption = Annotated[str, typer.Option("--data", help="A prepared dataset (`facta prepare`, `facta data`).")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a config key, as in training.epochs=3.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="Where to train, by torch's name: cpu, cuda, cuda:1.")]
OverwriteFlag = Annotated[bool, typer.Option("--overwrite", help="Replace what --out holds.")]

PAGE_COLUMNS = 120  # columns without a terminal: enough for a table of results with intervals

if sys.stdout is None:  # closed by the parent process
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - for the life of the process
if sys.stderr is None:
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123

out = Console(width=None if sys.stdout.isatty() else PAGE_COLUMNS)
notes = Console(stderr=True, highlight=False)


def emit(values: Any) -> None:
    """The answer as JSON, alone on stdout; with JSON's escapes if stdout cannot encode every letter."""
    narrow = (sys.stdout.encoding or "utf-8").lower().replace("-", "") != "utf8"
    text = json.dumps(_defined(values), indent=2, ensure_ascii=narrow, allow_nan=False, default=str)
    sys.stdout.write(text + "\n")


def _defined(value: Any) -> Any:
    """The value with null for undefined numbers (AUC without both outcomes): JSON has no NaN."""
    if isinstance(value, Mapping):
        return {name: _defined(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_defined(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def note(text: str) -> None:
    """A progress note on stderr."""
    notes.print(text, markup=False, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[str] = ()) -> None:
    """A table on stdout; the columns in `numbers` are set to the right."""
    drawn = Table(header_style="bold", show_header=any(columns))
    for place, column in enumerate(columns):
        side: Literal["left", "right"] = "right" if column in numbers else "left"
        drawn.add_column(escape(column), justify=side, overflow="fold", no_wrap=place == 0)
    for row in rows:
        drawn.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    if title:
        out.print(title, markup=False, highlight=False, soft_wrap=True)
    out.print(drawn)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr if that is a terminal; call the yielded function with (done, in all)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task(escape(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def run_cli(command: Callable[[], object]) -> None:
    """Run the command line: a FactaError is a sentence on stderr and exit code 1; --debug shows the stack. A warning
    for people is a note.
    """
    try:
        with _terminated(), _letters(), warnings.catch_warnings():
            warnings.filterwarnings("always", category=UnknownValueWarning)
            warnings.showwarning = _note_warning
            command()
    except FactaError as error:
        if debugging():
            raise
        note(f"facta: {error}")
        sys.exit(1)
    except Exception as error:  # a bug of ours: still no stack without --debug
        if debugging():
            raise
        note(f"facta: unexpected {type(error).__name__}: {error}. Run `facta --debug …` for where it happened.")
        sys.exit(3)


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM and a closed terminal raise an exception, so that drafts and temporary folders are removed."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        wanted = (signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, end) for number in wanted if signal.getsignal(number) == signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _letters() -> Iterator[None]:
    """Letters that stdout cannot encode become escapes, and a closed pipe (as by `head`) is no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again at exit


def _note_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    note(str(message))


class CommandGroup(TyperGroup):
    """The verbs; Ctrl-C in any of them is a sentence and exit code 130 (typer alone ends silently)."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            note("facta: interrupted; nothing half-written was left, and a training run goes on when started again.")
            raise typer.Exit(130) from None


def debugging() -> bool:
    return os.environ.get("FACTA_DEBUG", "") not in ("", "0")
