"""The verbs in Python: doctor, train, evaluate, predict, by_day and tune."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from facta.arguments import CALLABLE, DECLARED, FLAG, NAMES, NONE, PATH, TEXT, WHOLE, arguments, instance, several
from facta.artifact import files
from facta.artifact.matching import check_match
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.schema import Declared
from facta.data.dataset.times import Time, Unit
from facta.data.log.doctor import Finding, examine
from facta.data.log.events import Source
from facta.data.split.buckets import as_read_by
from facta.data.split.splits import check_trainable
from facta.errors import ConfigError
from facta.eval.evaluation import KS
from facta.eval.experiment import Experiment
from facta.eval.predictions import Predictions
from facta.eval.protocol import ProtocolConfig, Stage
from facta.eval.result import Result
from facta.eval.unseen import check_unseen, unlike_targets
from facta.infer.artifact import Artifact
from facta.kinds import importing
from facta.recipes.days import Days
from facta.recipes.days import by_day as day_by_day
from facta.recipes.find import find
from facta.recipes.fit import fit, metric_name, train_model
from facta.recipes.measure import Progress, measured, predicted, ranked, stages
from facta.recipes.recipe import RecipeConfig
from facta.recipes.sizing import sized
from facta.settings import Overrides, assignments, parts
from facta.training import tune as tuning
from facta.training.folder import REFIT, acquire_run_folder
from facta.training.identity import Identity
from facta.training.log import Log

_DATASET = instance("a facta.Dataset", Dataset) | PATH
_ARTIFACT = instance("a facta.Artifact", Artifact) | PATH
_LOG = instance("a facta.training.log.Log", Log) | NONE


def find_recipe(name: str | RecipeConfig, overrides: Overrides = ()) -> RecipeConfig:
    """A recipe by name ("movielens-100k/hstu") with settings changed: ["training.epochs=3"] as on the command line,
    {"training.epochs": 3}, or nested: {"training": {"epochs": 3}}. Raises ConfigError."""
    chosen = find(name) if isinstance(name, str) else name
    if not isinstance(chosen, RecipeConfig):
        raise ConfigError(
            f"Found a recipe of type {type(name).__name__}; expected a name, as in 'movielens-1m/hstu', or a "
            "facta.RecipeConfig, which facta.RecipeConfig.parse makes of plain values."
        )
    with importing():  # for parts from outside, as in model.encoder.kind=my_encoders:Linear
        return chosen.override(overrides)


@arguments(columns=NAMES | NONE, fields=DECLARED | NONE, unit=TEXT | NONE)
def doctor(
    events: Source | Dataset,
    *,
    columns: Mapping[str, str] | None = None,
    fields: Declared | None = None,
    unit: Unit | None = None,
) -> list[Finding]:
    """Problems of an event log or a prepared dataset that spoil results, worst first; empty if there are none.

    `columns` (role -> name), `fields` and `unit` of the times as for `prepare`, whose errors are findings of level
    "error". Raises DataError for a missing file, and for columns and units that do not exist.
    """
    return examine(events, columns=columns, fields=fields, unit=unit)


@arguments(dataset=_DATASET, out=PATH, device=TEXT, overwrite=FLAG, log=_LOG)
def train(
    dataset: Dataset | Path | str,
    recipe: RecipeConfig | str,
    out: Path | str,
    overrides: Overrides = (),
    *,
    device: str = "cpu",
    overwrite: bool = False,
    log: Log | None = None,
) -> Artifact:
    """Train a recipe's model, measure it under the recipe's protocol, and write the artifact directory `out`.

    A run has its checkpoints and its `metrics.jsonl` in `run_folder(out)`; killed and called again in the same way, it
    resumes and ends in the same bits. Checkpoints are removed when the artifact is written. Under a protocol with
    refit=yes the model is trained twice, the second time in the folder `refit` of the first run; the artifact has the
    second model, and for validation the metrics of the first, under refit=no. `overwrite` replaces an artifact, and a
    run of another recipe or dataset. `device` ("cuda") is for training only; artifacts have no device, and compiled
    kernels run only on the CPU. Raises FactaError: a setting, the data, the protocol or the place is not usable.
    """
    chosen, dataset, out = find_recipe(recipe, overrides), _open(dataset), Path(out)
    files.check_overwrite(out, overwrite=overwrite)
    experiment = Experiment(dataset, chosen.protocol)
    _check_trainable(chosen, experiment)
    chosen = _sized(chosen, experiment, log)
    acquire_run_folder(
        run_folder(out), Identity(chosen.model_dump(mode="json"), dataset.content_hash), overwrite=overwrite
    )
    _say_what_is_asked(chosen, experiment, log)
    first = fit(chosen, experiment.fitting, run_folder(out), log, device)
    contents = measured(chosen, first, experiment, run_folder(out), log, device)
    _say_alarms(contents.metrics, log or Log())
    mark = files.save(contents, out, overwrite=overwrite)
    for folder in (run_folder(out), run_folder(out) / REFIT):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return Artifact.of(replace(contents, fingerprint=mark))


@arguments(
    dataset=_DATASET,
    out=PATH,
    seeds=several("a list of whole numbers", WHOLE),
    device=TEXT,
    overwrite=FLAG,
    log=_LOG,
)
def train_seeds(
    dataset: Dataset | Path | str,
    recipe: RecipeConfig | str,
    out: Path | str,
    seeds: Sequence[int],
    overrides: Overrides = (),
    *,
    device: str = "cpu",
    overwrite: bool = False,
    log: Log | None = None,
) -> dict[int, Artifact]:
    """Train a recipe once for each seed, into `out/seed-0`, `out/seed-1`, …; everything else as in `train`.

    Called again it resumes: existing artifacts of the same training are loaded. `facta.average` gives the mean of their
    results, and `facta.compare` takes lists of them. Raises FactaError.
    """
    chosen, dataset = find_recipe(recipe, overrides), _open(dataset)
    if chosen.training is None:
        raise ConfigError(f"The recipe '{chosen.name}' is counted, not trained: it has no seeds.")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"Found the seeds {list(seeds)}; expected different whole numbers, as in 0,1,2.")
    found = {}
    for seed in seeds:
        place, seeded = Path(out) / f"seed-{seed}", chosen.override({"training.seed": seed})
        done = None if overwrite or not (place / files.CHECKSUMS).is_file() else Artifact.load(place)
        if done is not None and _is_of(done, seeded, dataset):
            found[seed] = done
        else:
            found[seed] = train(dataset, seeded, place, device=device, overwrite=overwrite, log=log)
    return found


def _is_of(artifact: Artifact, recipe: RecipeConfig, dataset: Dataset) -> bool:
    """Whether an artifact came from a recipe and a dataset."""
    same = artifact.schema["content_hash"] == dataset.content_hash
    return same and RecipeConfig.parse(artifact.config) == sized(recipe, Experiment(dataset, recipe.protocol).fitting)


def _check_trainable(recipe: RecipeConfig, experiment: Experiment) -> None:
    """Raises DataError if the protocol leaves no training events."""
    dataset, least = experiment.dataset, recipe.model.min_training_events
    check_trainable(dataset, experiment.split, events=least, advice=recipe.protocol.advice(dataset))


def _sized(recipe: RecipeConfig, experiment: Experiment, log: Log | None) -> RecipeConfig:
    """The recipe with the settings derived from the size of the log, each logged with its reason."""
    chosen, log = sized(recipe, experiment.fitting), log or Log()
    if chosen is not recipe:
        for key, reason in chosen.derived.items():
            log.say(f"{key}={reason}.")
    return chosen


@arguments(
    artifact=_ARTIFACT,
    dataset=_DATASET,
    stage=TEXT,
    other_data=FLAG,
    progress=CALLABLE | NONE,
    ks=several("a list of whole numbers", WHOLE),
)
def evaluate(
    artifact: Artifact | Path | str,
    dataset: Dataset | Path | str,
    protocol: ProtocolConfig | Overrides | None = None,
    *,
    stage: Stage = "test",
    ks: Sequence[int] = KS,
    other_data: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Evaluate an artifact on the users of a dataset, under its own protocol or another one.

    `protocol`: a facta.ProtocolConfig, or changes to the artifact's own, as in ["mask=nothing"] or {"mask": "nothing"}.
    `other_data` allows a dataset that the artifact was not trained on, whose targets its training may have seen. It may
    have new items after those of the artifact: as targets they are misses, and the result counts them. Raises DataError
    if its items or values differ from the artifact's, ConfigError if the artifact ranks no catalogue, ProtocolError if
    the protocol is undefined or asks for events that the artifact may have been trained on.
    """
    loaded, dataset = _asked(artifact, dataset, other_data=other_data)
    if "next_item" not in loaded.model.tasks:
        raise ConfigError("This artifact has learned only feedback and ranks no catalogue: use facta.predict.")
    chosen = _allowed(loaded, protocol, stage)
    return ranked(loaded, Experiment(dataset, chosen), stage, ks=ks, progress=progress)


