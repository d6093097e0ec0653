"""`facta train`: a recipe and a dataset become an artifact, measured under its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from facta import api
from facta.cli import console, tables
from facta.errors import ConfigError
from facta.eval.seeds import over_seeds
from facta.infer.artifact import Artifact


def train(
    recipe: Annotated[
        str, typer.Argument(help="Such as movielens-100k/hstu (`facta info --recipes` lists all), or a JSON file.")
    ],
    data: console.DataOption,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory of the artifact (default: artifacts/RECIPE).")
    ] = None,
    changes: console.SetOption = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="0,1,2", help="Train once for each seed, into --out/seed-N; mean and deviation."),
    ] = None,
    device: console.DeviceOption = "cpu",
    overwrite: console.OverwriteFlag = False,
    as_json: console.JsonFlag = False,
) -> None:
    """Train a recipe's model on a prepared dataset and write the artifact; the same command resumes a stopped run."""
    out = Path("artifacts") / api.find_recipe(recipe).name if out is None else out
    if seeds is not None:
        found = api.train_seeds(data, recipe, out, _seeds(seeds), changes or [], device=device, overwrite=overwrite)
        _show_seeds(out, found, as_json=as_json)
        return
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


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"Found --seeds {text}; expected whole numbers divided by commas, as in 0,1,2.") from None


def _show_seeds(out: Path, artifacts: Mapping[int, Artifact], *, as_json: bool) -> None:
    """A table or JSON document for each stage and task: every seed, mean and deviation."""
    name = str(next(iter(artifacts.values())).config["name"])
    stages: list[dict[str, Any]] = [
        {"results": dict(zip(artifacts, summaries, strict=True)), "over_seeds": over_seeds(summaries)}
        for summaries in zip(*(artifact.metrics for artifact in artifacts.values()), strict=True)
    ]
    if as_json:
        marks = {seed: artifact.fingerprint for seed, artifact in artifacts.items()}
        console.emit({"artifacts": str(out), "fingerprints": marks, "recipe": name, "stages": stages})
        return
    for stage in stages:
        tables.seeds(name, stage["results"], stage["over_seeds"])
    console.note(f"The artifacts lie in '{out}', one for each seed.")
