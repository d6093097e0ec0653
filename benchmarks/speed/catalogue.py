"""softmax_1m_peak_gib: a training step over a catalogue of a million items, with each of the losses.

    python -m benchmarks.speed.catalogue            measure and record
    python -m benchmarks.speed.catalogue --look     measure and print only

1,000,000 items x 64 dimensions, 128 histories of 200 events, HSTU of 2 layers, AdamW. Each loss runs in a process of
its own; the figure is the largest of the peaks of resident memory: interpreter, table, gradient, optimiser and all.
Each runs again with twice the histories, and the note tells by how much its peak grows: every logit of those, [T, V]
in float32, would be 102 GB more.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

from benchmarks.figure import Figure, module
from benchmarks.record import ROOT, committed, record

FIGURES: dict[str, Figure] = {
    "softmax_1m_peak_gib": Figure(
        "< 3", "GiB", module("catalogue"), "peak memory of a step over 1,000,000 items, largest of those noted"
    ),
}

ITEMS, WIDTH, ROWS, LENGTH = 1_000_000, 64, 128, 200
LOSSES = ("sampled-softmax", "softmax", "bce", "gbce")


def one(kind: str, rows: int = ROWS, catalogue: int = ITEMS) -> dict[str, float]:
    """Two optimiser steps with one of the losses: peak memory of the process in GiB, seconds of the second."""
    import torch
    from tests.worlds import batch_of

    from facta.data.batches.negatives import draw
    from facta.data.dataset.catalogue import Catalogue
    from facta.models.recommender import Recommender, RecommenderConfig
    from facta.training.optim import OptimiserConfig, adamw
    from facta.training.process import retain_freed_memory
    from facta.training.step import take_step
    from facta.types import Negatives

    torch.set_num_threads(2)
    config = RecommenderConfig.parse({"window": LENGTH, "width": WIDTH, "next_item": {"loss": {"kind": kind}}})
    model = Recommender(config, Catalogue(catalogue)).train()
    optimiser = adamw(model.parameter_groups(), OptimiserConfig())
    random = torch.Generator().manual_seed(0)
    items = torch.randint(catalogue, (rows, LENGTH + 1), generator=random).tolist()
    batch = batch_of(items, [[60_000 * i for i in range(LENGTH + 1)]] * rows)
    given = draw(model.negatives, batch, torch.ones(catalogue), 0) if model.negatives is not None else Negatives()
    with retain_freed_memory(model.parameters()):  # as the trainer does
        for _ in range(2):
            start = time.perf_counter()
            loss = take_step(model, optimiser, [(batch, given)], 1, clip_norm=None).loss
            seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"gib": peak, "seconds": seconds, "loss": loss}


def apart(kind: str, rows: int) -> dict[str, float]:
    """`one` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed.catalogue", "--one", kind, "--rows", str(rows)]
    found: dict[str, float] = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    print(f"{kind}, {rows} histories: {found}", flush=True)
    return found


def said(found: dict[str, dict[str, float]], doubled: dict[str, dict[str, float]]) -> str:
    """Memory, its growth and time of each loss, for the note."""
    parts = []
    for kind, x in found.items():
        more = doubled[kind]["gib"] - x["gib"]
        parts.append(f"{kind} {x['gib']:.2f} GiB ({more:+.2f} with twice the histories), {x['seconds']:.1f} s a step")
    return "; ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description="Losses over a million items.")
    parser.add_argument("--look", action="store_true", help="print, record nothing")
    parser.add_argument("--one", choices=LOSSES, help="measure one loss in this process and print JSON")
    parser.add_argument("--rows", type=int, default=ROWS, help="histories of --one")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.rows)))
        return
    if not given.look:
        committed()
    found = {kind: apart(kind, ROWS) for kind in LOSSES}
    note = said(found, {kind: apart(kind, 2 * ROWS) for kind in LOSSES})
    print(note)
    if not given.look:
        peaks = [x["gib"] for x in found.values()]
        record("softmax_1m_peak_gib", max(peaks), raw=peaks, spread=0.0, note=note)


if __name__ == "__main__":
    main()
