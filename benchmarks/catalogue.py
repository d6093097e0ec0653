"""softmax_1m_peak_gib: a training step over a catalogue of a million items, with sampled and with full softmax.

    python -m benchmarks.catalogue            measure and record
    python -m benchmarks.catalogue --look     measure and print only

1,000,000 items x 64 dimensions, 128 histories of 200 events, HSTU of 2 layers, AdamW. Each loss runs in a process of
its own; the figure is the larger of the two peaks of resident memory: interpreter, table, gradient, optimiser and all.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

from benchmarks.figures import ROOT, committed, record

ITEMS, WIDTH, ROWS, LENGTH = 1_000_000, 64, 128, 200
LOSSES = ("sampled-softmax", "softmax")


def one(kind: str) -> dict[str, float]:
    """Two optimiser steps with one of the losses; seconds of the second."""
    import torch
    from tests.worlds import batch_of

    from facta.data.catalogue import Catalogue
    from facta.data.negatives import draw
    from facta.models.recommender import Recommender, RecommenderConfig
    from facta.train.optim import OptimiserConfig, adamw
    from facta.train.step import take_step
    from facta.types import Negatives

    torch.set_num_threads(2)
    config = RecommenderConfig.parse({"window": LENGTH, "width": WIDTH, "next_item": {"loss": {"kind": kind}}})
    model = Recommender(config, Catalogue(ITEMS)).train()
    optimiser = adamw(model.parameter_groups(), OptimiserConfig())
    random = torch.Generator().manual_seed(0)
    items = torch.randint(ITEMS, (ROWS, LENGTH + 1), generator=random).tolist()
    batch = batch_of(items, [[60_000 * i for i in range(LENGTH + 1)]] * ROWS)
    given = draw(model.negatives, batch, torch.ones(ITEMS), 0) if model.negatives is not None else Negatives()
    for _ in range(2):
        start = time.perf_counter()
        loss = take_step(model, optimiser, [(batch, given)], 1, clip_norm=None).loss
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"gib": peak, "seconds": seconds, "loss": loss}


def main() -> None:
    parser = argparse.ArgumentParser(description="Losses over a million items.")
    parser.add_argument("--look", action="store_true", help="print, record nothing")
    parser.add_argument("--one", choices=LOSSES, help="measure one loss in this process and print JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one)))
        return
    if not given.look:
        committed()
    found = {}
    for kind in LOSSES:
        command = [sys.executable, "-m", "benchmarks.catalogue", "--one", kind]
        found[kind] = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
        print(f"{kind}: {found[kind]}", flush=True)
    if not given.look:
        note = "; ".join(f"{kind} {x['gib']:.2f} GiB, {x['seconds']:.1f} s a step" for kind, x in found.items())
        peaks = [x["gib"] for x in found.values()]
        record("softmax_1m_peak_gib", max(peaks), raw=peaks, spread=0.0, note=note)


if __name__ == "__main__":
    main()
