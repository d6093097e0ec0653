"""The result of an evaluation: metrics of every user, with means and intervals.

Saved as JSON (means, intervals and facts about them) beside a .npz of the values of each user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from facta.arrays import Floats, Ints
from facta.errors import ProtocolError
from facta.eval import saved
from facta.eval.bootstrap import Interval, bootstrap_means, interval, plain

SHOWN = ("HR@10", "NDCG@10", "MRR")  # in a repr


@dataclass(frozen=True, repr=False)
class Result:
    """One ranker (or the mean of several runs of it) under one protocol on one dataset. U users, Q requests."""

    protocol: str  # the printable id
    stage: str  # validation or test
    dataset: str  # content hash
    ranked: int  # number of ranked items
    requests: int
    unreachable: float  # share of masked targets: misses for any ranker
    coverage: Mapping[str, float]  # Coverage@k -> share of the ranked items in the first k of any list
    user: Ints  # [U] rows, ascending
    history: Floats  # [U] visible events (mean over the user's requests)
    values: Mapping[str, Floats]  # metric -> [U], mean over the user's requests
    lists: NDArray[np.int32]  # [Q, k] recommended rows, in the order of the requests; padded with -1
    runs: int = 1  # averaged seeds
    asked: Mapping[str, int] = field(default_factory=dict)
    """held_out_users and held_out_events (targets of the stage and their users); asked_users and asked_events (those
    with a visible event before); untrained_targets and unknown_targets (asked events of items without training events,
    and of items that the ranker does not have).
    """
    each: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # metric -> mean of each run, if several
    told: tuple[str, ...] = ()  # context fields of the held-out event in the requests

    @cached_property
    def means(self) -> dict[str, float]:
        """Metric -> mean over users."""
        return {name: float(values.mean()) for name, values in self.values.items()}

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Metric -> 95 % interval over users: 1,000 bootstrap resamples, always the same.

        For an average over seeds it covers other users but not other seeds; for these see `seed_deviation`.
        """
        names = list(self.values)
        samples = bootstrap_means(np.stack([self.values[name] for name in names], axis=1))
        return {name: interval(samples[:, column]) for column, name in enumerate(names)}

    @cached_property
    def seed_deviation(self) -> dict[str, float]:
        """Metric -> standard deviation of the runs' means over the seeds (n - 1); empty for a single run.

        The mean of n runs has the standard error of this / √n.
        """
        return {name: float(np.std(means, ddof=1)) for name, means in self.each.items() if len(means) > 1}

    def __repr__(self) -> str:
        spread = {name: f" ± {value:.4f} over seeds" for name, value in self.seed_deviation.items()}
        shown = [f"{name} {mean:.4f}{spread.get(name, '')}" for name, mean in self.means.items() if name in SHOWN]
        runs = "" if self.runs == 1 else f"{self.runs} runs, "
        return f"Result({self.protocol}, {self.stage}, {runs}{len(self.user):,} users: {', '.join(shown)})"

    def summary(self) -> dict[str, Any]:
        """The summary for display and `metrics.json`, as plain values."""
        return {
            "protocol": self.protocol,
            "stage": self.stage,
            "dataset": self.dataset,
            "users": len(self.user),
            "requests": self.requests,
            "ranked_items": self.ranked,
            "unreachable_targets": self.unreachable,
            "runs": self.runs,
            "asked": dict(self.asked),
            "metrics": {
                name: {"mean": mean, "low": plain(self.intervals[name].low), "high": plain(self.intervals[name].high)}
                for name, mean in self.means.items()
            },
            "coverage": dict(self.coverage),
            **({"told": list(self.told)} if self.told else {}),
        } | self._of_seeds()

    def _of_seeds(self) -> dict[str, Any]:
        """The part of a summary on averaged runs."""
        if not self.seed_deviation:
            return {}
        return {"intervals_over": "users", "seed_means": {name: list(means) for name, means in self.each.items()}}

    def save(self, path: Path | str) -> None:
        """Write `path` (.json) and the arrays beside it (.npz). Raises ResourceError."""
        values = {f"values/{name}": column for name, column in self.values.items()}
        saved.write(path, self.summary(), {"user": self.user, "history": self.history, "lists": self.lists, **values})

    @classmethod
    def load(cls, path: Path | str) -> Result:
        """Read a result that `save` wrote; raises ProtocolError for a missing or altered file, or a newer format."""
        content, arrays = saved.read(path, "saved result", "ranked_items")
        return cls(
            protocol=content["protocol"],
            stage=content["stage"],
            dataset=content["dataset"],
            ranked=content["ranked_items"],
            requests=content["requests"],
            unreachable=content["unreachable_targets"],
            coverage=content["coverage"],
            user=arrays["user"],
            history=arrays["history"],
            values={name: arrays[f"values/{name}"] for name in content["metrics"]},
            lists=arrays["lists"],
            runs=content["runs"],
            asked=content.get("asked", {}),
            each={name: tuple(means) for name, means in content.get("seed_means", {}).items()},
            told=tuple(content.get("told", ())),
        )


def average(results: Sequence[Result]) -> Result:
    """The mean of several runs (seeds) of one ranker, user by user; lists are those of the first run.

    Every run counts once, also those of a result that is already a mean. Intervals of the average are over users; the
    spread of the runs is in `seed_deviation`.
    """
    first, runs = results[0], [result.runs for result in results]
    for other in results[1:]:
        check_comparable(first, other)
    return replace(
        first,
        coverage={
            name: float(np.average([r.coverage[name] for r in results], weights=runs)) for name in first.coverage
        },
        values={name: np.average([r.values[name] for r in results], axis=0, weights=runs) for name in first.values},
        runs=sum(runs),
        each={
            name: tuple(mean for r in results for mean in (r.each or {name: (r.means[name],)})[name])
            for name in first.values
        },
    )


class Measured(Protocol):
    """The common attributes of results and predictions."""

    @property
    def protocol(self) -> str: ...

    @property
    def stage(self) -> str: ...

    @property
    def dataset(self) -> str: ...


def check_same_terms(a: Measured, b: Measured) -> None:
    """Raises ProtocolError for different protocols, stages or datasets."""
    for what, left, right in (
        ("protocols", a.protocol, b.protocol),
        ("stages", a.stage, b.stage),
        ("datasets", a.dataset, b.dataset),
    ):
        if left != right:
            raise ProtocolError(f"The results have different {what}, '{left}' and '{right}'; evaluate both under one.")


def check_comparable(a: Result, b: Result) -> None:
    """Raises ProtocolError for two results that are not comparable."""
    check_same_terms(a, b)
    if not np.array_equal(a.user, b.user) or set(a.values) != set(b.values):
        raise ProtocolError("The results have different users or metrics; evaluate both again with the same ks.")
