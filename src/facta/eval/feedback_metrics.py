"""Metrics of predicted probabilities of feedback with binary labels.

Letters: S predictions, q the share of positives among them.

    LogLoss   mean of -y ln p - (1 - y) ln(1 - p), natural logarithm
    NE        LogLoss / LogLoss of the constant q on the same predictions: 1 is no better than the base rate
              (He et al. 2014; lower is better)
    AUC       probability that a positive ranks above a negative; equal predictions count half
    GAUC      mean AUC of the users with both labels, weighted by their predictions; with parts, such as
              days with a model each, of a user's predictions in one part
    Calibration  mean prediction / share of positives: 1 is right, above 1 predictions are too high (He et al.)
    ECE       Σ over bins of |mean prediction - share of positives| · share of predictions, bins of equal count

Means over predictions are micro: a user counts once per prediction. Intervals resample users.

With a rolling state GAUC is biased: after a success a model predicts more for the user, but fewer of the user's
successes are left, so that GAUC falls the better a model learns users' success rates. Compare rankers under a frozen
state (decision 009).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from facta.arrays import Bools, Floats, Ints
from facta.eval.bootstrap import SAMPLES, SEED, bootstrap_means, resamples

METRICS = ("NE", "LogLoss", "AUC", "GAUC", "ECE", "Calibration")
RESAMPLED = METRICS[:4]  # for comparisons; ECE is not a mean, and Calibration has no better direction
CHOSEN = METRICS[:5]  # for choosing epochs and settings
SHOWN = ("NE", "AUC", "GAUC", "Calibration", "ECE")  # in tables; NE is LogLoss relative to the base rate
EPS = 1e-7  # predictions are clipped to [EPS, 1 - EPS]
BINS = 20


def losses(p: Floats, y: Bools) -> Floats:
    """[S] log loss of each prediction."""
    p = np.clip(p.astype(np.float64), EPS, 1 - EPS)
    each: Floats = -np.log(np.where(y, p, 1 - p))
    return each


def entropy(q: float) -> float:
    """Log loss of the constant q where the share of positives is q."""
    return 0.0 if q in (0.0, 1.0) else float(-q * np.log(q) - (1 - q) * np.log(1 - q))


def auc(p: Floats, y: Bools) -> float:
    """Area under the ROC curve; NaN without positives or without negatives."""
    positives = int(y.sum())
    if positives in (0, len(y)):
        return float("nan")
    below = _mean_ranks(p)[y].sum() - positives * (positives + 1) / 2
    return float(below / (positives * (len(y) - positives)))


class UserAUC(NamedTuple):
    """Each user's AUC and its weight, without users that lack positives or negatives."""

    user: Ints  # the users with an AUC, ascending
    auc: Floats
    weight: Floats  # predictions of the user

    @property
    def mean(self) -> float:
        return float(np.average(self.auc, weights=self.weight)) if len(self.auc) else float("nan")


def user_auc(p: Floats, y: Bools, user: Ints) -> UserAUC:
    """AUC of each user: [S] predictions, labels and numbers of the users, or of other groups."""
    order = np.lexsort((p, user))
    p, y, user = p[order], y[order], user[order]
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    count = np.diff(np.append(starts, len(user)))
    group = np.repeat(np.arange(len(starts)), count)
    rank = _ranks_in_order(p, group) - np.repeat(starts, count)
    positives = np.bincount(group, weights=y, minlength=len(starts))
    both = (positives > 0) & (positives < count)
    below = np.bincount(group, weights=rank * y, minlength=len(starts)) - positives * (positives + 1) / 2
    value = below[both] / (positives * (count - positives))[both]
    return UserAUC(user[starts][both], value, count[both].astype(np.float64))


class Calibration(NamedTuple):
    """A reliability plot: predictions in bins of equal count, lowest first."""

    predicted: Floats  # mean prediction of each bin
    observed: Floats  # share of positives
    size: Ints

    @property
    def ece(self) -> float:
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.size)) if len(self.size) else 0.0


def calibration(p: Floats, y: Bools, bins: int = BINS) -> Calibration:
    """Bins of nearly equal counts; equal predictions may fall into two bins."""
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order)) or 1) if len(part)]
    return Calibration(
        np.array([p[part].mean() for part in parts]),
        np.array([y[part].mean() for part in parts]),
        np.array([len(part) for part in parts], dtype=np.int64),
    )


def groups(user: Ints, part: Ints | None) -> tuple[Ints, Ints]:
    """([S] group of each prediction for GAUC: a user's predictions in one part; [G] the user of each group)."""
    if part is None:
        return user, np.arange(user.max(initial=-1) + 1)
    pairs, group = np.unique(np.stack([user, part], axis=1), axis=0, return_inverse=True)
    return group.reshape(-1), pairs[:, 0]


