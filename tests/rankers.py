"""Small logs and rankers for tests of evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from facta.data.batches.spec import InputSpec
from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.types import SequenceBatch

T0 = 1_600_000_000_000
MINUTE = 60_000


def dataset_of(
    path: Path,
    histories: Mapping[str, Sequence[tuple[int, int]]],
    *,
    timed: bool = True,
    titles: Sequence[int] | None = None,
) -> Dataset:
    """Histories of (item, minute); `titles`: items of the catalogue, rated or not."""
    rows = [(user, item, T0 + MINUTE * minute) for user, events in histories.items() for item, minute in events]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = None if titles is None else pl.DataFrame({"item_id": list(titles), "title": [f"film {i}" for i in titles]})
    return prepare(frame if timed else frame.drop("timestamp"), path, items=items)


class Fixed:
    """The same scores for everybody, given by item id."""

    inputs = InputSpec()

    def __init__(self, dataset: Dataset, scores: Mapping[int, float], rest: float = -10.0, *, window: int = 50) -> None:
        self.window_of_requests = window
        ids = dataset.items["item_id"].to_list()
        self.scores = torch.tensor([scores.get(item, rest) for item in ids], dtype=torch.float32)

    def catalogue_scores(self, batch: SequenceBatch) -> Tensor:
        return self.scores.expand(len(batch.targets.num_visible), -1)


class Seeded:
    """Scores drawn from a seed and the newest visible item: what a request gets depends on its history alone."""

    inputs = InputSpec()

    def __init__(self, items: int, seed: int = 0, *, window: int = 50) -> None:
        self.window_of_requests = window
        self.table = torch.from_numpy(np.random.default_rng(seed).standard_normal((items, items)).astype(np.float32))
        self.batches: list[SequenceBatch] = []

    def catalogue_scores(self, batch: SequenceBatch) -> Tensor:
        self.batches.append(batch)
        return self.table[batch.events.item[batch.offsets[1:] - 1]]


def random_log(users: int = 60, items: int = 30, seed: int = 0) -> dict[str, list[tuple[int, int]]]:
    """Users with 4 to 12 distinct items each, in random order."""
    rng = np.random.default_rng(seed)
    return {
        f"u{user}": [
            (int(item), int(rng.integers(0, 9)) + 10 * place)
            for place, item in enumerate(rng.permutation(items)[: rng.integers(4, 13)])
        ]
        for user in range(users)
    }
