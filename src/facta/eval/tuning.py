"""Choosing among fitted rankers on validation: how baselines get their settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from facta.arrays import Ints
from facta.data.histories import Dataset
from facta.data.splits import Split
from facta.eval.evaluation import validate
from facta.eval.protocol import ProtocolConfig
from facta.types import Ranker

R = TypeVar("R", bound=Ranker)


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
    window: int,
    k: int = 10,
    counts: Ints | None = None,
) -> Choice[R]:
    """The candidate with the highest NDCG@k on the validation requests; the first of equals."""
    values = []
    for candidate in candidates:
        result = validate(candidate, dataset, protocol, split, window=window, ks=(k,), counts=counts)
        values.append(result.means[f"NDCG@{k}"])
    return Choice(candidates[values.index(max(values))], tuple(values))
