"""The same recipe trained with several seeds: means, intervals over users, and deviations over seeds.

A number varies with the users and with the seed. An interval over users does not cover seeds, nor a deviation over
seeds users, so both are reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np

from facta.arguments import Kind, arguments
from facta.errors import ProtocolError
from facta.eval import result
from facta.eval.bootstrap import Interval, interval, plain
from facta.eval.predictions import Predictions, check_same_events, draws
from facta.eval.result import Result

RUNS = Kind(
    "a list of what facta.evaluate or facta.predict returns, one for each seed",
    lambda given: isinstance(given, Sequence) and bool(given)
    and all(isinstance(one, (Result, Predictions, AveragedPredictions)) for one in given),
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class AveragedPredictions:
    """Means over several runs of each metric of predicted feedback: the expected value of one model.

    These are not the metrics of the mean prediction: an ensemble (`facta.eval.predictions.average_predictions`) is
    better than its members.
    """

    each: tuple[Predictions, ...]  # of the same events

    @property
    def protocol(self) -> str:
        return self.each[0].protocol

    @property
    def stage(self) -> str:
        return self.each[0].stage

    @property
    def dataset(self) -> str:
        return self.each[0].dataset

    @property
    def runs(self) -> int:
        return len(self.each)

    @cached_property
    def means(self) -> dict[str, float]:
        """Metric -> mean over the runs."""
        return {name: float(np.mean([run.means[name] for run in self.each])) for name in self.each[0].means}

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Metric -> 95 % interval over users, resampled together for all runs; it does not cover seeds."""
        first = self.each[0]
        found: dict[str, Interval] = {}
        for field in (*first.p, *first.expected):
            samples = [draws(run, field) for run in self.each]
            found |= {
                f"{name}({field})": interval(np.mean([one[name] for one in samples], axis=0)) for name in samples[0]
            }
        return found

    @cached_property
    def seed_deviation(self) -> dict[str, float]:
        """Metric -> standard deviation over the runs (n - 1); empty for a single run."""
        if self.runs < 2:
            return {}
        return {name: float(np.std([run.means[name] for run in self.each], ddof=1)) for name in self.means}

    def summary(self) -> dict[str, Any]:
        """As `Predictions.summary`, with the mean of each run beside."""
        none = Interval(float("nan"), float("nan"))
        bounds = {name: self.intervals.get(name, none) for name in self.means}
        metrics = {
            name: {"mean": plain(mean), "low": plain(bounds[name].low), "high": plain(bounds[name].high)}
            for name, mean in self.means.items()
        }
        seeds = {name: [plain(run.means[name]) for run in self.each] for name in self.means}
        own = {"runs": self.runs, "metrics": metrics, "intervals_over": "users", "seed_means": seeds}
        return {**self.each[0].summary(), **own}

    def __repr__(self) -> str:
        return f"AveragedPredictions({self.protocol}, {self.stage}, {self.runs} runs: {_said(self)})"


def _said(mean: AveragedPredictions) -> str:
    shown = [name for name in mean.means if name.startswith(("NE(", "GAUC(", "NMAE("))]
    spread = {name: f" ± {mean.seed_deviation[name]:.4f} over seeds" for name in shown if name in mean.seed_deviation}
    return ", ".join(f"{name} {mean.means[name]:.4f}{spread.get(name, '')}" for name in shown)


@overload
def average(results: Sequence[Result]) -> Result: ...


@overload
def average(results: Sequence[Predictions]) -> AveragedPredictions: ...


@arguments(results=RUNS)
def average(results: Sequence[Any]) -> Result | AveragedPredictions:
    """The mean of several runs of one recipe, such as of `facta.train_seeds`: `means`, `intervals` (95 %, over users)
    and `seed_deviation` (of a single run over the seeds; for the mean of n, divide by √n).

    For results of `evaluate` it is a result, user by user; for predictions it has the mean of each metric. Raises
    ProtocolError if the runs have different protocols, stages, datasets, users or events.
    """
    ranked = [isinstance(one, Result) for one in results]
    if all(ranked):
        return result.average(results)
    if any(ranked):
        raise ProtocolError("Found rankings and predictions of feedback; average runs of one kind.")
    each = [run for one in results for run in runs_of(one)]
    for other in each[1:]:
        check_same_events(each[0], other)
    return AveragedPredictions(tuple(each))


def runs_of(predictions: Predictions | AveragedPredictions) -> tuple[Predictions, ...]:
    """The runs of an average; an ensemble counts as one run."""
    return predictions.each if isinstance(predictions, AveragedPredictions) else (predictions,)


def over_seeds(summaries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Metric -> mean and standard deviation (n - 1; None for one seed) of the means in summaries of one protocol."""
    found: dict[str, dict[str, float | None]] = {}
    for name in summaries[0]["metrics"]:
        means = [one["metrics"][name]["mean"] for one in summaries]
        if any(mean is None for mean in means):
            found[name] = {"mean": None, "deviation": None}
            continue
        spread = float(np.std(means, ddof=1)) if len(means) > 1 else None
        found[name] = {"mean": float(np.mean(means)), "deviation": spread}
    return found
