"""Day by day: a model trained on everything before a day predicts it, and all days are pooled.

    days     a training from scratch for each day, on the events before it
    stream   a recipe with `training.hours`: one pass through the log, each period predicted before it is learned

No event of a day has an effect on the model that predicts it. If the recipe chooses its epochs by validation, they are
chosen once, on the day before the first one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from facta import durable
from facta.arguments import silent
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.times import Time, moment
from facta.data.split.buckets import of_training
from facta.data.split.splits import Split, check_trainable, temporal
from facta.errors import ArtifactError, ConfigError, ProtocolError, counted
from facta.eval.fitting import Fitting
from facta.eval.held_out import events_of_validation
from facta.eval.predict import predict_rows
from facta.eval.predictions import Predictions, pool
from facta.recipes.fit import train_model
from facta.recipes.recipe import RecipeConfig
from facta.training.log import Log

DAY_MS = 86_400_000  # milliseconds
SETTINGS = "by-day.json"


@dataclass(frozen=True)
class Days:
    """Consecutive days: the beginning of the first (ms), and their number."""

    first: int
    count: int

    @classmethod
    def of(cls, dataset: Dataset, count: int, since: Time | None) -> Days:
        """The days from a moment on, or the last days of the log (UTC). Raises ConfigError, ProtocolError."""
        if dataset.timestamp is None:
            raise ProtocolError("Days need timestamps; this dataset has only an order.")
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigError(f"Found {count!r} days; expected a whole number, at least 1.")
        start, end = int(dataset.timestamp.min()), int(dataset.timestamp.max())
        first = (end // DAY_MS - count + 1) * DAY_MS if since is None else moment(since)
        if not start < first <= end:
            raise ProtocolError(
                f"The first day would begin at {_text(first)}; the log goes from {_text(start)} to {_text(end)}, and "
                "the first day needs events before it: take fewer days, or another first one."
            )
        return cls(first, count)

    def bounds(self) -> list[tuple[int, int]]:
        return [(self.first + day * DAY_MS, self.first + (day + 1) * DAY_MS) for day in range(self.count)]

    @property
    def id(self) -> str:
        return f"first={_text(self.first)}/days={self.count}"


def by_day(
    recipe: RecipeConfig,
    dataset: Dataset,
    folder: Path,
    days: Days,
    *,
    overwrite: bool = False,
    device: str = "cpu",
    log: Log | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Predictions of each day by the recipe's models, pooled; `part` of each prediction is its day.

    `folder` stores the predictions of each day; the same call resumes there, also within a training. The state
    (`protocol.state`) is that of the recipe; frozen: at the first moment of each day. Raises ConfigError if the recipe
    learns no feedback, ArtifactError if `folder` holds something else, ProtocolError if no day has an event.
    """
    if recipe.training is None or "feedback" not in recipe.model.tasks:
        raise ConfigError(
            f"The recipe '{recipe.name}' predicts no feedback, and days measure predicted feedback: take one that "
            "does, such as own-log/gr-ranking."
        )
    if recipe.calibration is not None:
        raise ConfigError("Day by day, scores are measured without calibration: set calibration=null.")
    _claim(folder, recipe, dataset, days, overwrite=overwrite)
    say = log or Log()
    run = _stream if recipe.training.hours is not None else _each_day
    parts = run(recipe, dataset, folder, days, device, say, progress or silent)
    if not parts:
        raise ProtocolError(f"None of {counted(days.count, 'day')} from {_text(days.first)} has an event to predict.")
    return pool(parts, _protocol(recipe, days))


def _protocol(recipe: RecipeConfig, days: Days) -> str:
    assert recipe.training is not None
    hours = recipe.training.hours
    how, state = ("by-day", recipe.protocol.state) if hours is None else (f"stream/hours={hours:g}", "rolling")
    return f"feedback/{how}/{days.id}/order=user,time,row/users=all/ties=in-order/state={state}"


def _each_day(
    recipe: RecipeConfig,
    dataset: Dataset,
    folder: Path,
    days: Days,
    device: str,
    log: Log,
    progress: Callable[[int, int], None],
) -> list[Predictions]:
    epochs, parts = None, []
    for number, (begin, end) in enumerate(days.bounds()):
        place = folder / f"{_text(begin).replace(':', '')}.json"
        kept = _kept(place)
        if kept is None:
            asked = temporal(dataset, validation_from=begin, test_from=end, state="rolling")
            if (asked.validation_end > asked.train_end).any():
                epochs = epochs or _epochs(recipe, dataset, folder, days, device, log)
                kept = _one_day(recipe, dataset, place, (begin, asked), epochs, device, log)
        if kept is not None:
            parts.append(kept)
            log.say(f"Day {number + 1} of {days.count}, from {_text(begin)}: {counted(len(kept.user), 'event')}.")
        progress(number + 1, days.count)
    return parts