def prediction_metrics(p: Floats, y: Bools, user: Ints, part: Ints | None = None) -> dict[str, float]:
    """All metrics; NE is NaN if all labels are equal, and all are NaN without predictions."""
    if not len(p):
        return dict.fromkeys(METRICS, float("nan"))
    loss, base = float(losses(p, y).mean()), entropy(float(y.mean()))
    return {
        "NE": loss / base if base else float("nan"),
        "LogLoss": loss,
        "AUC": auc(p, y),
        "GAUC": user_auc(p, y, groups(user, part)[0]).mean,
        "ECE": calibration(p, y).ece,
        "Calibration": float(p.mean() / y.mean()) if y.any() else float("nan"),
    }


def resampled(
    p: Floats, y: Bools, user: Ints, part: Ints | None = None, *, samples: int = SAMPLES, seed: int = SEED
) -> dict[str, Floats]:
    """NE, LogLoss, AUC, GAUC and Calibration of `samples` draws of users with replacement, [samples] each.

    `user` holds places 0 … U-1. Draws depend on (seed, U) alone, so two models on the same predictions get the same
    users, and differences are paired. NE's base rate is that of the draw.
    """
    users = int(user.max(initial=-1)) + 1
    if users < 2:  # a single user has no interval
        return {name: np.full(samples, np.nan) for name in (*RESAMPLED, "Calibration")}
    loss = np.bincount(user, weights=losses(p, y), minlength=users)
    count = np.bincount(user, minlength=users).astype(np.float64)
    positive = np.bincount(user, weights=y, minlength=users)
    group, person = groups(user, part)
    own = user_auc(p, y, group)
    weight = np.bincount(person[own.user], own.weight, minlength=users)
    area = np.bincount(person[own.user], own.weight * own.auc, minlength=users)
    predicted = np.bincount(user, weights=p, minlength=users)
    values, order, tied = np.stack([loss, count, positive, weight, area, predicted], axis=1), *_tied(p)
    sums, areas = np.empty((samples, 6)), np.empty(samples)
    for sample, times in enumerate(resamples(users, samples, seed)):
        sums[sample] = times @ values
        areas[sample] = _weighted_auc(times[user[order]].astype(np.float64), y[order], tied)
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw of one label, or of users without predictions
        own_area, mean, ratio = sums[:, 4] / sums[:, 3], sums[:, 0] / sums[:, 1], sums[:, 5] / sums[:, 2]
    return {"NE": _ne(sums), "LogLoss": mean, "AUC": areas, "GAUC": own_area, "Calibration": ratio}


def resampled_ne(p: Floats, y: Bools, user: Ints, samples: int = SAMPLES) -> Floats:
    """[samples] NE as in `resampled`, without the cost of the other metrics; `user` may be any numbers."""
    people = np.unique(user, return_inverse=True)[1]
    columns = (losses(p, y), np.ones(len(p)), y.astype(np.float64))
    return _ne(bootstrap_means(np.stack([np.bincount(people, weights=column) for column in columns], axis=1), samples))


def _ne(sums: Floats) -> Floats:
    """[S, 3 or more] loss, predictions and positives of draws -> [S]; NaN or infinite if all labels are equal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, q = sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 1]
        found: Floats = mean / (-q * np.log(q) - (1 - q) * np.log(1 - q))
    return found


def _tied(p: Floats) -> tuple[Ints, Ints]:
    """(ascending order [S], [S] the index of the distinct value at each place of the order)."""
    order = np.argsort(p, kind="stable")
    return order, np.cumsum(np.diff(p[order], prepend=p[order[:1]]) != 0)


def _weighted_auc(weight: Floats, y: Bools, group: Ints) -> float:
    """AUC of predictions in ascending order, each counted `weight` times; equal ones share a group."""
    positive, negative = np.bincount(group, weights=weight * y), np.bincount(group, weights=weight * ~y)
    below = np.cumsum(negative) - negative / 2
    pairs = positive.sum() * negative.sum()
    return float(positive @ below / pairs) if pairs else float("nan")


def _mean_ranks(p: Floats) -> Floats:
    """[S] ranks from 1; equal values get their mean rank."""
    order = np.argsort(p, kind="stable")
    ranks = np.empty(len(p))
    ranks[order] = _ranks_in_order(p[order], np.zeros(len(p), dtype=np.int64))
    return ranks


def _ranks_in_order(p: Floats, group: Ints) -> Floats:
    """[S] ranks from 1 over all values, which ascend within each group; equal neighbours get their mean rank."""
    new = np.ones(len(p), dtype=bool)
    new[1:] = (np.diff(p) != 0) | (np.diff(group) != 0)
    starts = np.flatnonzero(new)
    count = np.diff(np.append(starts, len(p)))
    middle: Floats = np.repeat(starts + (count + 1) / 2, count)
    return middle
