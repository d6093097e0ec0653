"""Fitting a recipe's model: training, or counting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facta.data.batches.stream import StreamBatches
from facta.data.batches.training import TrainingBatches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.conditional import resolved, score_names
from facta.data.dataset.dataset import Dataset
from facta.data.split.statistics import Statistics
from facta.errors import ConfigError, counted
from facta.eval.evaluation import KS, validate
from facta.eval.feedback_metrics import CHOSEN, METRICS
from facta.eval.fitting import Fitting
from facta.eval.predict import predict_rows, predict_validation
from facta.eval.predictions import Predictions
from facta.eval.tuning import choose
from facta.eval.value_metrics import COMPARED_VALUES, VALUE_METRICS
from facta.kinds import kind_of
from facta.models.baselines import Popularity, PopularityConfig
from facta.models.model import Model, ModelConfig
from facta.models.prior import Prior
from facta.models.rules import Rules, RulesConfig
from facta.recipes import prior as priors
from facta.recipes.recipe import RecipeConfig
from facta.training.folder import REFIT
from facta.training.log import Log
from facta.training.model import Validate
from facta.training.process import parse_device
from facta.training.progress import TrainingResult
from facta.training.trainer import Trainer, TrainingConfig

_LARGE_CATALOGUE = 100_000  # items; with fewer, popularity is measured in seconds


@dataclass(frozen=True)
class Fitted:
    """A fitted model and the choices of validation; chosen settings are in the model's config."""

    model: Model
    epochs: int | None  # epochs that its weights have seen; None: counted, not trained


DECIDING = (*CHOSEN, *COMPARED_VALUES)
"""The metrics of feedback for choosing epochs, of a field or as the mean over fields."""


def fit(recipe: RecipeConfig, fitting: Fitting, folder: Path, log: Log | None, device: str = "cpu") -> Fitted:
    """The recipe's model, trained on `device` (with its run in `folder`) or counted. Raises FactaError."""
    if recipe.training is not None:
        model, result = train_model(recipe, fitting, folder, log, device)
        return Fitted(model, result.best_epoch or result.epochs)
    if parse_device(device).type != "cpu":
        raise ConfigError(
            f"Found the device '{device}' for a model of kind '{kind_of(recipe.model)}', which is counted on the CPU: "
            "leave it out (--device)."
        )
    if recipe.choose:
        return Fitted(_chosen(recipe.model, fitting, log or Log()), None)
    return Fitted(_counted(recipe, fitting), None)


def refit(
    recipe: RecipeConfig,
    first: Fitted,
    fitting: Fitting,
    folder: Path,
    log: Log | None,
    device: str = "cpu",
) -> Model:
    """The model of a first run, fitted again to everything before the test with the choices of validation.

    `fitting` is `Fitting.refit` of the first run, `folder` that of the first run. Validation has chosen the settings in
    the config of the first model, the number of its epochs, and the tensors of `fitted_on_validation`, which are
    copied. Initial weights equal those of the first run. The learning rate of epoch i is that of epoch i of the first
    run, although an epoch has more steps, so a cosine ends at the same rate as in the first run. (A stream goes once
    through the longer log.)
    """
    settled = recipe.change(model=first.model.config, choose=False)
    if first.epochs is None:
        return _counted(settled, fitting)
    assert recipe.training is not None
    log = log or Log()
    log.say(f"Training again on all events before the test, {counted(first.epochs, 'epoch')}.")
    once = recipe.training.change(keep="last", patience=None)
    stop_after = None if once.hours is not None else first.epochs
    settled = settled.change(training=once)
    model, _ = train_model(settled, fitting, folder / REFIT, log, device, stop_after=stop_after)
    carried, state = first.model.state_dict(), model.state_dict()
    for name in first.model.fitted_on_validation:
        state[name].copy_(carried[name])
    return model


def _counted(recipe: RecipeConfig, fitting: Fitting) -> Model:
    """A model without training, counted on the training events."""
    return recipe.model.build(Catalogue.of(fitting.dataset)).fit_statistics(fitting.statistics)


def _untrained(recipe: RecipeConfig, dataset: Dataset) -> Model:
    """The initial model, a function of the recipe's seed."""
    assert recipe.training is not None
    model = priors.without_prior(recipe.model).build(Catalogue.of(dataset), recipe.training.seed)
    if model.config.uses_time and dataset.timestamp is None:
        settings = " and ".join(f"model.{setting}" for setting in model.config.settings_without_time)
        raise ConfigError(
            f"The recipe '{recipe.name}' reads time, and this dataset has only an order; prepare a log with timestamps"
            + (f", or set {settings} (--set)." if settings else ".")
        )
    return model


