"""Nothing is chosen on the test: not the settings of baselines, not an epoch; and losses are better when lower."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import facta
from facta.data.split.splits import Split, TestRequests, ValidationRequests, leave_one_out, leave_one_out_test
from facta.data.split.statistics import Statistics
from facta.eval import evaluation, predict
from facta.eval.experiment import Experiment
from facta.eval.fitting import Fitting
from facta.eval.tuning import choose
from facta.models.baselines import DecayedPopularity
from facta.recipes import fit, measure, sizing
from facta.recipes import prior as priors
from facta.training.journal import read
from facta.training.log import Log
from facta.training.progress import Progress
from facta.training.tune import Trial, best
from tests import worlds
from tests.rankers import Fixed, dataset_of
from tests.toy_training import toy_config, toy_trainer

QUIET = Log("quiet")
OLD, NEW = 50, 60


def reached(value: object, found: dict[int, object], steps: int = 5) -> dict[int, object]:
    """What attributes and elements lead to in so many steps, computed attributes included; by identity."""
    if id(value) in found or isinstance(value, torch.Tensor | np.ndarray | np.generic | pl.DataFrame | type):
        return found
    found[id(value)] = value
    parts: list[object] = []
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, list | tuple | set):
        parts = list(value)
    elif type(value).__module__.startswith("facta"):
        names = [one for one in dir(value) if not one.startswith(("__", "model_"))]
        parts = [getattr(value, one, None) for one in names if not callable(getattr(type(value), one, None))]
    for part in parts if steps else ():
        reached(part, found, steps - 1)
    return found


@pytest.mark.parametrize(
    "protocol",
    [
        facta.ProtocolConfig(),
        facta.ProtocolConfig(refit="yes", rank="trained"),
        facta.ProtocolConfig(split="temporal", train_end="60%", validation_end="80%", state="frozen"),
    ],
    ids=["leave one out", "refit", "temporal"],
)
def test_no_test_request_can_be_reached_from_what_fitting_is_given(
    tmp_path: Path, protocol: facta.ProtocolConfig
) -> None:
    experiment = Experiment(facta.prepare(worlds.checkerboard(users=20), tmp_path / "d"), protocol)
    assert isinstance(experiment.test, TestRequests) and not isinstance(experiment.test, ValidationRequests)
    for fitting in (experiment.fitting, experiment.fitting.sample(3)):
        there = list(reached(fitting, {}).values())
        assert any(type(one) is ValidationRequests for one in there)  # else nothing was looked at
        assert any(isinstance(one, Statistics) for one in there)
        assert not [one for one in there if isinstance(one, TestRequests | Experiment)]


def test_requests_of_the_test_cannot_be_put_in_the_place_of_validation(tmp_path: Path) -> None:
    experiment = Experiment(facta.prepare(worlds.checkerboard(users=20), tmp_path / "d"), facta.ProtocolConfig())
    split = experiment.split
    with pytest.raises(AssertionError, match="only validation requests"):
        Split(split.train_end, split.validation_end, experiment.test)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "function",
    [
        *(fit.fit, fit.refit, fit.train_model, fit._counted, fit._chosen, fit._validation, fit._prior, fit._batches),
        *(priors.settle, sizing.sized, choose, evaluation.validate, predict.predict_validation),
        *(measure._calibrated, measure._contents),
    ],
)
def test_what_fits_or_chooses_is_given_a_fitting_and_no_stage(function: object) -> None:
    parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
    assert parameters["fitting"].annotation == "Fitting"
    for name, parameter in parameters.items():
        assert name not in ("stage", "requests", "test", "experiment"), name
        known = {"Stage", "Requests", "TestRequests", "Experiment", "ProtocolConfig", "Split"}
        assert not known & set(str(parameter.annotation).split(" | ")), name


def turncoats(users: int = 40) -> dict[str, list[tuple[int, int]]]:
    """Everybody's validation event is OLD, which was met a lot long ago; the test event is NEW, met a little lately."""
    rng = np.random.default_rng(0)
    histories = {}
    for user in range(users):
        early = [(OLD, place) for place in range(3)]
        between = [(int(item), 144_000 + place) for place, item in enumerate(rng.permutation(20)[:3])]
        late = [(NEW, 288_000)] if user % 2 else [(3, 288_000)]
        histories[f"u{user:02d}"] = [*early, *between, *late, (OLD, 288_100), (NEW, 288_200)]
    return histories


