"""Progress of a training; with weights and optimiser state it is all that a run needs to resume exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from facta.eval.metrics import lower_is_better
from facta.training.step import Step, Sums, add


@dataclass
class Progress:
    """Saved in every checkpoint. `position` and the sums are of the current epoch; JSON keeps floats bit by bit."""

    epoch: int = 0
    position: int = 0  # batches of the epoch that are done
    step: int = 0  # optimiser steps since the start
    sums: Sums = field(default_factory=dict)  # losses of the epoch so far
    kept: int = 0  # input events of the epoch so far
    dropped: int = 0  # events that Stochastic Length left out
    events: int = 0  # input events since the start
    seconds: float = 0.0  # seconds in steps since the start
    last_loss: float | None = None
    epoch_losses: list[float] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)  # step, epoch and metrics of each
    best_step: int | None = None
    since_best: int = 0  # validations
    stopped: str | None = None  # "epochs" or "patience"
    journal_bytes: int = 0  # of metrics.jsonl

    def count(self, step: Step, batches: int, seconds: float) -> None:
        self.position += batches
        self.step += 1
        self.sums = add(self.sums, step.sums)
        self.kept, self.dropped = self.kept + step.events, self.dropped + step.dropped
        self.events += step.events
        self.seconds += seconds
        self.last_loss = step.loss

    def end_epoch(self, loss: float | None) -> None:
        """The mean loss of the epoch; None for a period without events."""
        if loss is not None:
            self.epoch_losses.append(loss)
        self.epoch, self.position, self.sums, self.kept, self.dropped = self.epoch + 1, 0, {}, 0, 0

    def validated(self, metrics: Mapping[str, float], metric: str, keep: str = "best") -> bool:
        """Record a validation; returns whether these weights are the best so far."""
        best = self.best
        sign = -1 if lower_is_better(metric) else 1
        better = best is None or keep == "last" or sign * metrics[metric] > sign * best[metric]
        self.validations.append({"step": self.step, "epoch": self.epoch, **metrics})
        self.since_best = 0 if better else self.since_best + 1
        self.best_step = self.step if better else self.best_step
        return better

    @property
    def best(self) -> dict[str, Any] | None:
        """The validation of the kept weights."""
        return next((found for found in self.validations if found["step"] == self.best_step), None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Progress:
        values = {f.name: state[f.name] for f in fields(cls) if f.name in state}  # new fields get defaults
        sums = {name: (total, weight) for name, (total, weight) in values.pop("sums").items()}
        return cls(**values, sums=sums)


@dataclass(frozen=True)
class TrainingResult:
    """Summary of a finished run."""

    metrics: Mapping[str, float]  # of the kept weights on validation; empty without validation
    best_step: int | None
    best_epoch: int | None  # counted from 1
    steps: int
    epochs: int
    stopped: str  # "epochs": all were done; "patience": validation had stopped improving
    events: int
    seconds: float  # in training steps, without validation

    @classmethod
    def of(cls, progress: Progress) -> TrainingResult:
        best = dict(progress.best or {})
        return cls(
            best_step=best.pop("step", None),
            best_epoch=best.pop("epoch", None),
            metrics=best,
            steps=progress.step,
            epochs=progress.epoch,
            stopped=progress.stopped or "",
            events=progress.events,
            seconds=progress.seconds,
        )