def _chosen(config: ModelConfig, fitting: Fitting, log: Log) -> Model:
    """The best of the settings that a counted model proposes; the value of each on validation is logged."""

    def judged(model: Model, value: float) -> None:
        settings = model.config.model_dump(exclude={"kind"}, exclude_defaults=True)
        said = ", ".join(f"{name}={setting}" for name, setting in settings.items()) or "the default settings"
        log.say(f"{kind_of(model.config)}: NDCG@10 {value:.4f} on validation with {said}.")

    def judge(candidates: Iterable[Model]) -> Model:
        return choose(candidates, fitting, judged=judged).best

    return config.tuned(fitting.statistics, judge)


def _prior(recipe: RecipeConfig, fitting: Fitting, log: Log) -> Prior | None:
    """The fitted prior of the recipe's model, if it has one. Open settings of rules are chosen as for a recipe of
    rules.
    """
    config = priors.prior_of(recipe.model)
    if config is None:
        return None
    prior = Prior(config, fitting.dataset.num_items)
    if config.rules is not None or not len(fitting.split.validation):
        return prior.fit_statistics(fitting.statistics)
    chosen = _chosen(RulesConfig(), fitting, log)
    assert isinstance(chosen, Rules)
    prior.rules = chosen
    return prior


def train_model(
    recipe: RecipeConfig,
    fitting: Fitting,
    folder: Path,
    log: Log | None,
    device: str = "cpu",
    *,
    stop_after: int | None = None,
    predicted: Callable[[int, Predictions], None] | None = None,
) -> tuple[Model, TrainingResult]:
    """A trained model with its best weights, on the CPU, and the summary of its run.

    Resumes the run in `folder`, also on another device. `stop_after` ends it after so many epochs. `predicted` is
    called with the predictions of a stream for each period before it is learned: (learned periods, predictions).
    """
    place, log, dataset = parse_device(device), log or Log(), fitting.dataset
    log.say(f"{recipe.name}: {counted(dataset.num_events, 'event')}, {counted(dataset.num_items, 'item')}.")
    model = _untrained(recipe, dataset)
    assert recipe.training is not None  # RecipeConfig sees to it
    training = recipe.training.change(metric=metric_name(recipe.training.metric, dataset))
    if (recipe.training.metric, training.metric) == ("NE", "NMAE"):
        log.say("training.metric is NMAE: no feedback of the log declares which values are success.")
    model.fit_statistics(fitting.statistics)
    model.to(place)
    batches = _batches(training, model, fitting)
    if (
        dataset.num_items >= _LARGE_CATALOGUE
    ):  # a pass over all validation requests and items comes before the first step
        log.say("Measuring popularity on validation before the first step.")
    validate, popularity = _validation(training, model, fitting)
    prior = _prior(recipe, fitting, log)
    if prior is not None:
        validate = priors.validated(validate, model, prior)
    before = None
    if isinstance(batches, StreamBatches):
        training = training.change(epochs=batches.periods)
        before = partial(_learn_period, model, dataset, batches)
        validate = partial(_next_period, model, dataset, batches, predicted)
    result = Trainer(
        model,
        batches,
        training,
        folder,
        counts=fitting.statistics.counts,
        before=before,
        validate=validate,
        popularity=popularity,
        stop_after=stop_after,
        recipe=recipe.model_dump(mode="json") | ({} if stop_after is None else {"stop_after": stop_after}),
        dataset_hash=dataset.content_hash,
        log=log,
    ).fit()
    model = model.to("cpu")
    if prior is not None:
        priors.settle(model, prior, fitting, log)
    return model, result


def _batches(training: TrainingConfig, model: Model, fitting: Fitting) -> TrainingBatches | StreamBatches:
    settings: dict[str, Any] = {
        "window": model.window,
        "batch_size": training.batch_size,
        "seed": training.seed,
        "spec": model.inputs,
        "examples": training.examples,
        "stochastic_length": training.stochastic_length,
    }
    if training.hours is None:
        return TrainingBatches(fitting.dataset, fitting.split, **settings)
    if not model.inputs.targets_are_inputs or (training.epochs, training.keep, training.patience) != (1, "last", None):
        raise ConfigError(
            "A stream (training.hours) is one pass through the log, for models of feedback: set training.epochs=1, "
            "training.keep=last and training.patience=null."
        )
    if model.counts_training:
        less = "".join(f"model.{setting}, or " for setting in model.settings_without_counts)
        raise ConfigError(
            f"This model of kind '{kind_of(model.config)}' uses counts of the whole training period, which would leak "
            f"the future into a stream: set {less}training.hours=null."
        )
    return StreamBatches(fitting.dataset, fitting.split, hours=training.hours, **settings)


