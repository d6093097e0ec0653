"""Choosing among fitted rankers on validation: how baselines get their settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from facta.eval.evaluation import HistoryRanker, validate
from facta.eval.fitting import Fitting

R = TypeVar("R", bound=HistoryRanker)


@dataclass(frozen=True)
class Choice(Generic[R]):
    """The best candidate, and what each of them reached on validation, in their order."""

    best: R
    values: tuple[float, ...]


def choose(
    candidates: Sequence[R],
    fitting: Fitting,
    *,
    k: int = 10,
    judged: Callable[[R, float], None] = lambda candidate, value: None,
) -> Choice[R]:
    """The candidate with the highest NDCG@k on the validation requests; the first of equals. `judged` hears of each."""
    values = []
    for candidate in candidates:
        values.append(validate(candidate, fitting, ks=(k,)).means[f"NDCG@{k}"])
        judged(candidate, values[-1])
    return Choice(candidates[values.index(max(values))], tuple(values))
