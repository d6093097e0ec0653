"""Predicted feedback of held-out events, with the labels.

Letters: S events, U users among them, K feedback fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facta.arrays import Bools, Floats, Ints
from facta.errors import ProtocolError
from facta.eval import saved
from facta.eval.alarms import alarms
from facta.eval.bootstrap import Interval, interval, plain
from facta.eval.feedback_metrics import RESAMPLED, Calibration, calibration, prediction_metrics, resampled
from facta.eval.result import check_same_terms
from facta.eval.value_metrics import COMPARED_VALUES, resampled_values, value_metrics

_SHOWN = ("NE", "GAUC", "NMAE", "Spearman")  # in a repr


@dataclass(frozen=True, repr=False)
class Predictions:
    """Predictions of S events under one protocol, by one model or as the mean of several runs of it."""

    protocol: str
    stage: str
    dataset: str  # content hash
    user: Ints  # [S] user rows
    place: Ints  # [S] places in their histories
    time: Ints | None  # [S] ms
    p: Mapping[str, Floats]  # field -> [S]
    y: Mapping[str, NDArray[np.int8]]  # field -> [S]: 1 success, 0 not, -1 undefined
    runs: int = 1
    part: Ints | None = None  # [S] part of pooled predictions; GAUC compares within a part
    expected: Mapping[str, Floats] = field(default_factory=dict)  # field -> [S]: values of numeric fields
    calibrator: str = ""  # kind of calibration of `p`; "": none
    observed: Mapping[str, Floats] = field(default_factory=dict)  # field -> [S]: observed values; NaN: undefined
    asked: Mapping[str, int] = field(default_factory=dict)
    """held_out_users and held_out_events (all are predicted); users_without_history (without an event before the
    stage); untrained_targets and unknown_targets (events of items without training events, and of items that the model
    does not have). Empty for a part of the predictions, and for pooled ones.
    """

    def of(self, field: str) -> tuple[Floats, Bools, Ints]:
        """(prediction, success, place of the user 0 … U-1) of the events that define a field."""
        defined = self.y[field] >= 0
        return self.p[field][defined], self.y[field][defined] == 1, self._people[defined]

    def values_of(self, field: str) -> tuple[Floats, Floats, Ints]:
        """(expected value, observed value, place of the user 0 … U-1) of the events that define a field of numbers."""
        defined = ~np.isnan(self.observed[field])
        return self.expected[field][defined], self.observed[field][defined], self._people[defined]

    def part_of(self, field: str) -> Ints | None:
        """The parts of the events that define a field."""
        return None if self.part is None else self.part[self.y[field] >= 0]

    @cached_property
    def _people(self) -> Ints:
        people: Ints = np.unique(self.user, return_inverse=True)[1]
        return people

    @cached_property
    def means(self) -> dict[str, float]:
        """NE(click), AUC(click), … MAE(dwell), … over all events that define the field."""
        found = {field: prediction_metrics(*self.of(field), self.part_of(field)) for field in self.p}
        found |= {field: value_metrics(*self.values_of(field)[:2]) for field in self.expected}
        return {f"{metric}({field})": value for field, each in found.items() for metric, value in each.items()}

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Metric -> 95 % interval over users; ECE has none, since it is not a mean."""
        samples = {field: resampled(*self.of(field), self.part_of(field)) for field in self.p}
        samples |= {field: resampled_values(*self.values_of(field)) for field in self.expected}
        return {f"{name}({field})": interval(draws) for field, own in samples.items() for name, draws in own.items()}

    @property
    def base_rates(self) -> dict[str, float]:
        """Field -> share of successes among the events that define it; NaN if none does."""
        known = {field: y[y >= 0] for field, y in self.y.items()}
        return {field: float(y.mean()) if len(y) else float("nan") for field, y in known.items()}

    def calibration(self, field: str) -> Calibration:
        p, y, _ = self.of(field)
        return calibration(p, y)

    def calibrated(self, by: Mapping[str, Callable[[Floats], Floats]], kind: str) -> Predictions:
        """The predictions after calibration; fields without an entry in `by` do not change."""
        p = {name: by[name](p) if name in by else p for name, p in self.p.items()}
        return replace(self, p=p, calibrator=kind)

    def only(self, chosen: Bools) -> Predictions:
        """The predictions of a mask [S], such as those of a day."""
        return replace(
            self,
            user=self.user[chosen],
            place=self.place[chosen],
            time=None if self.time is None else self.time[chosen],
            part=None if self.part is None else self.part[chosen],
            asked={},
            p={field: p[chosen] for field, p in self.p.items()},
            y={field: y[chosen] for field, y in self.y.items()},
            expected={field: value[chosen] for field, value in self.expected.items()},
            observed={field: value[chosen] for field, value in self.observed.items()},
        )

    def summary(self) -> dict[str, Any]:
        """The summary for display and `metrics.json`, as plain values."""
        none = Interval(float("nan"), float("nan"))
        bounds = {name: self.intervals.get(name, none) for name in self.means}
        return {
            "protocol": self.protocol,
            "stage": self.stage,
            "dataset": self.dataset,
            "users": int(self._people.max(initial=-1)) + 1,
            "requests": len(self.user),
            "runs": self.runs,
            "asked": dict(self.asked),
            "base_rates": {field: plain(rate) for field, rate in self.base_rates.items()},
            "values": list(self.expected),
            "calibrator": self.calibrator or None,
            "alarms": alarms(self.means, bounds),
            "metrics": {
                name: {"mean": plain(mean), "low": plain(bounds[name].low), "high": plain(bounds[name].high)}
                for name, mean in self.means.items()
            },
        }

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {mean:.4f}" for name, mean in self.means.items() if name.startswith(_SHOWN))
        return f"Predictions({self.protocol}, {self.stage}, {len(self.user):,} events: {shown})"

    def save(self, path: Path | str) -> None:
        """Write `path` (.json) and the arrays beside it (.npz). Raises ResourceError."""
        some = {"time": self.time, "part": self.part}
        given = {name: array for name, array in some.items() if array is not None}
        arrays = {f"p/{field}": p for field, p in self.p.items()} | {f"y/{field}": y for field, y in self.y.items()}
        arrays |= {f"expected/{field}": value for field, value in self.expected.items()}
        arrays |= {f"observed/{field}": value for field, value in self.observed.items()}
        saved.write(path, self.summary(), {"user": self.user, "place": self.place, **given, **arrays})

    @classmethod
    def load(cls, path: Path | str) -> Predictions:
        """Read predictions that `save` wrote; raises ProtocolError for a missing or altered file, or a newer format."""
        content, arrays = saved.read(path, "file of saved predictions", "base_rates")
        return cls(
            protocol=content["protocol"],
            stage=content["stage"],
            dataset=content["dataset"],
            user=arrays["user"],
            place=arrays["place"],
            time=arrays.get("time"),
            part=arrays.get("part"),
            p={field: arrays[f"p/{field}"] for field in content["base_rates"]},
            y={field: arrays[f"y/{field}"] for field in content["base_rates"]},
            runs=content["runs"],
            expected={field: arrays[f"expected/{field}"] for field in content.get("values", ())},
            observed={field: arrays[f"observed/{field}"] for field in content.get("values", ())},
            calibrator=content.get("calibrator") or "",
            asked=content.get("asked", {}),
        )


