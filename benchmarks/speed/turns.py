"""What timing benchmarks share: two sides in turns, the shortest of a few tries a side, and what the machine can do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Turns:
    """Seconds of both sides, turn by turn."""

    theirs: list[float]
    ours: list[float]

    @property
    def ratios(self) -> list[float]:
        """Their time over ours."""
        return [their / our for their, our in zip(self.theirs, self.ours, strict=True)]

    @property
    def said(self) -> str:
        """The medians of both sides, for a note."""
        their, our = statistics.median(self.theirs), statistics.median(self.ours)
        return f"theirs {their * 1e3:,.1f} ms, ours {our * 1e3:,.1f} ms"


def in_turns(theirs: Callable[[], object], ours: Callable[[], object], turns: int = 5, tries: int = 3) -> Turns:
    """Both sides one after the other, each turn printed."""
    found = Turns([], [])
    for _ in range(turns):
        found.theirs.append(seconds(theirs, tries))
        found.ours.append(seconds(ours, tries))
        last = Turns(found.theirs[-1:], found.ours[-1:])
        print(f"{last.said}: {last.ratios[0]:.2f}", flush=True)
    print(f"median {statistics.median(found.ratios):.3f}", flush=True)
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
