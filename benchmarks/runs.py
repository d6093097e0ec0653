"""Trained recipes for the figures of quality: data sets by name, one artifact per seed, kept until the code changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import facta
from benchmarks.record import ROOT, code, record
from facta.artifact.contents import ArtifactData
from facta.artifact.files import save
from facta.data.public import sources
from facta.eval.bootstrap import Interval
from facta.eval.evaluation import KS
from facta.eval.experiment import Experiment
from facta.eval.metrics import lower_is_better
from facta.eval.protocol import ProtocolConfig
from facta.eval.report import kept_epoch
from facta.eval.result import average
from facta.recipes.fit import Fitted
from facta.recipes.measure import measured
from facta.recipes.recipe import RecipeConfig
from facta.training import journal
from facta.training.folder import REFIT
from facta.training.log import Log

SEEDS = (0, 1, 2)
FOLDERS = {
    "movielens-100k": "ml-100k",
    "movielens-1m": "ml-1m",
    "amazon-beauty": "s3rec",
    "kuairand-pure": "kuairand-pure-part",
}
"""Where a data set lies below FACTA_SHARED_DATA; without that variable it is downloaded."""


@dataclass(frozen=True)
class Seeds:
    """One system, trained once per seed and measured on validation and test."""

    name: str
    validation: list[facta.Result]  # none with refit=yes: the tested model has seen these events
    test: list[facta.Result]
    artifacts: list[facta.Artifact]
    seconds_per_epoch: list[float]  # training steps alone
    epochs: list[int]

    def values(self, metric: str) -> list[float]:
        return [result.means[metric] for result in self.test]

    def mean(self, metric: str) -> float:
        return sum(self.values(metric)) / len(self.test)

    @property
    def averaged(self) -> facta.Result:
        """User by user over the seeds, for paired comparison."""
        return average(self.test)


def dataset(name: str) -> facta.Dataset:
    """A public dataset, prepared below data/ if it is not there yet."""
    out, shared = ROOT / "data" / name, os.environ.get("FACTA_SHARED_DATA")
    if out.exists():
        return facta.Dataset.open(out)
    return sources.get(name, out, place=None if shared is None else Path(shared) / FOLDERS[name])


def train(
    recipe: str,
    data: facta.Dataset,
    changes: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    ks: Sequence[int] = KS,
) -> Seeds:
    """Train a recipe once per seed, or take what an earlier, interrupted measurement of this code left."""
    found = Seeds(" ".join([recipe, *changes]), [], [], [], [], [])
    for seed in seeds:
        trained = artifact(recipe, data, changes, seed)
        _add(found, trained, data, journal.read(facta.run_folder(place(recipe, changes, seed)), "epoch"), ks)
    return found


def _add(
    found: Seeds, trained: facta.Artifact, data: facta.Dataset, epochs: list[dict[str, Any]], ks: Sequence[int]
) -> None:
    """Measure one more trained seed."""
    protocol = ProtocolConfig.parse(trained.config["protocol"])
    if protocol.refit == "no" and len(protocol.cut(data).validation):  # a refit was trained on these events
        found.validation.append(facta.evaluate(trained, data, stage="validation"))
    found.test.append(facta.evaluate(trained, data, ks=ks))
    found.artifacts.append(trained)
    found.seconds_per_epoch.append(epochs[-1]["seconds"] / len(epochs))
    found.epochs.append(len(epochs))
    print(
        f"{found.name}, seed {trained.config['training']['seed']}: {found.test[-1].means['NDCG@10']:.4f} NDCG@10",
        flush=True,
    )


def train_again(
    recipe: str, data: facta.Dataset, first: Seeds, seeds: Sequence[int] = SEEDS, ks: Sequence[int] = KS
) -> Seeds:
    """The seeds of `first` under refit=yes: what `train` with protocol.refit=yes gives, whose first run is at hand.

    A recipe without other changes. The test of runs holds both ways to the same bits.
    """
    changes = ["protocol.refit=yes"]
    found = Seeds(" ".join([recipe, *changes]), [], [], [], [], [])
    for seed, artifact in zip(seeds, first.artifacts, strict=True):
        out, before = place(recipe, changes, seed), facta.run_folder(place(recipe, [], seed))
        if not out.exists():
            save(refitted(artifact, data, before, facta.run_folder(out)), out, overwrite=False)
        epochs = journal.read(facta.run_folder(out) / REFIT, "epoch")
        _add(found, facta.load(out), data, epochs, ks)
    return found


def refitted(first: facta.Artifact, data: facta.Dataset, before: Path, folder: Path) -> ArtifactData:
    """An artifact of refit=no, whose run lies in `before`, under refit=yes; the second run keeps itself in `folder`."""
    recipe = RecipeConfig.parse(first.config).override(["protocol.refit=yes"])
    epochs = kept_epoch(journal.read(before)) or len(journal.read(before, "epoch"))
    return measured(recipe, Fitted(first.model, epochs), Experiment(data, recipe.protocol), folder, Log())


def artifact(recipe: str, data: facta.Dataset, changes: Sequence[str], seed: int) -> facta.Artifact:
    """One trained seed."""
    out = place(recipe, changes, seed)
    return facta.load(out) if out.exists() else facta.train(data, recipe, out, [*changes, f"training.seed={seed}"])


def place(recipe: str, changes: Sequence[str], seed: int) -> Path:
    """Where a trained seed lies."""
    name = "-".join([recipe.replace("/", "-"), *changes])
    if len(name) > 200:  # of 255 that a disk takes
        name = f"{name[:150]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return ROOT / "runs" / "figures" / code()[:12] / name / str(seed)


def least_gain(metric: str, interval: Interval) -> float:
    """By how much ours is better at the least, of the interval of ours minus theirs."""
    return -interval.high if lower_is_better(metric) else interval.low


def count(recipe: str, data: facta.Dataset, changes: Sequence[str] = ()) -> tuple[facta.Result, facta.Artifact]:
    """A baseline, which has no seed, on test; and the artifact, whose config has the settings that it chose."""
    out = ROOT / "runs" / "figures" / code()[:12] / "-".join([recipe.replace("/", "-"), *changes])
    artifact = facta.load(out) if out.exists() else facta.train(data, recipe, out, changes)
    return facta.evaluate(artifact, data), artifact


def record_counted(figure: str, recipe: str, data: facta.Dataset, refit: Literal["no", "yes"]) -> None:
    """HR@10 and NDCG@10 of a counted model as FIGURE_hr10 and FIGURE_ndcg10, its settings in the note."""
    result, artifact = count(recipe, data, [f"protocol.refit={refit}"])
    settings = ", ".join(f"{key} {value}" for key, value in artifact.config["model"].items() if key != "kind")
    for metric in ("HR@10", "NDCG@10"):
        name = f"{figure}_{metric.replace('@', '').lower()}"
        record(name, result.means[metric], note=f"{result.protocol}; chosen on validation: {settings}")


def chosen_by(artifact: facta.Artifact, metric: str = "NDCG@10") -> float:
    """What validation said of an artifact's first training, also where it was trained again after it."""
    found = [entry for entry in artifact.metrics if entry["stage"] == "validation"]
    return float(found[0]["metrics"][metric]["mean"])
