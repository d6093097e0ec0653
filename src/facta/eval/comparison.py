"""Paired comparison of two results: the same users, resampled together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from facta.errors import ProtocolError
from facta.eval.bootstrap import Interval, bootstrap_means, interval
from facta.eval.result import Result, check_comparable

Verdict = Literal["higher", "lower", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """How far the first result lies above the second in one metric."""

    metric: str
    difference: float  # of the means, first minus second
    interval: Interval  # 95 %, paired bootstrap over users
    better: int  # users with a higher value
    worse: int

    @property
    def verdict(self) -> Verdict:
        """Of the first result: decided when the interval does not touch zero."""
        if self.interval.low > 0:
            return "higher"
        return "lower" if self.interval.high < 0 else "undecided"

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.metric} {self.difference:+.4f} [{low:+.4f}, {high:+.4f}]: {self.verdict}"


def compare(a: Result, b: Result, metric: str) -> Comparison:
    """`a` against `b`; refused with a ProtocolError unless protocol, stage, dataset and users are the same."""
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
    )