def average_predictions(runs: Sequence[Predictions]) -> Predictions:
    """The mean prediction of several runs (seeds), event by event: an ensemble, which is better than its members."""
    first = runs[0]
    for other in runs[1:]:
        check_same_events(first, other)
    mean = {field: np.mean([run.p[field] for run in runs], axis=0) for field in first.p}
    values = {field: np.mean([run.expected[field] for run in runs], axis=0) for field in first.expected}
    return replace(first, p=mean, expected=values, runs=sum(run.runs for run in runs))


def differences(a: Sequence[Predictions], b: Sequence[Predictions], field: str) -> dict[str, tuple[float, Interval]]:
    """Metric -> (mean of a's runs minus mean of b's, 95 % interval): users are resampled, the same for all runs."""
    for other in (*a[1:], *b):
        check_same_events(a[0], other)
    samples = [[draws(run, field) for run in runs] for runs in (a, b)]
    means = [[run.means for run in runs] for runs in (a, b)]
    found = {}
    for metric in COMPARED_VALUES if field in a[0].expected else RESAMPLED:
        ours, theirs = (np.mean([one[metric] for one in side], axis=0) for side in samples)
        mean = [float(np.mean([one[f"{metric}({field})"] for one in side])) for side in means]
        found[metric] = (mean[0] - mean[1], interval(ours - theirs))
    return found


def draws(run: Predictions, field: str) -> dict[str, Floats]:
    """Metric -> [samples] of a field of either kind; the same users for all runs on the same events."""
    if field in run.expected:
        return resampled_values(*run.values_of(field))
    return resampled(*run.of(field), run.part_of(field))


def check_same_events(a: Predictions, b: Predictions) -> None:
    """Raises ProtocolError for two predictions that are not comparable."""
    check_same_terms(a, b)
    ours, theirs = (np.zeros_like(one.user) if one.part is None else one.part for one in (a, b))
    same = np.array_equal(a.user, b.user) and np.array_equal(a.place, b.place) and np.array_equal(ours, theirs)
    if not same or set(a.p) != set(b.p) or set(a.expected) != set(b.expected):
        raise ProtocolError("The predictions are of different events or fields; predict both under one protocol.")


def pool(parts: Sequence[Predictions], protocol: str) -> Predictions:
    """Pool predictions of different events, such as of seven days by seven models; `protocol` names the pool.

    GAUC compares a user's predictions only within one part; scores of different models or days are not comparable.
    """
    first = parts[0]
    if any(part.part is not None for part in parts):
        raise ProtocolError("Found predictions that are pooled already; pool all of them at once.")
    fields = (set(first.p), set(first.expected))
    if any(part.dataset != first.dataset or (set(part.p), set(part.expected)) != fields for part in parts):
        raise ProtocolError("Predictions of different datasets or fields cannot be pooled.")
    event = np.stack([np.concatenate([getattr(part, name) for part in parts]) for name in ("user", "place")], axis=1)
    if len(np.unique(event, axis=0)) < len(event):
        raise ProtocolError("Some events were predicted twice; pool predictions of different events alone.")
    timed = all(part.time is not None for part in parts)
    sizes = [len(part.user) for part in parts]
    return replace(
        first,
        protocol=protocol,
        user=event[:, 0],
        place=event[:, 1],
        part=np.repeat(np.arange(len(parts)), sizes),
        asked={},
        time=np.concatenate([part.time for part in parts if part.time is not None]) if timed else None,
        p={field: np.concatenate([part.p[field] for part in parts]) for field in first.p},
        y={field: np.concatenate([part.y[field] for part in parts]) for field in first.y},
        expected={field: np.concatenate([part.expected[field] for part in parts]) for field in first.expected},
        observed={field: np.concatenate([part.observed[field] for part in parts]) for field in first.observed},
    )
