"""The trainer: epochs of steps, validation, early stopping, checkpoints. Start reading at `Trainer.fit`.

A run killed at any step and started again ends in the same bits: batches and random draws are functions of their place,
and checkpoints hold everything else (`Progress`, weights and optimiser state).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from facta import draws
from facta.data.batches.negatives import draw
from facta.data.batches.stochastic_length import StochasticLengthConfig
from facta.data.batches.training import Examples
from facta.draws import Purpose
from facta.errors import ConfigError, TrainingError
from facta.training import alarm
from facta.training.folder import RunFolder
from facta.training.identity import Identity
from facta.training.log import Log
from facta.training.model import Batches, Model, Validate
from facta.training.optim import OptimiserConfig, adamw, learning_rate
from facta.training.prefetch import prefetched
from facta.training.process import Interrupts, deterministic_algorithms, retain_freed_memory
from facta.training.progress import Progress, TrainingResult
from facta.training.step import NonFinite, Step, mean, take_step
from facta.types import Negatives, SequenceBatch, to_device

Built = tuple[SequenceBatch, Negatives]


class TrainingConfig(OptimiserConfig):
    """How a model is trained. `batch_size` and `seed` are also used for the batches that the trainer gets."""

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(128, ge=1)  # rows in a batch, on average
    examples: Examples = "user"  # impression: one row per impression, for models of feedback
    stochastic_length: StochasticLengthConfig | None = None  # None: histories are not shortened
    hours: float | None = Field(None, ge=1e-3)  # a stream, once through the log: an epoch is a period of so many hours
    keep: Literal["best", "last"] = "best"  # keep the weights of the best validation, or the last ones
    accumulate: int = Field(1, ge=1)  # batches per optimiser step
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    metric: str = "NDCG@10"  # chooses the weights to keep
    validate_every: int = Field(1, ge=1)  # epochs; the last one is always validated
    patience: int | None = Field(None, ge=1)  # validations without improvement before training stops
    alarm_after: int | None = Field(5, ge=1)  # validations after which the model should beat popularity
    checkpoint_every: int = Field(1000, ge=1)  # optimiser steps; also after each validation
    deterministic: bool = True  # False: sums in any order, faster on some devices; runs then differ in their last bits
    tensorboard: bool = False

    @model_validator(mode="after")
    def _last_is_not_waited_for(self) -> Self:
        if self.keep == "last" and self.patience is not None:
            raise ConfigError(
                f"Found training.keep=last with training.patience={self.patience}; patience waits for weights better "
                "than the kept ones: set training.patience=null."
            )
        return self


class Trainer:
    """Trains a model in the folder `out`, or resumes an earlier run there.

    `counts` [V]: training events of each item, for negatives. `popularity`: metrics of popularity on the same
    validation, for the alarm. `before` is called with each epoch that begins or resumes. `stop_after` ends the run
    after so many epochs, with the learning rate of a run of `config.epochs`. `recipe` and `dataset_hash` identify the
    run: the folder of another run is refused.
    """

    def __init__(
        self,
        model: Model,
        batches: Batches,
        config: TrainingConfig,
        out: str | Path,
        *,
        counts: Tensor,
        before: Callable[[int], None] | None = None,
        validate: Validate | None = None,
        popularity: Mapping[str, float] | None = None,
        stop_after: int | None = None,
        recipe: Mapping[str, Any] | None = None,
        dataset_hash: str = "",
        log: Log | None = None,
    ) -> None:
        if validate is None and config.patience is not None:
            raise ConfigError(f"Found training.patience={config.patience} without validation events; set it to null.")
        self.model, self.batches, self.config, self.counts = model, batches, config, counts
        self.before, self.validate = before, validate
        self.popularity = None if popularity is None else popularity[config.metric]
        self.epochs = config.epochs if stop_after is None else stop_after
        self.log = log or Log()
        self._optimiser = adamw(model.parameter_groups(), config)
        self._device = self._optimiser.param_groups[0]["params"][0].device
        identity = Identity(recipe or config.model_dump(mode="json"), dataset_hash)
        self._folder = RunFolder(Path(out), identity, model, self._optimiser)

    def fit(self) -> TrainingResult:
        """Train to the end; the model then holds the best weights (the last ones without validation).

        Raises TrainingError if a loss or gradient is not finite; ArtifactError if `out` holds another run or no whole
        checkpoint; KeyboardInterrupt, after a checkpoint, if the run was interrupted.
        """
        parameters = (p for group in self._optimiser.param_groups for p in group["params"])
        with (
            retain_freed_memory(parameters),
            deterministic_algorithms(self.config.deterministic),
            Interrupts() as interrupts,
        ):
            self._progress, self._journal = self._folder.open(self.log, tensorboard=self.config.tensorboard)
            self.log.begin(self.epochs)
            try:
                while self._progress.stopped is None:
                    self._epoch(self._progress, interrupts)
                return self._end(self._progress)
            finally:
                self.log.end()
                self._journal.close()

    def _epoch(self, progress: Progress, interrupts: Interrupts) -> None:
        """The rest of the current epoch."""
        epoch, steps = progress.epoch, self.batches.steps(progress.epoch)
        if steps == 0 and epoch == 0:
            raise TrainingError("There is nothing to learn from: no user has two training events. Check the split.")
        if steps == 0:  # a period of a stream without events
            self._end_epoch(progress)
            self._stop_if_interrupted(progress, interrupts)
            return
        if self.before is not None:
            self.before(epoch)
        self.model.train(True)
        with closing(prefetched(partial(self._build, epoch), range(progress.position, steps))) as built:
            while progress.epoch == epoch:
                self._step(progress, built, steps)
                due = progress.step % self.config.checkpoint_every == 0
                if progress.position == steps:
                    due = self._end_epoch(progress) or due
                if due or interrupts.received is not None:
                    self._folder.save(progress, self._journal)
                self._stop_if_interrupted(progress, interrupts)

    def _stop_if_interrupted(self, progress: Progress, interrupts: Interrupts) -> None:
        if interrupts.received is not None:
            self.log.say(f"Interrupted after step {progress.step}; the same command goes on from there.")
            interrupts.raise_received()

    def _build(self, epoch: int, place: int) -> Built:
        batch = self.batches.batch(epoch, place)
        negatives = Negatives()
        if self.model.negatives is not None:
            key = draws.mix_int(self.config.seed, epoch, Purpose.NEGATIVES, place)
            negatives = draw(self.model.negatives, batch, self.counts, key)
        return to_device(batch, self._device), to_device(negatives, self._device)

    def _step(self, progress: Progress, built: Iterator[Built], steps: int) -> None:
        config = self.config
        count = min(config.accumulate, steps - progress.position)
        done_before = (progress.epoch + progress.position / steps) / config.epochs
        rate = learning_rate(config, progress.step, done_before)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        began = time.perf_counter()
        try:
            step = take_step(self.model, self._optimiser, islice(built, count), count, clip_norm=config.clip_norm)
        except NonFinite as error:
            raise self._non_finite(progress, error, count) from None
        seconds = time.perf_counter() - began
        progress.count(step, count, seconds)
        self._record(progress, step, rate, seconds)
        done = (progress.epoch + progress.position / steps) / self.epochs
        self.log.step(progress.epoch + 1, done, step.loss, step.events / seconds)

    def _record(self, progress: Progress, step: Step, rate: float, seconds: float) -> None:
        parts = {f"loss/{name}": total / max(weight, 1e-12) for name, (total, weight) in step.sums.items()}
        self._journal.write(
            "step",
            progress.step,
            progress.epoch + 1,
            loss=step.loss,
            **(parts if len(parts) > 1 else {}),
            learning_rate=rate,
            gradient_norm=step.gradient_norm,
            events=step.events,
            events_per_second=step.events / seconds,
        )

    def _end_epoch(self, progress: Progress) -> bool:
        """End the epoch; returns whether a checkpoint is due."""
        config, loss = self.config, mean(progress.sums) if progress.sums else None
        shortened = {}
        if config.stochastic_length is not None:
            shortened = {"dropped": progress.dropped / max(progress.kept + progress.dropped, 1)}
            self.log.shortened(progress.epoch + 1, shortened["dropped"])
        progress.end_epoch(loss)
        learned = {} if loss is None else {"loss": loss}
        self._journal.write("epoch", progress.step, progress.epoch, **learned, **shortened, seconds=progress.seconds)
        last = progress.epoch == self.epochs
        due = last or progress.epoch % config.validate_every == 0
        if self.validate is not None and due:
            self._validate(progress, self.validate)
        if last and progress.stopped is None:
            progress.stopped = "epochs"
        return due or progress.stopped is not None

    def _validate(self, progress: Progress, validate: Validate) -> None:
        config, began = self.config, time.perf_counter()
        self.model.train(False)
        with torch.no_grad():
            metrics = {name: float(value) for name, value in validate(progress.epoch).items()}
        self.model.train(True)
        if not metrics:
            return
        if config.metric not in metrics:
            raise ConfigError(f"training.metric is '{config.metric}'; validation measures {', '.join(metrics)}.")
        if math.isnan(metrics[config.metric]) and config.keep == "best":
            raise ConfigError(
                f"Validation has no {config.metric}, since all its events have the same outcome. Set training.metric "
                "to another one, such as LogLoss(FIELD), or training.keep=last and training.patience=null."
            )
        better = progress.validated(metrics, config.metric, config.keep)
        if better:
            self._folder.save_best(progress.step, progress.validations[-1])
        if config.patience is not None and progress.since_best >= config.patience:
            progress.stopped = "patience"
        seconds = time.perf_counter() - began
        self._journal.write("validation", progress.step, progress.epoch, **metrics, best=better, seconds=seconds)
        best = better and config.keep == "best"
        self.log.validation(progress.epoch, config.metric, metrics[config.metric], best, self.popularity)
        self._sound_alarm(progress)

    def _sound_alarm(self, progress: Progress) -> None:
        after, metric = self.config.alarm_after, self.config.metric
        values = [found[metric] for found in progress.validations]
        if self.popularity is None or after is None or not alarm.is_behind(values, self.popularity, after):
            return
        batch, negatives = self._build(0, 0)
        rate, num_items = self.config.learning_rate, self.counts.numel()
        evidence = alarm.Evidence(progress.epoch_losses, rate, batch, negatives, num_items)
        self.log.alarm(metric, max(values), self.popularity, after, alarm.advice(evidence))

    def _end(self, progress: Progress) -> TrainingResult:
        if progress.best_step is not None:
            self._folder.restore_best(progress.best_step)
        self.model.train(False)
        result = TrainingResult.of(progress)
        self._journal.write(
            "end",
            progress.step,
            progress.epoch,
            stopped=result.stopped,
            best_step=result.best_step,
            **result.metrics,
            events=result.events,
            seconds=result.seconds,
        )
        self.log.done(result, self.config.metric, self.popularity)
        return result

    def _non_finite(self, progress: Progress, error: NonFinite, count: int) -> TrainingError:
        """The error with the batch; weights are those before the step."""
        first = progress.position + (error.place or 0)
        last = first if error.place is not None else progress.position + count - 1
        reason = f"{error.what} {error.value}"
        self._journal.write("stopped", progress.step, progress.epoch + 1, reason=reason, first=first, last=last)
        batch = f"batch {first}" if first == last else f"batches {first} to {last}"
        return TrainingError(
            f"The {error.what} became {error.value} in {batch} of epoch {progress.epoch + 1}, after {progress.step} "
            f"steps; the last finite loss was {progress.last_loss}. "
            "This step was not taken; lower training.learning_rate, or set training.clip_norm."
        )
