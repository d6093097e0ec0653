"""evaluate_vs_gemm: exact ranking of a full catalogue against the bare matrix product that it contains.

    python -m benchmarks.speed.evaluate            measure and record
    python -m benchmarks.speed.evaluate --look     measure and print only

100,000 users x 100,000 items x 64 dimensions in float32. Ranking: 100 events of each user masked, the rank of one
target with ties counted against it, and the ten best items with their scores; the vectors are given, encoding is not
timed. The product makes all scores and keeps none, in the fastest of many chunk sizes. Both run on the same two
threads, in turns; a turn's ratio is one measurement.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from facta.retrieval.exact import ItemSets, rank_catalogue
from facta.retrieval.reference import rank_slowly
from facta.types import FactoredScores

FIGURES: dict[str, Figure] = {
    "evaluate_vs_gemm": Figure(
        ">= 0.5", "x", module("evaluate"), "bare product's time over ranking's, 100,000 users x 100,000 items"
    ),
}

USERS, ITEMS, WIDTH, MASKED, K = 100_000, 100_000, 64, 100, 10
THREADS, TURNS = 2, 5
CHUNKS = [(rows, columns) for rows in (256, 512, 1024, 2048, 4096) for columns in (256, 512, 1024, 2048, 4096)]


def world() -> tuple[FactoredScores, ItemSets, ItemSets]:
    """Vectors, one target a user, and 100 masked items a user that are not its target."""
    generator = torch.Generator().manual_seed(0)
    product = FactoredScores(
        torch.randn(USERS, WIDTH, generator=generator), torch.randn(ITEMS, WIDTH, generator=generator)
    )
    rng = np.random.default_rng(0)
    target = rng.integers(0, ITEMS, USERS)
    masked = (target[:, None] + rng.integers(1, ITEMS, (USERS, MASKED))) % ITEMS
    return product, ItemSets(np.arange(USERS + 1), target), ItemSets(np.arange(USERS + 1) * MASKED, masked.ravel())


def bare(product: FactoredScores, users: int, rows: int, columns: int) -> None:
    """All scores of the first `users`, chunk by chunk into one buffer."""
    chunk = torch.empty(rows * columns)
    for first in range(0, users, rows):
        queries = product.queries[first : min(first + rows, users)]
        for start in range(0, ITEMS, columns):
            items = product.items[start : start + columns]
            shape = (len(queries), len(items))
            torch.mm(queries, items.T, out=chunk[: shape[0] * shape[1]].view(shape))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fastest_chunk(product: FactoredScores, users: int = 4096, tries: int = 3) -> tuple[int, int]:
    """The chunk size with the shortest time on a sample of users; the best of a few tries of each."""
    times = {chunk: min(seconds(lambda c=chunk: bare(product, users, *c)) for _ in range(tries)) for chunk in CHUNKS}
    for (rows, columns), taken in sorted(times.items(), key=lambda item: item[1])[:5]:
        print(f"product in {rows} x {columns}: {2e-9 * users * ITEMS * WIDTH / taken:.0f} GFLOP/s")
    return min(times, key=lambda chunk: times[chunk])


def check(product: FactoredScores, targets: ItemSets, masked: ItemSets, users: int = 8) -> None:
    """What is timed is right: the first users against the slow twin."""
    few = FactoredScores(product.queries[:users], product.items)
    asked = ItemSets(targets.offsets[: users + 1], targets.items[:users])
    hidden = ItemSets(masked.offsets[: users + 1], masked.items[: users * MASKED])
    fast, slow = rank_catalogue(few, asked, hidden, K), rank_slowly(few.dense(), asked, hidden, K)
    assert np.array_equal(fast.ranks, slow.ranks)
    assert np.array_equal(fast.lists, slow.lists)


def measure() -> tuple[list[float], tuple[int, int], list[float], list[float]]:
    product, targets, masked = world()
    check(product, targets, masked)
    chunk = fastest_chunk(product)
    ranking, products = [], []
    for turn in range(TURNS):
        products.append(seconds(lambda: bare(product, USERS, *chunk)))
        ranking.append(seconds(lambda: rank_catalogue(product, targets, masked, K)))
        ratio = products[-1] / ranking[-1]
        print(f"turn {turn + 1}: product {products[-1]:.2f} s, ranking {ranking[-1]:.2f} s, {ratio:.3f} x", flush=True)
    return [p / r for p, r in zip(products, ranking, strict=True)], chunk, products, ranking


def main() -> None:
    look = looking(__doc__)
    torch.set_num_threads(THREADS)
    ratios, (rows, columns), products, ranking = measure()
    value = statistics.median(ratios)
    note = (
        f"{THREADS} threads, product in chunks of {rows} x {columns}: median {statistics.median(products):.2f} s; "
        f"ranking: median {statistics.median(ranking):.2f} s; the value is the median of {TURNS} turns"
    )
    print(f"evaluate_vs_gemm {value:.3f} ({note})")
    if not look:
        record("evaluate_vs_gemm", value, raw=ratios, note=note)


if __name__ == "__main__":
    main()
