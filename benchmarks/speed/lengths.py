"""token_cost_* : what a token costs, by length of its row, size of the batch and longest row of the batch.

    python -m benchmarks.speed.lengths            measure, record, and draw docs/lengths.svg
    python -m benchmarks.speed.lengths --look     measure and print only

One HSTU layer with both biases, D 64, H 1, float32, forward and backward, two threads, memory kept as in training. A
curve over N = 256 … 16384 at 8 x 2,048 tokens in all (or one row); memory is what the process adds at its peak, each
shape in a process of its own. `batch`: time a token of 128 rows of 1,024 over that of 2 (8 and 32 beside it).
`longest`: time of 64 rows of 256 together with one of 8,192, over the sum of both alone. `window`: time a token of 256
rows of 256 in a layer whose window is 16,384, over a layer whose window they fill. `memory`: bytes a token at 131,072
tokens over those at 16,384, in rows of 1,024.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys

import torch

from benchmarks.figure import Figure, module
from benchmarks.record import ROOT, committed, record
from benchmarks.speed.turns import seconds
from facta import jagged, ops
from facta.encoders.hstu import HSTUConfig, HSTULayer
from facta.ops import backend
from facta.training.process import retain_freed_memory
from facta.types import TokenBatch

FIGURES: dict[str, Figure] = {
    "token_cost_batch": Figure(
        "<= 1.1", "x", module("lengths"), "time a token in rows of 1,024: 128 of them over 2 of them"
    ),
    "token_cost_longest_row": Figure(
        "<= 1.1", "x", module("lengths"), "time of 64 rows of 256 beside one of 8,192, over both alone"
    ),
    "token_cost_long_window": Figure(
        "<= 1.1", "x", module("lengths"), "time a token in 256 rows of 256: window of 16,384 over one of 256"
    ),
    "token_memory_growth": Figure("<= 1.1", "x", module("lengths"), "peak bytes a token: 131,072 tokens over 16,384"),
}

WIDTH, THREADS, TURNS = 64, 2, 5
LENGTHS = tuple(2**k for k in range(8, 15))


def tokens_of(lengths: list[int]) -> TokenBatch:
    """Causal rows, an event a minute."""
    offsets = jagged.offsets_of(torch.tensor(lengths))
    place = jagged.places(offsets)
    time = 1_600_000_000_000 + 60_000 * place
    return TokenBatch(offsets, place * 0, place, time, time + 60_000, place, place, place, {})


class Work:
    """Forward and backward of one layer over rows of these lengths, its window as long as the longest or longer."""

    def __init__(self, lengths: list[int], window: int | None = None) -> None:
        self.count = sum(lengths)
        self.layer = HSTULayer(HSTUConfig(dropout=0.0), WIDTH, window or max(lengths), salt=0)
        self.tokens = tokens_of(lengths)
        self.x, self.grad = torch.randn(self.count, WIDTH), torch.randn(self.count, WIDTH)

    def __call__(self) -> None:
        out = self.layer(self.x.requires_grad_(), self.tokens, ops.Geometry(self.tokens))
        out.backward(self.grad)

    def seconds(self) -> float:
        return seconds(self, tries=3)


def added_bytes(lengths: list[int]) -> float:
    """Peak memory of one pass, a token, over what the process had before; in a process of its own.

    To be asked before this process grows: a child's peak starts at the size of its parent.
    """
    command = [sys.executable, "-m", "benchmarks.speed.lengths", "--memory", json.dumps(lengths)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def memory(lengths: list[int]) -> float:
    torch.set_num_threads(THREADS)
    Work([256])()  # libraries and threads are there
    work = Work(lengths)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with retain_freed_memory([]):
        work()
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / work.count


def curve() -> list[tuple[int, float, float]]:
    """(N, microseconds a token, bytes a token)."""
    shapes = {length: [length] * max(1, 16_384 // length) for length in LENGTHS}
    sizes = {length: added_bytes(rows) for length, rows in shapes.items()}
    found = []
    for length, rows in shapes.items():
        work = Work(rows)
        found.append((length, 1e6 * work.seconds() / work.count, sizes[length]))
        print(f"N {length:>6,}: {found[-1][1]:8.2f} µs and {sizes[length]:8,.0f} bytes a token", flush=True)
    return found


def draw(points: list[tuple[int, float, float]]) -> None:
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), constrained_layout=True)
    lengths = [length for length, _, _ in points]
    left.loglog(lengths, [time for _, time, _ in points], marker="o", base=2)
    left.set(xlabel="events of a history, N", ylabel="µs a token, forward and backward")
    right.semilogx(lengths, [size / 1024 for _, _, size in points], marker="o", base=2)
    right.set(xlabel="events of a history, N", ylabel="KiB a token at the peak", ylim=(0, None))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle(f"One HSTU layer with rab, D {WIDTH}, {THREADS} threads: what a token costs")
    figure.savefig(ROOT / "docs" / "lengths.svg")


def turns(one: Work, other: list[Work]) -> list[float]:
    """Time a token of `one` over that of the others together."""
    found = []
    for _ in range(TURNS):
        together, alone = one.seconds(), sum(work.seconds() for work in other)
        found.append(together / one.count / (alone / sum(work.count for work in other)))
    print([round(ratio, 3) for ratio in found], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What a token costs.")
    parser.add_argument("--look", action="store_true", help="print, record nothing")
    parser.add_argument("--memory", metavar="LENGTHS", help="print the bytes a token of one pass in this process")
    given = parser.parse_args()
    if given.memory:
        print(memory(json.loads(given.memory)))
        return
    if not given.look:
        committed()
    torch.set_num_threads(THREADS)
    growth = added_bytes([1024] * 128) / added_bytes([1024] * 16)
    print(f"memory a token, 131,072 tokens over 16,384: {growth:.3f}")
    with retain_freed_memory([]):  # as the trainer does
        points = curve()
        few = [Work([1024] * 2)]
        between = {rows: statistics.median(turns(Work([1024] * rows), few)) for rows in (8, 32)}
        batch = turns(Work([1024] * 128), few)
        longest = turns(Work([256] * 64 + [8192]), [Work([256] * 64), Work([8192])])
        window = turns(Work([256] * 256, LENGTHS[-1]), [Work([256] * 256)])
    if given.look:
        return
    note = f"{backend.current()}, {THREADS} threads"
    beside = ", ".join(f"{rows} rows {ratio:.3f}" for rows, ratio in between.items())
    record("token_cost_batch", statistics.median(batch), raw=batch, note=f"{note}; {beside}")
    record("token_cost_longest_row", statistics.median(longest), raw=longest, note=note)
    record("token_cost_long_window", statistics.median(window), raw=window, note=note)
    shown = ", ".join(f"N {length}: {time:.2f} µs, {size:,.0f} B" for length, time, size in points)
    record("token_memory_growth", growth, note=f"{note}; {shown}")
    draw(points)


if __name__ == "__main__":
    main()
