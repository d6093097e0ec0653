"""Bootstrap over users: the uncertainty of a mean due to the sample of users.

Letters: U users, M metrics, S resamples. Draws depend on (seed, U) alone, so that two rankers on the same users get the
same resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from facta.arrays import Floats, Ints

SAMPLES, SEED, LEVEL = 1000, 0, 0.95


class Interval(NamedTuple):
    low: float  # NaN: unknown, as with a single user
    high: float


def plain(value: float) -> float | None:
    """The value; None for NaN and infinite ones, which JSON lacks."""
    return float(value) if np.isfinite(value) else None


def bootstrap_means(values: Floats, samples: int = SAMPLES, seed: int = SEED) -> Floats:
    """[U, M] -> [S, M]: means over S draws of U users with replacement; NaN for a single user."""
    if len(values) < 2:
        return np.full((samples, values.shape[1]), np.nan)
    means = np.empty((samples, values.shape[1]))
    for sample, times in enumerate(resamples(len(values), samples, seed)):
        means[sample] = times @ values / len(values)
    return means


def resamples(users: int, samples: int = SAMPLES, seed: int = SEED) -> Iterator[Ints]:
    """S times [U]: the count of each user in a draw of U with replacement."""
    generator = np.random.default_rng([seed, users])
    for _ in range(samples):
        yield np.bincount(generator.integers(0, users, users), minlength=users)


def interval(samples: Floats, level: float = LEVEL) -> Interval:
    """The middle `level` of the samples (percentile interval); NaN if it includes non-finite samples, such as the NE of
    a draw of users without a success.
    """
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    if not np.isfinite([low, high]).all():
        return Interval(float("nan"), float("nan"))
    return Interval(float(low), float(high))
