"""The verbs in Python: train and evaluate; `prepare`, `load` and `recommend` live where they work."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from torch import Tensor

from facta.artifact import files
from facta.artifact.model import SavedModel, build
from facta.data.batches import TrainingBatches
from facta.data.histories import Dataset
from facta.data.splits import Split, check_trainable
from facta.errors import ConfigError, DataError, ProtocolError
from facta.eval import evaluation
from facta.eval.protocol import ProtocolConfig, Stage
from facta.eval.result import Result
from facta.eval.tuning import choose
from facta.infer.engine import Artifact
from facta.models.baselines import (
    DecayedPopularity,
    DecayedPopularityConfig,
    ItemKNN,
    ItemKNNConfig,
    Popularity,
    PopularityConfig,
    training_events,
)
from facta.models.recommender import Recommender
from facta.recipes.find import find
from facta.recipes.recipe import RecipeConfig
from facta.train import tune as tuning
from facta.train.identity import Identity
from facta.train.progress import TrainingResult
from facta.train.trainer import Trainer

if TYPE_CHECKING:
    from facta.train.log import Log

Told = Callable[[int, int], None]
"""Called with (requests done, requests in all)."""


def find_recipe(name: str | RecipeConfig, overrides: Sequence[str] = ()) -> RecipeConfig:
    """A recipe by name ("movielens-100k/hstu") with settings changed ("training.epochs=3"). Raises ConfigError."""
    chosen = find(name) if isinstance(name, str) else name
    return chosen.override(overrides) if overrides else chosen


def train(
    dataset: Dataset | Path | str,
    recipe: RecipeConfig | str,
    out: Path | str,
    overrides: Sequence[str] = (),
    *,
    overwrite: bool = False,
    log: Log | None = None,
) -> Artifact:
    """Train a recipe's model, measure it under the recipe's protocol, and write the artifact directory `out`.

    A run keeps its checkpoints and its `metrics.jsonl` in `run_folder(out)`; killed and called again in the same way,
    it goes on where it stopped and gives the same bits. `overwrite` replaces an artifact and starts its run afresh.
    Raises FactaError: a setting, the data, the protocol or the place is not usable.
    """
    chosen, dataset, out = find_recipe(recipe, overrides), _open(dataset), Path(out)
    if overwrite and out.exists():
        shutil.rmtree(run_folder(out), ignore_errors=True)
    files.refuse_taken(out, overwrite=overwrite)
    split = chosen.protocol.cut(dataset)
    check_trainable(dataset, split)
    model = _fitted(chosen, dataset, split, run_folder(out), log)
    results = [_measure(model, dataset, chosen.protocol, stage, split) for stage in _stages(split)]
    contents = files.Contents(
        config={**chosen.model_dump(mode="json"), "model": model.config.model_dump(mode="json")},
        schema=dataset.manifest.model_dump(mode="json"),
        catalogue=_catalogue(dataset, split),
        model=model,
        metrics=[result.summary() for result in results],
    )
    return Artifact.of(replace(contents, fingerprint=files.save(contents, out, overwrite=overwrite)))


def evaluate(
    artifact: Artifact | Path | str,
    dataset: Dataset | Path | str,
    protocol: ProtocolConfig | None = None,
    *,
    stage: Stage = "test",
    ks: Sequence[int] = evaluation.KS,
    told: Told | None = None,
) -> Result:
    """What every user of a dataset gets from an artifact; under the protocol that it was trained for, or another one.

    Raises DataError where the dataset has other items than the artifact; ProtocolError where the protocol is undefined
    or asks for events that the artifact may have been trained on.
    """
    loaded = artifact if isinstance(artifact, Artifact) else Artifact.load(artifact)
    dataset = _open(dataset)
    _same_items(loaded, dataset)
    own = ProtocolConfig.parse(loaded.config["protocol"])
    chosen = own if protocol is None else protocol
    _refuse_known_answers(own, chosen, stage)
    return _measure(loaded.model, dataset, chosen, stage, ks=ks, told=told)


def tune(
    dataset: Dataset | Path | str,
    recipe: RecipeConfig | str,
    out: Path | str,
    overrides: Sequence[str] = (),
    *,
    trials: int,
    seed: int = 0,
    told: Callable[[tuning.Trial], None] | None = None,
    log: Log | None = None,
) -> list[tuning.Trial]:
    """Random search over the recipe's `search` on validation alone; the test requests are never asked.

    Called again it goes on, also with more trials. Trial 0 is the recipe itself. Raises FactaError.
    """
    chosen, dataset, out = find_recipe(recipe, overrides), _open(dataset), Path(out)
    training = chosen.training
    if training is None:
        raise ConfigError(
            f"The recipe '{chosen.name}' is counted, not trained: set choose to true instead of tuning it."
        )
    split = chosen.protocol.cut(dataset)
    if not len(split.validation):
        raise ConfigError(f"The protocol {chosen.protocol.id} has no validation to search on; choose one that has.")

    def run(number: int, changes: list[str]) -> float:
        folder, tried = out / f"trial-{number:03d}", chosen.override(changes)
        result = _learn(_untrained(tried, dataset), tried, dataset, split, folder, log)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return result.metrics[training.metric]

    identity = Identity(chosen.model_dump(mode="json"), dataset.content_hash)
    return tuning.search(run, chosen.search, out, identity, trials=trials, seed=seed, told=told)


def run_folder(out: Path | str) -> Path:
    """Where the training run of the artifact `out` keeps its checkpoints and its metrics.jsonl."""
    out = Path(out)
    return out.with_name(f"{out.name}.run")


def _open(dataset: Dataset | Path | str) -> Dataset:
    return dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)


def _fitted(recipe: RecipeConfig, dataset: Dataset, split: Split, folder: Path, log: Log | None) -> SavedModel:
    """The recipe's model, trained or counted."""
    if recipe.choose:
        return _chosen(recipe, dataset, split)
    if recipe.training is not None:
        model = _untrained(recipe, dataset)
        _learn(model, recipe, dataset, split, folder, log)
        return model
    counted = build(recipe.model, dataset.num_items)
    assert not isinstance(counted, Recommender)  # RecipeConfig sees to it
    return counted.fit(dataset, split)