@arguments(artifact=_ARTIFACT, dataset=_DATASET, stage=TEXT, other_data=FLAG, progress=CALLABLE | NONE)
def predict(
    artifact: Artifact | Path | str,
    dataset: Dataset | Path | str,
    protocol: ProtocolConfig | Overrides | None = None,
    *,
    stage: Stage = "test",
    other_data: bool = False,
    calibrated: bool = True,
    progress: Progress | None = None,
) -> Predictions:
    """An artifact's predictions of the feedback of every held-out event, given its time, context and item.

    `calibrated=False`: without the artifact's calibrators. Everything else as in `evaluate`; raises ConfigError if the
    artifact has learned no feedback.
    """
    loaded, dataset = _asked(artifact, dataset, other_data=other_data)
    chosen = _allowed(loaded, protocol, stage)
    return predicted(loaded, Experiment(dataset, chosen), stage, calibrated=calibrated, progress=progress)


def _asked(
    artifact: Artifact | Path | str, dataset: Dataset | Path | str, *, other_data: bool
) -> tuple[Artifact, Dataset]:
    loaded = artifact if isinstance(artifact, Artifact) else Artifact.load(artifact)
    dataset = _open(dataset)
    dataset = as_read_by(dataset, files.described(loaded.schema))
    check_match(loaded, dataset, other_data=other_data)
    return loaded, dataset


