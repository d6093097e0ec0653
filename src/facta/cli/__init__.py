"""The command line: one file per verb, assembled here."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from facta.artifact.card import version
from facta.cli import console
from facta.cli.data import data
from facta.cli.doctor import doctor
from facta.cli.evaluate import evaluate
from facta.cli.info import info
from facta.cli.prepare import prepare
from facta.cli.rank import rank
from facta.cli.recommend import recommend
from facta.cli.serve import keys, serve
from facta.cli.similar import similar
from facta.cli.train import train
from facta.cli.transfer import export, import_
from facta.cli.tune import tune
from facta.kinds import import_named

app = typer.Typer(
    name="facta",
    cls=console.CommandGroup,
    help="Generative recommenders from event logs: trained, honestly evaluated, and able to recommend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"facta {version()}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Import a module of yours, whose parts an artifact needs; from this folder or installed. May be given "
            "more than once.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the stack of an error (or set FACTA_DEBUG=1).")] = False,
) -> None:
    if debug:
        os.environ["FACTA_DEBUG"] = "1"
    for module in modules or ():
        import_named(module)


app.add_typer(data, name="data")
app.add_typer(keys, name="keys")
for verb in (prepare, doctor, train, tune, evaluate, recommend, rank, similar, info, serve, export):
    app.command()(verb)
app.command("import")(import_)


def main() -> None:
    """The console script `facta`."""
    console.run_cli(app)
