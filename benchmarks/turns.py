"""What timing benchmarks share: two sides in turns, the shortest of a few tries a side, and what the machine can do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

PRODUCTS = (512, 1024, 2048, 4096)
COPIED = 1 << 26  # floats: 256 MB, more than any cache


def seconds(work: Callable[[], object], tries: int = 3) -> float:
    """The shortest of a few tries: everything else on the machine only ever adds."""
    taken = []
    for _ in range(tries):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def ratios(theirs: Callable[[], object], ours: Callable[[], object], turns: int = 5, tries: int = 3) -> list[float]:
    """Their time over ours, turn by turn, each turn printed."""
    found = []
    for _ in range(turns):
        their, our = seconds(theirs, tries), seconds(ours, tries)
        found.append(their / our)
        print(f"theirs {their * 1e3:,.1f} ms, ours {our * 1e3:,.1f} ms: {found[-1]:.2f}", flush=True)
    print(f"median {statistics.median(found):.3f}", flush=True)
    return found


def product_rate(sizes: Sequence[int] = PRODUCTS) -> float:
    """GFLOP/s of the fastest square matrix product."""
    best = 0.0
    for size in sizes:
        a, b = torch.randn(size, size), torch.randn(size, size)
        best = max(best, 2e-9 * size**3 / seconds(lambda a=a, b=b: a @ b))
    return best


def copy_rate() -> float:
    """GB/s read and written by a copy that no cache holds."""
    a, b = torch.ones(COPIED), torch.empty(COPIED)
    return 8e-9 * COPIED / seconds(lambda: b.copy_(a))
