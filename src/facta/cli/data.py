"""`facta data`: a public dataset by name, fetched, checked and prepared; or a simulated one (cli/simulate.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from typer.core import TyperGroup

from facta.cli import console
from facta.cli.simulate import simulate
from facta.data.dataset.dataset import Dataset
from facta.data.public import sources
from facta.data.public.origins import Progress as Fetching
from facta.errors import DataError


class DatasetGroup(TyperGroup):
    """The names of public datasets as commands, and `simulate`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None:
            sources.find(args[0])  # raises, and lists the names
        return super().resolve_command(ctx, args)


data = typer.Typer(
    cls=DatasetGroup, no_args_is_help=True, help="Get a public dataset, checked and prepared, or simulate a service."
)


def _fetcher(name: str) -> Callable[..., None]:
    """The command of one dataset."""

    def fetch(
        out: Annotated[Path | None, typer.Option("--out", help="Directory to write (default: data/NAME).")] = None,
        place: Annotated[
            Path | None, typer.Option("--from", metavar="DIR|FILE", help="Your own files, instead of a download.")
        ] = None,
        overwrite: console.OverwriteFlag = False,
        as_json: console.JsonFlag = False,
    ) -> None:
        get(name, Path("data") / name if out is None else out, place, overwrite=overwrite, as_json=as_json)

    return fetch


for known, source in sources.SOURCES.items():
    data.command(known, help=f"{source.title}.")(_fetcher(known))
data.command()(simulate)


def get(name: str, out: Path, place: Path | None, *, overwrite: bool, as_json: bool) -> None:
    """Fetch a public dataset from the first origin with intact files, prepare it, and describe it."""
    title = sources.find(name).title
    dataset = None if overwrite else _present(name, out)
    if dataset is None:
        with _bar() as progress:
            dataset = sources.get(
                name,
                out,
                place=place,
                overwrite=overwrite,
                progress=progress,
                failed=lambda failure: console.note(f"Not from {failure}."),
            )
    else:
        console.note(f"'{out}' already holds {title}; --overwrite fetches it again.")
    manifest = dataset.manifest
    if as_json:
        console.emit({"path": str(out), **manifest.model_dump(include=SHOWN_KEYS)})
        return
    console.note(f"{title}, from {manifest.source[-1]}")
    for text in manifest.notes:
        console.note(f"Note: {text}")
    console.note(f"{manifest.users:,} users, {manifest.items:,} items, {manifest.events:,} events in '{out}'.")


SHOWN_KEYS = {"users", "items", "events", "has_time", "tied_share", "content_hash", "source", "notes"}


def _present(name: str, out: Path) -> Dataset | None:
    """The dataset at `out`, if it is this one; `prepare` refuses anything else there."""
    try:
        dataset = Dataset.open(out)
    except DataError:
        return None
    return dataset if dataset.manifest.source[:1] == (name,) else None


@contextmanager
def _bar() -> Iterator[Fetching]:
    """A progress bar on stderr that follows one origin after the other."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    hidden = not console.notes.is_terminal  # in a log file a bar would be empty lines
    with Progress(*columns, console=console.notes, transient=True, disable=hidden) as bar:
        task = bar.add_task("looking for an origin", total=None)
        yield lambda label, done, total: bar.update(task, description=escape(label), completed=done, total=total)
