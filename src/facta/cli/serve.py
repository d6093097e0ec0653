"""`facta serve` and `facta keys`: a trained model as a service over HTTP, and who may ask it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from facta.cli import console
from facta.errors import ConfigError
from facta.serve.checks import check_artifacts, checked
from facta.serve.config import DEFAULT, ServeConfig
from facta.serve.keys import new_key

keys = typer.Typer(help="Who may ask a service, and who may change it.", no_args_is_help=True)
LIMITS = ServeConfig.model_fields["limits"].default


def serve(
    context: typer.Context,
    artifact: Annotated[Path, typer.Argument(help="An artifact (`facta train`).")],
    ranker: Annotated[Path | None, typer.Option(help="Another artifact, which ranks.")] = None,
    store: Annotated[
        str, typer.Option(metavar="URL", help="sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE.")
    ] = "sqlite:///events.db",
    cache: Annotated[str, typer.Option(metavar="SIZE", help="What is kept of people, for each model.")] = "1GiB",
    stride: Annotated[
        int | None, typer.Option(min=1, help="Events that a full window moves at a time (default: an eighth of it).")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="That compute (default: one less than there are processors).")
    ] = None,
    popular_half_life: Annotated[
        float | None,
        typer.Option(
            metavar="DAYS", help="Popularity of live events, worth half after so long (default: of training events)."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; others than this machine's need --keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    keys: Annotated[Path | None, typer.Option(help="Keys (`facta keys new`).")] = None,
    models: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder whose artifacts may be swapped in.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME=ARTIFACT", help="One more model. May be given more than once.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SHARE", help="The share of the users whom a model answers.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second of each key (default: any).")] = None,
    max_future: Annotated[
        int, typer.Option(min=0, help="Seconds that the time of an event may be ahead of the clock.")
    ] = LIMITS.max_future,
    log_users: Annotated[bool, typer.Option("--log-users", help="Log lines with a keyed hash of the user.")] = False,
    answers: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep what was answered in a file.")] = None,
    answers_days: Annotated[int, typer.Option(min=1, help="How long --answers are kept.")] = 30,
    keep_events: Annotated[
        int | None, typer.Option(min=1, help="Keep of each person the newest events, so many (default: all).")
    ] = None,
    keep_days: Annotated[
        float | None, typer.Option(min=0.001, help="Keep events for so many days (default: for ever).")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Look whether it would start, and end.")] = False,
    as_json: console.JsonFlag = False,
) -> None:
    """Answer over HTTP. What people do is posted, and the next answer knows it; / is a page, /docs has the paths."""
    config = ServeConfig(
        models=_models(artifact, ranker, model, split), store=store, cache=cache, stride=stride, threads=threads,
        host=host, port=port, keys=_text(keys), swap_from=_text(models), log_users=log_users, answers=_text(answers),
        popular_half_life=popular_half_life, answers_days=answers_days, keep_events=keep_events, keep_days=keep_days,
        limits=LIMITS.change(rate=rate, max_future=max_future), modules=_modules(context),
    )  # fmt: skip
    if check:
        _show(checked(config), as_json=as_json)
        return
    check_artifacts(config)
    console.note(f"http://{host}:{port} is a page to try it, /docs says what may be asked; Ctrl-C ends it.")
    # this process has imported torch for the check; the one that speaks HTTP never does
    os.execv(sys.executable, [sys.executable, "-m", "facta.serve", config.model_dump_json()])


@keys.command("new")
def new(
    role: Annotated[
        str, typer.Option(metavar="read|write|admin", help="What it opens: asking, changing, or both and swaps.")
    ],
    keys: Annotated[Path, typer.Option("--keys", metavar="FILE", help="Where its hash is kept.")] = Path("keys.jsonl"),
) -> None:
    """Make a key. It is printed once; the file keeps its hash."""
    typer.echo(new_key(keys, role))  # type: ignore[arg-type]
    console.note(f"A key of the role '{role}'; its hash is in '{keys}'. Nobody can print the key again.")


def _models(
    artifact: Path, ranker: Path | None, more: list[str] | None, split: list[str] | None
) -> dict[str, dict[str, Any]]:
    """Name -> model, of what the command line says."""
    models: dict[str, dict[str, Any]] = {DEFAULT: {"artifact": str(artifact), "ranker": _text(ranker)}}
    for name, place in map(_pair, more or ()):
        models[name] = {"artifact": place}
    for name, share in map(_pair, split or ()):
        if name not in models or name == DEFAULT:
            others = ", ".join(one for one in models if one != DEFAULT) or "none: name one with --model NAME=ARTIFACT"
            raise ConfigError(f"Found a share of '{name}'; the models beside the main one are {others}.")
        models[name]["share"] = share
    return models


def _pair(given: str) -> tuple[str, str]:
    name, _, value = given.partition("=")
    if not name or not value:
        raise ConfigError(f"Found '{given}'; expected a name and a value, as in NAME=VALUE.")
    return name, value


def _modules(context: typer.Context) -> list[str]:
    """Modules that `facta --import` has named: the engine's process imports them, too."""
    return list((context.parent.params.get("modules") if context.parent else None) or ())


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _show(found: list[tuple[str, str]], *, as_json: bool) -> None:
    if as_json:
        console.emit(dict(found))
    else:
        console.table("", ["", "found"], found)
