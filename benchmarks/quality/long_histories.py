"""GR ranking against the DLRM where histories are long: people with 1,600 events, whose taste lasts some 500 of them.

    python -m benchmarks.quality.long_histories [--seeds 1]    three seeds
    python -m benchmarks.quality.long_histories --look         one seed, printed only
    python -m benchmarks.quality.long_histories --wider        a DLRM that attends to 200 events, printed only

The simulated log of `shortened.py`, of which the generative ranker reads the last 1,408 events, whole; the DLRM
attends to the last 50 as its recipe does, and counts all days before, of items, features, context and the person. Both
are told all before each event. The values are means of click and long view; `*_gain` is by how much GR is better, the
worse end of the paired 95 % interval over users and the worse one of both fields. The floor beside them is the forward
algorithm's, which nothing can be better than.
"""

from __future__ import annotations

import argparse

import numpy as np

import facta
from benchmarks.figure import Figure, module
from benchmarks.quality.shortened import FIELDS, RECIPE, WHOLE, WORLD, log
from benchmarks.quality.simulator import normalised
from benchmarks.record import committed, record
from benchmarks.runs import SEEDS, artifact, least_gain
from facta.arrays import Floats
from facta.data.synthetic.floor import floor
from facta.data.synthetic.simulator import World, chunks
from facta.eval.predictions import Predictions, differences


def _long() -> dict[str, Figure]:
    """GR against the DLRM on the simulated service, where histories are long."""
    found, command = {}, module("long_histories")
    for metric in ("NE", "GAUC"):
        name, what = f"simulator_long_{metric.lower()}", f"simulator, 1,600 events a user, mean {metric} of both fields"
        found |= {f"{name}_{side}": Figure("", metric, command, f"{what}: {side}") for side in ("gr", "dlrm")}
        better = f"{what}: by how much GR is better, the worse end of 95 % of the worse field"
        found[f"{name}_gain"] = Figure("> 0", metric, command, better)
    return found


FIGURES: dict[str, Figure] = _long()

METRICS, FURTHER = ("NE", "GAUC"), ["model.window=200"]


def predicted(system: str, changes: list[str], seed: int) -> Predictions:
    """What one run says of the test events."""
    found = facta.predict(artifact(system, log(), changes, seed), log())
    print(f"{system} {' '.join(changes)}, seed {seed}: {found}", flush=True)
    return found


def mean(found: Predictions, metric: str) -> float:
    return float(np.mean([found.means[f"{metric}({field})"] for field in FIELDS]))


def best(found: Predictions) -> float:
    """NE of the floor on the events of `found`, the mean of both fields."""
    parts = [floor(World(WORLD), events) for _, events in chunks(World(WORLD), 0, WORLD.users)]
    event = log().offsets[found.user] + found.place
    known: dict[str, Floats] = {field: np.concatenate([getattr(part, field) for part in parts]) for field in FIELDS}
    return float(np.mean([normalised(found, field, known[field][event]) for field in FIELDS]))


def main() -> None:
    parser = argparse.ArgumentParser(description="GR against the DLRM on long histories.")
    parser.add_argument("--look", action="store_true", help="one seed, print, record nothing")
    parser.add_argument("--wider", action="store_true", help="a DLRM with 200 events, one seed, printed only")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    given = parser.parse_args()
    look = given.look
    if given.wider:
        predicted("simulator/dlrm", FURTHER, SEEDS[0])
        return
    if not look:
        committed()
    seeds = SEEDS[: 1 if look else given.seeds]
    sides = {"gr": (RECIPE, WHOLE), "dlrm": ("simulator/dlrm", [])}
    runs = {side: [predicted(*system, seed) for seed in seeds] for side, system in sides.items()}
    lowest = best(runs["gr"][0])
    apart = {field: differences(runs["gr"], runs["dlrm"], field) for field in FIELDS}
    for metric in METRICS:
        moved = {field: apart[field][metric] for field in FIELDS}
        said = "; ".join(f"{field} {by:+.4f} [{low:+.4f}, {high:+.4f}]" for field, (by, (low, high)) in moved.items())
        note = f"GR minus DLRM: {said}; NE of the floor {lowest:.4f}"
        print(metric, {side: mean(found[0], metric) for side, found in runs.items()}, note, flush=True)
        if look:
            continue
        for side, found in runs.items():
            values = [mean(one, metric) for one in found]
            name = f"simulator_long_{metric.lower()}_{side}"
            record(name, float(np.mean(values)), raw=values, seeds=seeds, note=f"{found[0].protocol}; {note}")
        least = min(least_gain(metric, interval) for _, interval in moved.values())
        record(f"simulator_long_{metric.lower()}_gain", least, seeds=seeds, note=note)


if __name__ == "__main__":
    main()