def _one_day(
    recipe: RecipeConfig,
    dataset: Dataset,
    place: Path,
    day: tuple[int, Split],
    epochs: int,
    device: str,
    log: Log,
) -> Predictions:
    """Predictions of a model trained on everything before the day, with the epochs chosen before all days."""
    begin, asked = day
    assert recipe.training is not None
    settled = recipe.change(training=recipe.training.change(keep="last", patience=None))
    split = temporal(dataset, test_from=begin, state="rolling")
    check_trainable(dataset, split, events=recipe.model.min_training_events)
    fitting = Fitting.of(dataset, recipe.protocol, split)
    model, _ = train_model(settled, fitting, place.with_suffix(".run"), log, device, stop_after=epochs)
    rows = events_of_validation(fitting.dataset, asked, recipe.protocol.state).rows(fitting.dataset, model.window)
    found = predict_rows(model, fitting.dataset, rows, f"feedback/day={_text(begin)}", "test")
    found.save(place)
    shutil.rmtree(place.with_suffix(".run") / "checkpoints", ignore_errors=True)
    return found


def _epochs(recipe: RecipeConfig, dataset: Dataset, folder: Path, days: Days, device: str, log: Log) -> int:
    """The number of epochs of the recipe, or as chosen by validation on the day before the first one."""
    training = recipe.training
    assert training is not None
    if training.keep == "last":
        return training.epochs
    place = folder / "epochs.json"
    if place.exists():
        return int(json.loads(place.read_text(encoding="utf-8"))["epochs"])
    split = temporal(dataset, validation_from=days.first - DAY_MS, test_from=days.first, state="rolling")
    check_trainable(dataset, split, events=recipe.model.min_training_events)
    log.say(f"Choosing the number of epochs on the day before {_text(days.first)}.")
    _, result = train_model(recipe, Fitting.of(dataset, recipe.protocol, split), folder / "epochs.run", log, device)
    epochs = result.best_epoch or result.epochs
    durable.file(place, json.dumps({"epochs": epochs}).encode())
    shutil.rmtree(folder / "epochs.run" / "checkpoints", ignore_errors=True)
    return epochs


def _stream(
    recipe: RecipeConfig,
    dataset: Dataset,
    folder: Path,
    days: Days,
    device: str,
    log: Log,
    progress: Callable[[int, int], None],
) -> list[Predictions]:
    """The periods of one pass within the days. Predictions of a period are stored before it is learned, so that a
    killed pass can resume.
    """
    end = days.first + days.count * DAY_MS
    split = temporal(dataset, test_from=end, state="rolling")
    check_trainable(dataset, split, events=recipe.model.min_training_events)
    read = of_training(dataset, temporal(dataset, test_from=days.first, state="rolling"))
    keep = partial(_keep_period, folder, days)
    done = folder / "stream.json"
    if not done.exists():
        fitting = Fitting(read, recipe.protocol.before_refit, split)
        train_model(recipe, fitting, folder / "stream.run", log, device, predicted=keep)
        durable.file(done, b"{}")
    places = sorted(folder.glob("period-*.json"))
    progress(len(places), len(places))
    return [Predictions.load(place) for place in places]


def _keep_period(folder: Path, days: Days, period: int, found: Predictions) -> None:
    assert found.time is not None
    inside = (found.time >= days.first) & (found.time < days.first + days.count * DAY_MS)
    if inside.any():
        found.only(inside).save(folder / f"period-{period:06d}.json")


def _kept(place: Path) -> Predictions | None:
    return Predictions.load(place) if place.exists() else None


def _claim(folder: Path, recipe: RecipeConfig, dataset: Dataset, days: Days, *, overwrite: bool) -> None:
    """Claim the folder for this recipe, dataset and days. Raises ArtifactError if it is of others."""
    wanted = {"recipe": recipe.model_dump(mode="json"), "dataset": dataset.content_hash, "days": days.id}
    place = folder / SETTINGS
    if folder.exists() and any(folder.iterdir()):
        found = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else None
        if found == json.loads(json.dumps(wanted)):
            return
        if found is None or not overwrite:
            what = "no days of this command" if found is None else "the days of another recipe, dataset or period"
            hint = "" if found is None else ", or replace it with overwrite=True"
            raise ArtifactError(f"'{folder}' holds {what}; choose another folder (--out){hint}.")
        shutil.rmtree(folder)
    with durable.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    durable.file(place, json.dumps(wanted).encode())


def _text(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
