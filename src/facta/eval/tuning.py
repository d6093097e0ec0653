"""Choosing among fitted rankers on validation: how baselines get their settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from facta.arrays import Ints
from facta.data.histories import Dataset
from facta.data.splits import Split
from facta.eval.evaluation import validate
from facta.eval.protocol import ProtocolConfig
from facta.types import Ranker


class Candidate(Ranker, Protocol):
    """A ranker that says how many of the newest events it is shown."""

    window: int


R = TypeVar("R", bound=Candidate)


@dataclass(frozen=True)
class Choice(Generic[R]):
    """The best candidate, and what each of them reached on validation, in their order."""

    best: R
    values: tuple[float, ...]


def choose(
    candidates: Sequence[R],
    dataset: Dataset,
    protocol: ProtocolConfig,
    split: Split,
    *,
    k: int = 10,
    counts: Ints | None = None,
    judged: Callable[[R, float], None] = lambda candidate, value: None,
) -> Choice[R]:
    """The candidate with the highest NDCG@k on the validation requests; the first of equals. `judged` hears of each."""
    values = []
    for candidate in candidates:
        result = validate(candidate, dataset, protocol, split, window=candidate.window, ks=(k,), counts=counts)
        values.append(result.means[f"NDCG@{k}"])
        judged(candidate, values[-1])
    return Choice(candidates[values.index(max(values))], tuple(values))