def _learn_period(model: Model, dataset: Dataset, batches: StreamBatches, period: int) -> None:
    """Prepare the model for a period: items that occur only later count as unknown."""
    model.fit_statistics(Statistics(dataset, batches.learned(period)))


def _next_period(
    model: Model,
    dataset: Dataset,
    batches: StreamBatches,
    predicted: Callable[[int, Predictions], None] | None,
    done: int,
) -> Mapping[str, float]:
    """Predictions of the period after the `done` learned ones; empty for a period without events."""
    rows = batches.asked(done, model.window)
    if not len(rows):
        return {}
    found = predict_rows(model, dataset, rows, f"stream/period={done}", "validation")
    if predicted is not None:
        predicted(done, found)
    return _with_mean(found.means)


def _with_mean(means: Mapping[str, float]) -> Mapping[str, float]:
    """Metrics with NE and the others over all fields added: the mean of the defined ones."""
    every = {metric: [value for name, value in means.items() if name.startswith(f"{metric}(")] for metric in DECIDING}
    found = {metric: np.array(values) for metric, values in every.items() if values}
    known = {metric: values[~np.isnan(values)] for metric, values in found.items()}
    return {**means, **{metric: float(values.mean()) if len(values) else np.nan for metric, values in known.items()}}


def metric_name(metric: str, dataset: Dataset) -> str:
    """The printed name of a recipe's metric: NE(like if click) for NE(like) of a field with a condition.

    The mean NE becomes NMAE, the one of numbers, if no feedback has success.
    """
    feedback = [field for field in dataset.manifest.fields if field.role == "feedback"]
    if metric == "NE" and feedback and not any(field.positives for field in feedback):
        metric = "NMAE"
    names = score_names(dataset.manifest.fields).values()
    return resolved(metric, [f"{one}({name})" for name in names for one in DECIDING])


def _measured(model: Model, dataset: Dataset) -> list[str]:
    """The metrics of validation of a model of feedback."""
    names, successes = score_names(dataset.manifest.fields), set(model.successes)
    values = [name for name in model.predicted if name not in successes]
    found = [f"{one}({names[name]})" for name in model.successes for one in CHOSEN]
    found += [f"{one}({names[name]})" for name in values for one in COMPARED_VALUES]
    return found + (list(CHOSEN) if successes else []) + (list(COMPARED_VALUES) if values else [])


def _validation(
    training: TrainingConfig, model: Model, fitting: Fitting
) -> tuple[Validate | None, Mapping[str, float] | None]:
    """The validation during training, and the values of popularity in it if the model ranks the catalogue."""
    metric = training.metric
    if not len(fitting.held_out):
        return None, None
    if metric.partition("(")[0] in (*METRICS, *VALUE_METRICS):  # NE(click): of a feedback field; NE: the mean of all
        known = _measured(model, fitting.dataset)
        if not known and (training.keep, training.patience) == ("last", None):
            return None, None
        if metric not in known:
            without = (
                "nothing, since no learned feedback is a number or has success: declare `positive` when the log is "
                "prepared, or set training.keep=last and training.patience=null"
            )
            raise ConfigError(f"training.metric is '{metric}'; validation measures {', '.join(known) or without}.")
        return lambda _: _with_mean(predict_validation(model, fitting).means), None
    if "next_item" not in model.tasks:
        raise ConfigError(f"training.metric is '{metric}'; a model of feedback has metrics such as NE(FIELD).")
    if not len(fitting.split.validation):
        return None, None
    ks = sorted({*KS, *_list_length(metric)})
    counted = Popularity(PopularityConfig(), fitting.dataset.num_items).fit_statistics(fitting.statistics)
    popularity = validate(counted, fitting, ks=ks).means
    if metric not in popularity:
        raise ConfigError(f"training.metric is '{metric}'; validation measures {', '.join(popularity)}.")
    return lambda _: validate(model, fitting, ks=ks).means, popularity


def _list_length(metric: str) -> list[int]:
    """[10] for "NDCG@10"; empty for a metric without a length."""
    length = metric.partition("@")[2]
    return [int(length)] if length.isdecimal() and int(length) > 0 else []
