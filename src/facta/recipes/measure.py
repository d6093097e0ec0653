"""From a fitted model to an artifact with its metrics on validation and on the test.

The only code of a recipe that uses the test, after everything has been chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import polars as pl

from facta.artifact.calibration import fit_calibrator
from facta.artifact.contents import ArtifactData
from facta.data.dataset.conditional import score_names
from facta.errors import ConfigError
from facta.eval.evaluation import KS, evaluate
from facta.eval.experiment import Experiment
from facta.eval.fitting import Fitting
from facta.eval.predict import predict, predict_validation
from facta.eval.predictions import Predictions
from facta.eval.protocol import Stage
from facta.eval.result import Result
from facta.kinds import plain
from facta.models.model import Model, Task
from facta.recipes.fit import Fitted, refit
from facta.recipes.recipe import RecipeConfig
from facta.training.log import Log

Progress = Callable[[int, int], None]
"""Called with (requests done, requests in all)."""


def measured(
    recipe: RecipeConfig,
    first: Fitted,
    experiment: Experiment,
    folder: Path,
    log: Log | None,
    device: str = "cpu",
) -> ArtifactData:
    """The artifact of a model fitted to `experiment.fitting`, with its metrics on both stages.

    Under refit=yes the first model is measured only on validation, under the protocol with refit=no. A second model is
    then fitted to all events before the test and measured on it; the artifact holds the second one. `folder`: of the
    first run. Raises FactaError.
    """
    fitting = experiment.fitting
    contents = _calibrated(recipe, _contents(recipe, first.model, fitting), fitting)
    if experiment.protocol.refit == "no":
        return replace(contents, metrics=_metrics(contents, experiment.read_by(fitting), get_args(Stage)))
    chosen_by = _metrics(contents, Experiment(fitting.dataset, fitting.protocol), ["validation"])
    calibration = contents.calibration  # those of the first model: the second has seen validation
    again = fitting.refit
    contents = _contents(recipe, refit(recipe, first, again, folder, log, device), again)
    contents = replace(contents, calibration=calibration)
    tested = _metrics(contents, experiment.read_by(again), ["test"])
    return replace(contents, metrics=[*({**found, "before_refit": True} for found in chosen_by), *tested])


def ranked(
    contents: ArtifactData,
    experiment: Experiment,
    stage: Stage,
    *,
    ks: Sequence[int] = KS,
    progress: Progress | None = None,
) -> Result:
    """Metrics of the lists that users get: the model's, or the popularity fallback for
    histories without a known item."""
    counts = contents.catalogue["training_events"].to_numpy()
    return evaluate(contents.model, experiment, stage=stage, ks=ks, counts=counts, progress=progress)


def predicted(
    contents: ArtifactData,
    experiment: Experiment,
    stage: Stage,
    *,
    calibrated: bool = True,
    progress: Progress | None = None,
) -> Predictions:
    """The model's predictions of the held-out events; `calibrated`: with the artifact's calibrators, if it has any."""
    if "feedback" not in contents.model.tasks:
        raise ConfigError("This artifact has learned no feedback; train one whose recipe sets model.feedback.")
    counts = contents.catalogue["training_events"].to_numpy()
    found = predict(contents.model, experiment, stage=stage, counts=counts, progress=progress)
    if not calibrated or not contents.calibration:
        return found
    names, kinds = score_names(experiment.dataset.manifest.fields), {one.kind for one in contents.calibration.values()}
    return found.calibrated({names[field]: one for field, one in contents.calibration.items()}, ", ".join(kinds))


def stages(experiment: Experiment, task: Task) -> list[Stage]:
    """The stages with held-out events for a task."""
    if task == "feedback":
        return [stage for stage in get_args(Stage) if len(experiment.held_out(stage))]
    asked: dict[Stage, int] = {"validation": len(experiment.split.validation), "test": len(experiment.test)}
    return [stage for stage, requests in asked.items() if requests]


def _contents(recipe: RecipeConfig, model: Model, fitting: Fitting) -> ArtifactData:
    """The contents of an artifact without metrics."""
    counts = pl.Series("training_events", fitting.statistics.counts.numpy())
    return ArtifactData(
        config={**recipe.model_dump(mode="json"), "model": plain(model.config), "choose": False},
        schema=fitting.dataset.manifest.model_dump(mode="json"),
        catalogue=fitting.dataset.items.with_columns(counts),
        model=model,
    )


def _metrics(contents: ArtifactData, experiment: Experiment, asked: Sequence[Stage]) -> list[dict[str, Any]]:
    """The model's metrics in each task on those of the stages that have held-out events."""
    raw = replace(contents, calibration={})
    return [
        _measure(one, experiment, stage, task).summary()
        for task in contents.model.tasks
        for stage in stages(experiment, task)
        if stage in asked
        for one in ([contents, raw] if task == "feedback" and contents.calibration else [contents])
    ]


def _measure(contents: ArtifactData, experiment: Experiment, stage: Stage, task: Task) -> Result | Predictions:
    if task == "feedback":
        return predicted(contents, experiment, stage)
    return ranked(contents, experiment, stage)


def _calibrated(recipe: RecipeConfig, contents: ArtifactData, fitting: Fitting) -> ArtifactData:
    """The artifact with calibrators, if its recipe has `calibration`; fitted on the validation events alone."""
    kind = recipe.calibration
    if kind is None:
        return contents
    if not len(fitting.held_out):
        raise ConfigError(
            f"calibration={kind} is fitted on validation, and the protocol {fitting.protocol.id} holds no validation "
            "event out: use another protocol, or set calibration to null."
        )
    said = predict_validation(contents.model, fitting)
    names = {name: field for field, name in score_names(fitting.dataset.manifest.fields).items()}
    found = {names[name]: fit_calibrator(kind, *said.of(name)[:2]) for name in said.p}
    return replace(contents, calibration={field: one for field, one in found.items() if one is not None})
