"""Calibrators of a model's probability of success, one for each feedback field.

    platt      σ(a · logit p + b), maximum likelihood with Platt's smoothed targets (Platt 1999)
    isotonic   the ascending function with the least squared error, by pooling adjacent violators (Zadrozny and Elkan
               2002); linear between its steps

Both are fitted on validation alone and stored in the artifact as JSON. Platt keeps the order of scores if a > 0;
isotonic may make different scores equal.

Letters: S predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from facta.arrays import Bools, Floats

CalibrationKind = Literal["platt", "isotonic"]
EPS = 1e-7  # probabilities are clipped to [EPS, 1 - EPS]


@dataclass(frozen=True)
class Calibrator:
    """platt: `x` is (a,) and `y` is (b,); isotonic: the knots of the function, ascending."""

    kind: CalibrationKind
    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, p: Floats) -> Floats:
        """[S] raw probabilities -> [S] calibrated ones."""
        if self.kind == "isotonic":
            return np.interp(p, self.x, self.y)
        found: Floats = 1 / (1 + np.exp(-(self.x[0] * logit(p) + self.y[0])))
        return found

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "x": list(self.x), "y": list(self.y)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibrator:
        return cls(values["kind"], tuple(map(float, values["x"])), tuple(map(float, values["y"])))


def logit(p: Floats) -> Floats:
    p = np.clip(np.asarray(p, dtype=np.float64), EPS, 1 - EPS)
    found: Floats = np.log(p) - np.log1p(-p)
    return found


def fit_calibrator(kind: CalibrationKind, p: Floats, y: Bools) -> Calibrator | None:
    """Fit a calibrator to [S] raw probabilities and labels; None if all labels are equal."""
    if not 0 < int(y.sum()) < len(y):
        return None
    return _platt(p, y) if kind == "platt" else _isotonic(p, y)


def _platt(p: Floats, y: Bools) -> Calibrator:
    """Newton's method in two unknowns. The loss is convex; a step that does not lower it is halved."""
    positives, x = int(y.sum()), np.stack([logit(p), np.ones(len(p))], axis=1)
    target = np.where(y, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    weight = np.array([1.0, 0.0])
    for _ in range(100):
        q = 1 / (1 + np.exp(-x @ weight))
        hessian = (x * (q * (1 - q))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (target - q))
        before = _loss(x @ weight, target)
        while np.abs(step).max() >= 1e-10 and _loss(x @ (weight + step), target) > before:
            step /= 2
        weight += step
        if np.abs(step).max() < 1e-10:
            break
    return Calibrator("platt", (float(weight[0]),), (float(weight[1]),))


def _loss(logits: Floats, target: Floats) -> float:
    """Sum of cross-entropies."""
    return float((np.logaddexp(0, logits) - target * logits).sum())


def _isotonic(p: Floats, y: Bools) -> Calibrator:
    """Blocks of neighbouring scores, each with its share of successes; equal scores start as one block."""
    scores, group = np.unique(p, return_inverse=True)
    size = np.bincount(group).astype(np.float64)
    hits = np.bincount(group, weights=y)
    blocks: list[list[float]] = []  # lowest score, highest score, successes, predictions
    for score, won, count in zip(scores, hits, size, strict=True):
        blocks.append([score, score, won, count])
        while len(blocks) > 1 and blocks[-2][2] * blocks[-1][3] >= blocks[-1][2] * blocks[-2][3]:
            _, high, won_last, count_last = blocks.pop()
            blocks[-1] = [blocks[-1][0], high, blocks[-1][2] + won_last, blocks[-1][3] + count_last]
    corners = [(end, won / count) for low, high, won, count in blocks for end in dict.fromkeys((low, high))]
    x, value = zip(*corners, strict=True)
    return Calibrator("isotonic", tuple(map(float, x)), tuple(map(float, value)))
