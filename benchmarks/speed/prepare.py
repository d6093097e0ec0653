"""Preparing 10 million events, ids, hash and fsync included, against what bare polars needs to sort and group them.

Two files of one seed, logs in order of time and in random order; the slower comparison of the two is recorded. Ours and
theirs alternate, each run in a process of its own; the ratio is taken run by run, so a busy machine slows both.
Memory is ours: the peak minus that after `import facta`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.figure import Figure, module
from benchmarks.record import committed, record

FIGURES: dict[str, Figure] = {
    "prepare_10m_vs_polars": Figure(
        "<= 1.3", "x", module("prepare"), "preparing 10 million events, our time over bare polars'"
    ),
    "prepare_10m_bytes_per_event": Figure("<= 100", "B", module("prepare"), "peak memory of the same"),
}

EVENTS, USERS, ITEMS = 10_000_000, 200_000, 100_000
SEED = 20_240_531

OURS = """
import json, sys, time
import facta
from facta.data.log.prepare import prepare
from facta.hardware import memory_peak
before = memory_peak()
start = time.perf_counter()
prepare(sys.argv[1], sys.argv[2])
seconds = time.perf_counter() - start
print(json.dumps([seconds, memory_peak() - before]))
"""

THEIRS = """
import json, sys, time
import polars as pl
start = time.perf_counter()
log = pl.scan_parquet(sys.argv[1]).sort(["user_id", "timestamp"], maintain_order=True)
grouped = log.group_by("user_id", maintain_order=True).agg(pl.all()).collect()
seconds = time.perf_counter() - start
print(json.dumps([seconds, 0]))
"""


def write_log(path: Path, *, ordered: bool) -> None:
    """Users and items under random 63-bit ids, items by Zipf's law, two years of seconds, one int8 feedback."""
    rng = np.random.default_rng(SEED)
    users, items = (rng.permutation(rng.integers(1, 2**63 - 1, count)) for count in (USERS, ITEMS))
    weight = np.cumsum(1.0 / np.arange(1, ITEMS + 1))
    time = rng.integers(1_640_995_200, 1_640_995_200 + 2 * 365 * 86_400, EVENTS)
    pl.DataFrame(
        {
            "user_id": users[rng.integers(0, USERS, EVENTS)],
            "item_id": items[np.searchsorted(weight, rng.random(EVENTS) * weight[-1])],
            "timestamp": np.sort(time) if ordered else time,
            "like": (rng.random(EVENTS) < 0.1).astype(np.int8),
        }
    ).write_parquet(path)


def run(program: str, *arguments: Path) -> tuple[float, float]:
    """(seconds, bytes) that a program says of itself."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, memory = json.loads(answer.stdout)
    return seconds, memory


def compare(log: Path, runs: int) -> tuple[list[float], list[float]]:
    """Our time over theirs, and our bytes per event, of each alternation."""
    log.read_bytes()  # both find it in the page cache
    ratios, memory = [], []
    for number in range(runs):
        out = log.with_name(f"{log.stem}-{number}")
        theirs, _ = run(THEIRS, log)
        ours, peak = run(OURS, log, out)
        ratios.append(ours / theirs)
        memory.append(peak / EVENTS)
        print(
            f"{log.stem}: {ours:.2f} s, polars {theirs:.2f} s, ratio {ratios[-1]:.2f}, {memory[-1]:.1f} bytes an event"
        )
    return ratios, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="alternations for each of the two logs")
    parser.add_argument("--dry", action="store_true", help="measure and print, record nothing")
    options = parser.parse_args()
    if not options.dry:
        committed()
    measured = {}
    with tempfile.TemporaryDirectory(prefix="facta-prepare-") as folder:
        for name in ("ordered", "shuffled"):
            log = Path(folder) / f"{name}.parquet"
            write_log(log, ordered=name == "ordered")
            measured[name] = compare(log, options.runs)
    worst = max(measured, key=lambda name: statistics.median(measured[name][0]))
    medians = {name: round(statistics.median(ratios), 3) for name, (ratios, _) in measured.items()}
    memory = [value for _, values in measured.values() for value in values]
    print(f"medians {medians}; most memory {max(memory):.1f} bytes an event")
    if not options.dry:
        ratios = measured[worst][0]
        note = f"log {worst} in time, the slower of {medians}"
        record("prepare_10m_vs_polars", statistics.median(ratios), raw=ratios, seeds=[SEED], note=note)
        record("prepare_10m_bytes_per_event", max(memory), raw=memory, seeds=[SEED])


if __name__ == "__main__":
    main()
