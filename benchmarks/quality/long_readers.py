"""Who reads long histories best, and at what cost: SIM, TWIN, TransAct, DIN, GR and FuXi-Linear.

    python -m benchmarks.quality.long_readers [SYSTEM...] [--seeds 3]    measure and record; by default all systems
    python -m benchmarks.quality.long_readers --look [SYSTEM...]         one seed, printed only

The simulated log of `shortened.py`: people with 1,600 events, whose taste lasts some 500 of them. GR and
FuXi-Linear read the last 1,408 events, SIM and TWIN search the last 1,000, DIN and TransAct see the last 50 (published
are 100 for TransAct, at twice the time). The rankers beside DIN have its tower, features and counts. All are told all
before each event. NE and GAUC are means of click and long view; the note has the paired difference to DIN.

Cost is the forward pass of one prediction with 1,000 events before it, in millions of operations, matrix products
alone. Nothing is kept from earlier calls and nothing is shared with other predictions; while a model learns, events of
a row share much of it. Seconds are of all training steps; the note says on how many threads.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
import torch

import facta
from benchmarks.figure import Figure, module
from benchmarks.quality.long_histories import METRICS, mean
from benchmarks.quality.shortened import FIELDS, RECIPE, WHOLE, log
from benchmarks.record import committed, record
from benchmarks.runs import SEEDS, artifact, place
from facta.eval.predictions import Predictions, differences
from facta.training import journal

READERS = {
    "din": "DIN over 50 events",
    "sim": "SIM, same category among 1,000 events",
    "sim_soft": "SIM, soft search",
    "twin": "TWIN, 100 of 1,000 events",
    "transact": "TransAct over 50 events",
    "gr": "GR over 1,408 events",
    "fuxi_linear": "the same with FuXi-Linear",
}
"""The arms of `long_readers.py`."""


def _readers() -> dict[str, Figure]:
    """What reads long histories, and what it costs."""
    said = {
        "ne": ("NE", "mean NE of both fields"),
        "gauc": ("GAUC", "mean GAUC of both fields"),
        "mflop": ("MFLOP", "one prediction, nothing kept"),
        "seconds": ("s", "training"),
    }
    return {
        f"simulator_readers_{name}_{system}": Figure(
            "", unit, module(f"long_readers {system}"), f"simulator, 1,600 events a user, {what}: {reader}"
        )
        for system, reader in READERS.items()
        for name, (unit, what) in said.items()
    }


FIGURES: dict[str, Figure] = _readers()

EVENTS = 1_000  # of the person whose prediction is counted
SYSTEMS: Mapping[str, tuple[str, list[str]]] = {
    "din": ("simulator/dlrm", []),
    "sim": ("simulator/sim", []),
    "sim_soft": ("simulator/sim", ["model.history.search=soft"]),
    "twin": ("simulator/twin", []),
    "transact": ("simulator/transact", ["model.history.actions=50"]),
    "gr": (RECIPE, WHOLE),
    "fuxi_linear": (
        "simulator/gr-fuxi-linear",
        ["model.window=1408", "training.batch_size=1", "training.patience=null"],
    ),
}


GENERATIVE = ("gr", "fuxi_linear")


class Measured:
    """One system, trained once a seed."""

    def __init__(self, system: str, data: facta.Dataset, seeds: Sequence[int], more: Sequence[str] = ()) -> None:
        recipe, changes = SYSTEMS[system]
        changes = [*changes, *more]
        trained = [artifact(recipe, data, changes, seed) for seed in seeds]
        self.runs = [facta.predict(one, data) for one in trained]
        epochs = [journal.read(facta.run_folder(place(recipe, changes, seed)), "epoch") for seed in seeds]
        self.seconds = [found[-1]["seconds"] for found in epochs]
        self.mflop = operations(trained[0], generative=system in GENERATIVE)
        print(system, *self.runs, f"{np.mean(self.seconds):.0f} s, {self.mflop:.1f} MFLOP", sep="\n", flush=True)

    def values(self) -> dict[str, list[float]]:
        """Figure -> its value of each seed, or of all."""
        found = {metric.lower(): [mean(one, metric) for one in self.runs] for metric in METRICS}
        return {**found, "mflop": [self.mflop], "seconds": self.seconds}


def operations(trained: facta.Artifact, *, generative: bool) -> float:
    """Millions, of one prediction; a generative model reads the tokens of all events, and one of the item."""
    tokens = EVENTS * trained.model.tokens_per_event
    return trained.model.cost(tokens).flops_per_token * (tokens + 1 if generative else 1) / 1e6


def apart(runs: Sequence[Predictions], others: Sequence[Predictions]) -> str:
    """Paired differences with their 95 % intervals over users."""
    said = []
    for field in FIELDS:
        for metric, (by, (low, high)) in differences(runs, others, field).items():
            if metric in METRICS:
                said.append(f"{metric}({field}) {by:+.4f} [{low:+.4f}, {high:+.4f}]")
    return "; ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("systems", nargs="*", default=list(SYSTEMS), metavar="SYSTEM", help=", ".join(SYSTEMS))
    parser.add_argument("--look", action="store_true", help="one seed, print, record nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    given = parser.parse_args()
    if not given.look:
        committed()
    seeds = SEEDS[: 1 if given.look else given.seeds]
    base = Measured("din", log(), seeds)
    for system in given.systems:
        found = base if system == "din" else Measured(system, log(), seeds)
        note = f"{found.runs[0].protocol}; {torch.get_num_threads()} threads"
        note += "" if found is base else f"; minus DIN: {apart(found.runs, base.runs)}"
        print(note, flush=True)
        if given.look:
            continue
        for name, values in found.values().items():
            record(f"simulator_readers_{name}_{system}", float(np.mean(values)), raw=values, seeds=seeds, note=note)


if __name__ == "__main__":
    main()
