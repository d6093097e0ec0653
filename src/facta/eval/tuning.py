"""Choosing among fitted rankers on validation, for the settings of baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from facta.eval.evaluation import HistoryRanker, validate
from facta.eval.fitting import Fitting

R = TypeVar("R", bound=HistoryRanker)


@dataclass(frozen=True)
class Choice(Generic[R]):
    """The best candidate, and the values of all on validation, in order."""

    best: R
    values: tuple[float, ...]


def choose(
    candidates: Iterable[R],
    fitting: Fitting,
    *,
    k: int = 10,
    judged: Callable[[R, float], None] = lambda candidate, value: None,
) -> Choice[R]:
    """The candidate with the highest NDCG@k on the validation requests; ties go to the first. `judged` is called for
    each.

    Candidates may be an iterator: only the best so far is kept.
    """
    best, values = None, list[float]()
    for candidate in candidates:
        value = validate(candidate, fitting, ks=(k,)).means[f"NDCG@{k}"]
        judged(candidate, value)
        best = candidate if best is None or value > max(values) else best
        values.append(value)
    if best is None:
        raise AssertionError("nothing to choose among")
    return Choice(best, tuple(values))