def _allowed(artifact: Artifact, protocol: ProtocolConfig | Overrides | None, stage: Stage) -> ProtocolConfig:
    own = ProtocolConfig.parse(artifact.config["protocol"])
    chosen = protocol if isinstance(protocol, ProtocolConfig) else own.override(() if protocol is None else protocol)
    check_unseen(own, chosen, stage)
    return chosen


@arguments(dataset=_DATASET, out=PATH, days=WHOLE, device=TEXT, overwrite=FLAG, progress=CALLABLE | NONE, log=_LOG)
def by_day(
    dataset: Dataset | Path | str,
    recipe: RecipeConfig | str,
    out: Path | str,
    overrides: Overrides = (),
    *,
    days: int = 7,
    since: Time | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress | None = None,
    log: Log | None = None,
) -> Predictions:
    """A recipe's predictions of the feedback of each day, trained up to each; pooled, with the number of the day in
    `part`.

    `since`: when the first day begins, with its offset, as in "2022-05-02T00:00:00+08:00" (default: the last `days`
    days of the log by UTC). A recipe with `training.hours` goes once through the log and predicts each period before it
    learns it. Otherwise each day has its own training; if the recipe chooses its epochs by validation, they are chosen
    once, on the day before the first. The folder `out` stores the predictions of each day: called again in the same
    way, it resumes. `progress` is called with (days done, days). Raises FactaError.
    """
    chosen, dataset = find_recipe(recipe, overrides), _open(dataset)
    found = Days.of(dataset, days, since)
    return day_by_day(chosen, dataset, Path(out), found, overwrite=overwrite, device=device, log=log, progress=progress)


@arguments(dataset=_DATASET, out=PATH, trials=WHOLE, seed=WHOLE, device=TEXT, progress=CALLABLE | NONE, log=_LOG)
def tune(
    dataset: Dataset | Path | str,
    recipe: RecipeConfig | str,
    out: Path | str,
    overrides: Overrides = (),
    *,
    trials: int,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[tuning.Trial], None] | None = None,
    log: Log | None = None,
) -> list[tuning.Trial]:
    """Random search over the recipe's `search` on validation; the test is never used.

    Called again it resumes, also with more trials. Trial 0 is the recipe itself; settings of `overrides` are not
    searched. Raises FactaError.
    """
    chosen, dataset, out = find_recipe(recipe, overrides), _open(dataset), Path(out)
    training = chosen.training
    if training is None:
        raise ConfigError(
            f"The recipe '{chosen.name}' is counted, not trained: set choose to true instead of tuning it."
        )
    experiment = Experiment(dataset, chosen.protocol)
    _check_trainable(chosen, experiment)
    if not len(experiment.split.validation):
        raise ConfigError(f"The protocol {chosen.protocol.id} has no validation to search on; choose one that has.")

    chosen = _sized(chosen, experiment, log)

    def run(number: int, changes: list[str]) -> float:
        folder, tried = out / f"trial-{number:03d}", chosen.override(changes)
        _, result = train_model(tried, experiment.fitting, folder, log, device)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return result.metrics[metric_name(training.metric, dataset)]

    identity = Identity(chosen.model_dump(mode="json"), dataset.content_hash)
    space = tuning.without(chosen.search, [path for path, _ in assignments(overrides, parts(chosen))])
    return tuning.search(run, space, out, identity, trials=trials, seed=seed, progress=progress)


@arguments(out=PATH)
def run_folder(out: Path | str) -> Path:
    """The folder of the training run of the artifact `out`, with its checkpoints and metrics.jsonl."""
    out = Path(out)
    return out.with_name(f"{out.name}.run")


def _open(dataset: Dataset | Path | str) -> Dataset:
    return dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)


def _say_what_is_asked(recipe: RecipeConfig, experiment: Experiment, log: Log | None) -> None:
    """Warn before training about stages without held-out events, and about targets other than the learned ones."""
    said, protocol, dataset = [], recipe.protocol, experiment.dataset
    there = stages(experiment, "feedback" if "feedback" in recipe.model.tasks else "next_item")
    for stage in get_args(Stage):
        if stage not in there and not (stage == "validation" and protocol.split == "loo-paper"):
            said.append(f"There will be no {stage} number: the protocol holds nothing out{protocol.advice(dataset)}")
    unlike = unlike_targets(recipe.model.model_dump(), protocol)
    for text in [*said, *([] if unlike is None else [unlike])]:
        (log or Log()).say(text)


def _say_alarms(summaries: Sequence[Mapping[str, Any]], log: Log) -> None:
    """Log alarms about the model on held-out events."""
    for summary in summaries:
        for text in summary.get("alarms", ()):
            log.say(f"ALARM ({summary['stage']}): {text}")
