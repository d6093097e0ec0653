"""`facta train`: a recipe and a dataset become an artifact, measured under its protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facta import api
from facta.cli import console, tables


def train(
    recipe: Annotated[str, typer.Argument(help="Such as movielens-100k/hstu; `facta info --recipes` lists all.")],
    data: console.DataOption,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory of the artifact; artifacts/RECIPE when not given.")
    ] = None,
    changes: console.SetOption = None,
    device: console.DeviceOption = "cpu",
    overwrite: console.OverwriteFlag = False,
    as_json: console.JsonFlag = False,
) -> None:
    """Train a recipe's model on a prepared dataset and write the artifact; the same command goes on after a stop."""
    out = Path("artifacts") / recipe if out is None else out
    artifact = api.train(data, recipe, out, changes or [], device=device, overwrite=overwrite)
    if as_json:
        console.emit(
            {
                "artifact": str(out),
                "fingerprint": artifact.fingerprint,
                "run": str(api.run_folder(out)),
                "recipe": artifact.config["name"],
                "results": list(artifact.metrics),
            }
        )
        return
    for summary in artifact.metrics:
        tables.shown([(str(artifact.config["name"]), summary)])
    for text in artifact.schema["notes"]:
        console.note(f"Note on the data: {text}")
    console.note(f"The artifact lies in '{out}' (fingerprint {artifact.fingerprint}).")
