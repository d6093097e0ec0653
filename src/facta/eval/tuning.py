"""Choosing among fitted rankers on validation: how baselines get their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from facta.arrays import Ints
from facta.config import Config
from facta.data.histories import Dataset
from facta.data.splits import Split
from facta.eval.evaluation import validate
from facta.eval.protocol import ProtocolConfig
from facta.types import Ranker

R = TypeVar("R", bound=Ranker)
C = TypeVar("C", bound=Config)


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
    judged: Callable[[R, float], None] = lambda candidate, value: None,
) -> Choice[R]:
    """The candidate with the highest NDCG@k on the validation requests; the first of equals. `judged` hears of each."""
    values = []
    for candidate in candidates:
        result = validate(candidate, dataset, protocol, split, window=window, ks=(k,), counts=counts)
        values.append(result.means[f"NDCG@{k}"])
        judged(candidate, values[-1])
    return Choice(candidates[values.index(max(values))], tuple(values))


def choose_in_turn(
    fit: Callable[[Sequence[C]], Sequence[R]],
    start: C,
    search: Mapping[str, Sequence[float]],
    judge: Callable[[Sequence[R]], Choice[R]],
) -> Choice[R]:
    """Coordinate search: the settings of `search` one after the other, the others as chosen so far.

    `fit` gives a ranker for each config, `judge` is `choose` on their validation requests. It costs the sum of the
    numbers of values, where a grid costs their product. Returns the best ranker and all values in the order measured.
    """
    best, kept = start, None
    values: list[float] = []
    for setting, tried in search.items():
        configs = [best.change(**{setting: value}) for value in tried]
        candidates = fit(configs)
        choice = judge(candidates)
        kept, values = choice.best, [*values, *choice.values]
        best = configs[next(place for place, candidate in enumerate(candidates) if candidate is kept)]
    if kept is None:
        raise AssertionError("nothing to search")
    return Choice(kept, tuple(values))