def _untrained(recipe: RecipeConfig, dataset: Dataset) -> Recommender:
    """Initial weights are a function of the recipe's seed."""
    assert recipe.training is not None
    model = build(recipe.model, dataset.num_items, recipe.training.seed)
    assert isinstance(model, Recommender)
    if model.config.uses_time and dataset.timestamp is None:
        raise ConfigError(
            f"The recipe '{recipe.name}' reads time, and this dataset has only an order; "
            "set model.encoder.bias=position (--set), or prepare a log with timestamps."
        )
    return model


def _chosen(recipe: RecipeConfig, dataset: Dataset, split: Split) -> SavedModel:
    """The best of the settings that a counted model proposes."""
    match recipe.model:
        case DecayedPopularityConfig(window=window):
            decayed = DecayedPopularity.candidates(dataset, split)
            return choose(decayed, dataset, recipe.protocol, window=window, split=split).best
        case ItemKNNConfig(window=window):
            kinds = ItemKNN.candidates(dataset, split)
            return choose(kinds, dataset, recipe.protocol, window=window, split=split).best
        case _:
            raise ConfigError(f"A model of kind '{recipe.model.kind}' has nothing to choose: set choose to false.")


def _learn(
    model: Recommender, recipe: RecipeConfig, dataset: Dataset, split: Split, folder: Path, log: Log | None
) -> TrainingResult:
    training = recipe.training
    assert training is not None  # RecipeConfig sees to it
    validate, popularity = None, None
    if len(split.validation):
        ks = sorted({*evaluation.KS, *_list_length(training.metric)})
        validate = partial(_means, model, dataset, recipe.protocol, split, ks)
        counted = Popularity(PopularityConfig(), dataset.num_items).fit(dataset, split)
        popularity = _means(counted, dataset, recipe.protocol, split, ks)
        if training.metric not in popularity:
            raise ConfigError(f"training.metric is '{training.metric}'; validation measures {', '.join(popularity)}.")
    return Trainer(
        model,
        TrainingBatches(dataset, split, window=model.window, batch_size=training.batch_size, seed=training.seed),
        training,
        folder,
        counts=_training_events(dataset, split),
        validate=validate,
        popularity=popularity,
        recipe=recipe.model_dump(mode="json"),
        dataset_hash=dataset.content_hash,
        log=log,
    ).fit()


def _means(
    model: SavedModel, dataset: Dataset, protocol: ProtocolConfig, split: Split, ks: Sequence[int]
) -> Mapping[str, float]:
    return _measure(model, dataset, protocol, "validation", split, ks=ks).means


def _list_length(metric: str) -> list[int]:
    """[10] of "NDCG@10", nothing of a metric without a length."""
    length = metric.partition("@")[2]
    return [int(length)] if length.isdecimal() and int(length) > 0 else []


def _measure(
    model: SavedModel,
    dataset: Dataset,
    protocol: ProtocolConfig,
    stage: Stage,
    split: Split | None = None,
    *,
    ks: Sequence[int] = evaluation.KS,
    told: Told | None = None,
) -> Result:
    return evaluation.evaluate(
        model, dataset, protocol, window=model.window, stage=stage, ks=ks, split=split, progress=told
    )


def _stages(split: Split) -> list[Stage]:
    """The stages that have requests under a split."""
    stages: dict[Stage, int] = {"validation": len(split.validation), "test": len(split.test)}
    return [stage for stage, requests in stages.items() if requests]


def _training_events(dataset: Dataset, split: Split) -> Tensor:
    """[V] how many training events each item has under a split."""
    rows = dataset.item[training_events(dataset, split)]
    return torch.from_numpy(np.bincount(rows, minlength=dataset.num_items))


def _catalogue(dataset: Dataset, split: Split) -> pl.DataFrame:
    counts = pl.Series("training_events", _training_events(dataset, split).numpy())
    return dataset.items.with_columns(counts)


def _refuse_known_answers(own: ProtocolConfig, asked: ProtocolConfig, stage: Stage) -> None:
    """A model may be asked only for events behind those that its own protocol let it train on."""
    same_cut = (own.split == "temporal") == (asked.split == "temporal") and own.train_end == asked.train_end
    if not same_cut or (own.split == "loo-paper" and stage == "validation"):
        raise ProtocolError(
            f"The artifact was trained under {own.id} and may have seen what the {stage} stage of {asked.id} asks for: "
            "train it under that protocol (--set protocol.split=…)."
        )


def _same_items(artifact: Artifact, dataset: Dataset) -> None:
    """Rows mean the same only where both have the same items in the same order."""
    ours, theirs = artifact.catalogue["item_id"], dataset.items["item_id"]
    if ours.dtype != theirs.dtype or not ours.equals(theirs):
        raise DataError(
            f"The dataset '{dataset.path}' has other items ({len(theirs):,}) than the artifact ({len(ours):,}): "
            "evaluate on the dataset that it was trained on, or train again."
        )
