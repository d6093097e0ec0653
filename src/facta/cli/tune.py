"""`facta tune`: random search over a recipe's settings on validation; the same command resumes a stopped search."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from facta import api
from facta.cli import console
from facta.eval.metrics import lower_is_better
from facta.training.tune import Trial, best


def tune(
    recipe: Annotated[str, typer.Argument(help="Recipe with the search space, such as movielens-100k/hstu.")],
    data: console.DataOption,
    trials: Annotated[int, typer.Option(min=1, help="Number of trials; the first is the recipe itself.")] = 20,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of trials.jsonl and the runs (default: tuning/RECIPE).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the drawn settings; training has its own.")] = 0,
    changes: console.SetOption = None,
    device: console.DeviceOption = "cpu",
    as_json: console.JsonFlag = False,
) -> None:
    """Try random settings of a recipe on validation and print the best as --set options."""
    out = Path("tuning") / recipe if out is None else out
    found = api.tune(data, recipe, out, changes or [], trials=trials, seed=seed, device=device, progress=_say)
    metric = _metric(recipe, changes)
    top = best(found, metric)
    if as_json:
        console.emit({"trials": [asdict(trial) for trial in found], "best": asdict(top), "overrides": top.overrides})
        return
    order = sorted(found, key=lambda trial: _rank(trial, metric))
    rows = [[trial.trial, _value(trial), f"{trial.seconds:.0f}", _settings(trial)] for trial in order]
    console.table(f"{recipe}, validation", ["trial", metric, "seconds", "settings"], rows, numbers=[metric, "seconds"])
    fixed = [change for change in changes or [] if not change.startswith("search")]  # training does not search
    options = [part for change in [*fixed, *top.overrides] for part in ("--set", change)]
    console.note(f"Best: facta train {shlex.join([recipe, '--data', data, *options])}")


def _metric(recipe: str, changes: Sequence[str] | None) -> str:
    """The metric of the trials."""
    training = api.find_recipe(recipe, changes or []).training
    assert training is not None  # the search has run
    return training.metric


def _rank(trial: Trial, metric: str) -> float:
    """The best trial first, failed ones last."""
    if trial.value is None:
        return math.inf
    return trial.value if lower_is_better(metric) else -trial.value


def _say(trial: Trial) -> None:
    console.note(f"trial {trial.trial}: {_value(trial)}  {_settings(trial)}")


def _value(trial: Trial) -> str:
    return f"failed ({trial.error})" if trial.value is None else f"{trial.value:.4f}"


def _settings(trial: Trial) -> str:
    return " ".join(trial.overrides) or "the recipe itself"
