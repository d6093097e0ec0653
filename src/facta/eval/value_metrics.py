"""Metrics of predicted values: numeric feedback without success, such as dwell.

Letters: S predictions.

    MAE        mean of |predicted - observed|
    NMAE       MAE / MAE of the median of the same observations, which is the best constant: 1 is no
               better than a constant (as NE compares with the base rate of the same events; lower is better)
    Spearman   correlation of ranks; equal values get their mean rank
    Predicted  mean prediction
    Observed   mean observation
    Bias       Predicted - Observed

Means over predictions are micro: a user counts once per prediction. Intervals resample users.
"""

from __future__ import annotations

import numpy as np

from facta.arrays import Floats, Ints
from facta.eval.bootstrap import SAMPLES, SEED, resamples

VALUE_METRICS = ("NMAE", "MAE", "Spearman", "Predicted", "Observed", "Bias")
COMPARED_VALUES = VALUE_METRICS[:3]  # the metrics with a better direction


def value_metrics(p: Floats, y: Floats) -> dict[str, float]:
    """All metrics of [S] predictions and observations; NaN without any, or if a metric is undefined for constants."""
    if not len(p):
        return dict.fromkeys(VALUE_METRICS, float("nan"))
    found = _Weighted(p, y).metrics(np.ones(len(p)))
    return dict(zip(VALUE_METRICS, found, strict=True))


def resampled_values(
    p: Floats, y: Floats, user: Ints, *, samples: int = SAMPLES, seed: int = SEED
) -> dict[str, Floats]:
    """All metrics of `samples` draws of users with replacement, [samples] each; `user` holds places 0 … U-1.

    Draws depend on (seed, U) alone, so that differences of two models are paired. The constant of NMAE is the median of
    the draw. NaN for a single user.
    """
    users = int(user.max(initial=-1)) + 1
    if users < 2:
        return {name: np.full(samples, np.nan) for name in VALUE_METRICS}
    weighted, found = _Weighted(p, y), np.empty((samples, len(VALUE_METRICS)))
    for sample, times in enumerate(resamples(users, samples, seed)):
        found[sample] = weighted.metrics(times[user].astype(np.float64))
    return dict(zip(VALUE_METRICS, found.T, strict=True))


class _Weighted:
    """Predictions with a weight per draw of users; sorted once for all draws."""

    def __init__(self, p: Floats, y: Floats) -> None:
        self.p, self.y, self.error = p, y, np.abs(p - y)
        self.order = np.argsort(y, kind="stable")
        self.groups = [np.unique(values, return_inverse=True)[1].reshape(-1) for values in (p, y)]

    def metrics(self, weight: Floats) -> tuple[float, ...]:
        """The metrics in the order of VALUE_METRICS."""
        total = weight.sum()
        if not total:
            return (float("nan"),) * len(VALUE_METRICS)
        mae = float(weight @ self.error / total)
        constant = self._constant_error(weight[self.order])
        predicted, observed = float(weight @ self.p / total), float(weight @ self.y / total)
        relative = mae / constant if constant else float("nan")
        return relative, mae, self._spearman(weight), predicted, observed, predicted - observed

    def _constant_error(self, weight: Floats) -> float:
        """MAE of the median; weights in the order of the observations."""
        y, sums = self.y[self.order], np.cumsum(weight)
        middle = y[np.searchsorted(sums, sums[-1] / 2)]
        return float(weight @ np.abs(y - middle) / sums[-1])

    def _spearman(self, weight: Floats) -> float:
        ours, theirs = (_mean_ranks(group, weight) for group in self.groups)
        total = weight.sum()
        ours, theirs = ours - weight @ ours / total, theirs - weight @ theirs / total
        spread = (weight @ ours**2) * (weight @ theirs**2)
        return float(weight @ (ours * theirs) / np.sqrt(spread)) if spread > 0 else float("nan")


def _mean_ranks(group: Ints, weight: Floats) -> Floats:
    """[S] ranks from 1, with each value counted `weight` times; equal values, of one group, get their mean rank."""
    each = np.bincount(group, weights=weight)
    ranks: Floats = (np.cumsum(each) - each + (each + 1) / 2)[group]
    return ranks