def test_the_candidate_that_is_best_on_validation_is_chosen(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", turncoats())
    of_validation, of_test = Fixed(data, {OLD: 1.0}), Fixed(data, {NEW: 1.0})
    protocol = facta.ProtocolConfig(mask="nothing")
    for candidates in ([of_validation, of_test], [of_test, of_validation]):
        choice = choose(candidates, Fitting(data, protocol, protocol.cut(data)))
        assert choice.best is of_validation and sorted(choice.values) == [0.0, 1.0]


def test_a_baseline_s_settings_are_those_that_are_best_on_validation(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", turncoats())
    changes = ["protocol.mask=nothing"]
    reached = {}
    for days in DecayedPopularity.HALF_LIVES:
        told = [*changes, "choose=false", f"model.half_life_days={days}"]
        one = facta.train(data, "debug/decayed-popularity", tmp_path / str(days), told, log=QUIET)
        reached[days] = [facta.evaluate(one, data, stage=stage).means["NDCG@10"] for stage in ("validation", "test")]  # type: ignore[arg-type]
    validation, test = ({days: values[stage] for days, values in reached.items()} for stage in (0, 1))
    chosen = facta.train(data, "debug/decayed-popularity", tmp_path / "chosen", changes, log=QUIET)
    days = chosen.model.config.half_life_days  # type: ignore[union-attr]
    assert validation[days] == max(validation.values())
    assert test[days] < max(test.values())  # else this world tells nothing


@pytest.mark.parametrize("recipe", ["decayed-popularity", "item-knn", "hstu"])
def test_other_test_events_choose_and_teach_nothing(tmp_path: Path, recipe: str) -> None:
    """Whatever stands in the events of the test, the model is the same, bit by bit."""
    histories = turncoats(24)
    models = []
    for name, item in (("new", NEW), ("old", OLD)):
        told = {user: [*events[:-1], (item, events[-1][1])] for user, events in histories.items()}
        data = dataset_of(tmp_path / name, told)
        short = ["training.epochs=5", "training.patience=2"] if recipe == "hstu" else []
        changes = [*short, "protocol.mask=nothing"]
        models.append(facta.train(data, f"debug/{recipe}", tmp_path / f"{name}-a", changes, log=QUIET).model)
    ours, theirs = (model.state_dict() for model in models)
    assert models[0].config == models[1].config and list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_kept_epoch_is_the_best_one_on_validation_events_of_feedback(tmp_path: Path) -> None:
    """What the journal of a run calls validation is what the artifact reaches on the validation stage."""
    rng = np.random.default_rng(2)
    count = 1500
    log = pl.DataFrame(
        {
            "user_id": np.arange(count) % 50,
            "item_id": rng.integers(0, 15, count),
            "timestamp": 1_700_000_000_000 + np.arange(count) * 60_000,
            "like": rng.random(count) < 0.3,
        }
    )
    data = facta.prepare(log, tmp_path / "d", fields={"like": {}})
    changes = ["training.epochs=4", "training.learning_rate=0.03", "training.metric=NE(like)", "model.width=8"]
    trained = facta.train(data, "own-log/gr-ranking", tmp_path / "a", changes, log=QUIET)
    lines = read(facta.run_folder(tmp_path / "a"), "validation")
    validation = next(one for one in trained.metrics if one["stage"] == "validation")
    assert min(line["NE(like)"] for line in lines) < lines[-1]["NE(like)"]  # else the last epoch is the best anyway
    assert validation["metrics"]["NE(like)"]["mean"] == pytest.approx(min(line["NE(like)"] for line in lines), abs=1e-6)


METRICS = {"NE(click)": -1, "NE": -1, "LogLoss(click)": -1, "LogLoss": -1, "ECE(click)": -1}
METRICS |= dict.fromkeys(("AUC(click)", "GAUC", "NDCG@10", "HR@1", "MRR"), 1)


@pytest.mark.parametrize("metric", METRICS)
def test_a_loss_is_better_when_it_is_lower(metric: str) -> None:
    """Early stopping keeps the second of three epochs, and a search the second of three trials."""
    values = [0.5 + METRICS[metric] * gain for gain in (0.0, 0.2, 0.1)]
    progress = Progress()
    kept = []
    for step, value in enumerate(values, 1):
        progress.step = progress.epoch = step
        kept.append(progress.validated({metric: value}, metric))
    assert kept == [True, True, False]
    assert (progress.best_step, progress.since_best) == (2, 1)
    assert best([Trial(number, {}, value, 0.0) for number, value in enumerate(values)], metric).trial == 1


def test_equal_values_keep_the_first_epoch() -> None:
    progress = Progress(step=1, epoch=1)
    assert progress.validated({"NE": 0.5}, "NE")
    progress.step = progress.epoch = 2
    assert not progress.validated({"NE": 0.5}, "NE") and progress.best_step == 1


def test_patience_waits_for_a_lower_loss(tmp_path: Path) -> None:
    """In training itself: validation NE falls, then rises twice; the run ends there and keeps the lowest."""
    values = {1: 0.9, 2: 0.8, 3: 0.7, 4: 0.75, 5: 0.8, 6: 0.1}
    config = toy_config(epochs=6, metric="NE", patience=2)
    result = toy_trainer(tmp_path, config, validate=lambda done: {"NE": values[done]}).fit()
    assert (result.epochs, result.best_epoch, result.stopped) == (5, 3, "patience")
    assert result.metrics == {"NE": 0.7}


def test_leave_one_out_has_its_own_validation(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", turncoats(6))
    ids = data.items["item_id"].to_list()
    assert {ids[row] for row in leave_one_out(data).validation.item} == {OLD}
    assert {ids[row] for row in leave_one_out_test(data).item} == {NEW}
