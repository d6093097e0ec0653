"""Paired comparison of two results, or of two predictions of feedback: the same users, resampled together.

Each side may be several runs with different seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from facta.arguments import TEXT, arguments, instance
from facta.data.dataset.conditional import resolved
from facta.errors import ProtocolError
from facta.eval.bootstrap import Interval, bootstrap_means, interval
from facta.eval.feedback_metrics import RESAMPLED
from facta.eval.metrics import lower_is_better
from facta.eval.predictions import Predictions, differences
from facta.eval.result import Result, check_comparable
from facta.eval.seeds import RUNS, AveragedPredictions, average, runs_of
from facta.eval.value_metrics import COMPARED_VALUES

Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """The difference of two results, first minus second, in one metric."""

    metric: str
    difference: float  # of the means, first minus second
    interval: Interval  # 95 %, paired bootstrap over users
    better: int | None = None  # users with a higher value; None: the metric is not a mean over users
    worse: int | None = None
    seeds: float | None = None  # standard error of the difference over seeds, if a side has several

    @property
    def verdict(self) -> Verdict:
        """The verdict on the first result: decided if the interval excludes zero. A lower loss or error is better."""
        higher, lower = self.interval.low > 0, self.interval.high < 0
        if not higher and not lower:
            return "undecided"
        return "better" if lower == lower_is_better(self.metric) else "worse"

    def __str__(self) -> str:
        low, high = self.interval
        seeds = "" if self.seeds is None else f" over users, ±{self.seeds:.4f} over seeds"
        return f"{self.metric} {self.difference:+.4f} [{low:+.4f}, {high:+.4f}]{seeds}: {self.verdict}"


Judged = Result | Predictions | AveragedPredictions

_JUDGED = instance("what facta.evaluate or facta.predict returns", *get_args(Judged)) | RUNS


@arguments(a=_JUDGED, b=_JUDGED, metric=TEXT)
def compare(a: Judged | Sequence[Judged], b: Judged | Sequence[Judged], metric: str) -> Comparison:
    """Compare two results ("NDCG@10") or two predictions of feedback ("NE(click)"). Each may be a list of runs with
    several seeds, whose mean counts, as in `facta.average`.

    The interval is over users. With several seeds `seeds` is the standard error of the difference over them, which the
    interval does not include. Raises ProtocolError for numbers that are not comparable: results of different protocols,
    stages, datasets or users, and predictions of different events or fields.
    """
    a, b = (average(one) if isinstance(one, Sequence) else one for one in (a, b))  # type: ignore[arg-type]
    if isinstance(a, Result) != isinstance(b, Result):
        raise ProtocolError("Found a ranking and predictions of feedback; expected two of one kind.")
    if not (isinstance(a, Result) and isinstance(b, Result)):
        return _predicted(a, b, metric)  # type: ignore[arg-type]
    check_comparable(a, b)
    if metric not in a.values:
        raise ProtocolError(f"No metric '{metric}' in these results; they have {', '.join(a.values)}.")
    difference = a.values[metric] - b.values[metric]
    samples = bootstrap_means(difference[:, None])
    return Comparison(
        metric=metric,
        difference=float(difference.mean()),
        interval=interval(samples[:, 0]),
        better=int((difference > 0).sum()),
        worse=int((difference < 0).sum()),
        seeds=_of_seeds(a, b, metric),
    )


def _of_seeds(a: Result | AveragedPredictions, b: Result | AveragedPredictions, metric: str) -> float | None:
    """Standard error over seeds of the difference of two averages; a single run adds nothing to it."""
    shares = [one.seed_deviation[metric] ** 2 / one.runs for one in (a, b) if metric in one.seed_deviation]
    return float(np.sqrt(sum(shares))) if shares else None


def _predicted(a: Predictions | AveragedPredictions, b: Predictions | AveragedPredictions, metric: str) -> Comparison:
    ours, theirs = AveragedPredictions(runs_of(a)), AveragedPredictions(runs_of(b))
    first = ours.each[0]
    known = {f"{name}({field})": (name, field) for field in first.p for name in RESAMPLED}
    known |= {f"{name}({field})": (name, field) for field in first.expected for name in COMPARED_VALUES}
    metric = resolved(metric, [*known])
    if metric not in known:
        raise ProtocolError(f"No metric '{metric}' to compare predictions in; these have {', '.join(known)}.")
    name, field = known[metric]
    difference, bounds = differences(ours.each, theirs.each, field)[name]
    return Comparison(metric, difference, bounds, seeds=_of_seeds(ours, theirs, metric))
