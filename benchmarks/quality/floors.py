"""The simulated service itself: how fast its log is written, and what the best prediction from it is.

    python -m benchmarks.quality.floors            a million events
    python -m benchmarks.quality.floors --users 2000

Simulated and written in the input format, events a second on the cores at hand. NE of click and long view for the
floor (the forward algorithm over the hidden tastes), for one without any history, and for the oracle that knows the
taste; and in nats what they lose on the item that people choose by themselves (`organic`), surface and time known.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure, module
from benchmarks.record import committed, record
from facta.arrays import Floats
from facta.data.synthetic import simulate
from facta.data.synthetic.floor import floor
from facta.data.synthetic.simulator import SURFACES, SimulatorConfig, World, chunks
from facta.eval.feedback_metrics import entropy, losses

FIGURES: dict[str, Figure] = {
    "simulate_events_per_second": Figure(
        ">= 50000", "events/s", module("floors"), "`facta data simulate`, a million events, written as Parquet"
    ),
    "simulator_floor_ne_least": Figure(
        ">= 0.8",
        "NE",
        module("floors"),
        "the simulated service: NE of the best prediction, the lower of both fields",
    ),
    "simulator_floor_ne_most": Figure("<= 0.9", "NE", module("floors"), "the same, the higher one"),
    "simulator_without_history_way_up": Figure(
        ">= 0.4", "", module("floors"), "how far from the floor to the base rate one stays who knows no history"
    ),
    "simulator_item_floor_nats": Figure("", "nats", module("floors"), "loss of the floor on the next item chosen"),
    "simulator_item_oracle_nats": Figure("", "nats", module("floors"), "the same of one who knows the taste"),
}

WORLD, USERS, RUNS = SimulatorConfig(), 20_000, 5
FIELDS, WHO = ("click", "long_view"), ("", "_alone", "_oracle")


def written(users: int) -> list[float]:
    """Events a second of each run."""
    found = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            total = simulate.write(World(WORLD), Path(folder) / "log", users=users)
            found.append(total / (time.perf_counter() - began))
    return found


def known(users: int) -> tuple[dict[str, float], dict[str, float]]:
    """NE by field and who says it; nats of the item that was chosen, by who says it."""
    world = World(WORLD)
    parts = [(floor(world, events), events) for _, events in chunks(world, 0, users)]

    def of(name: str) -> Floats:
        return np.concatenate([getattr(one, name) for one, _ in parts])

    ne = {}
    for field in FIELDS:
        y = np.concatenate([getattr(events, field) for _, events in parts])
        ne |= {f"{field}{who}": float(losses(of(field + who), y).mean()) / entropy(float(y.mean())) for who in WHO}
    organic = np.concatenate([events.steps.surface == SURFACES.index("organic") for _, events in parts])
    return ne, {who: float(-np.log(of(f"item{who}")[organic]).mean()) for who in ("", "_oracle")}


def main() -> None:
    parser = argparse.ArgumentParser(description="The simulated service: speed and floors.")
    parser.add_argument("--users", type=int, help="fewer, and record nothing")
    given = parser.parse_args()
    if given.users is None:
        committed()
    speed, (ne, nats) = written(given.users or USERS), known(given.users or USERS)
    up = {field: (ne[f"{field}_alone"] - ne[field]) / (1 - ne[field]) for field in FIELDS}
    said = "; ".join(
        f"{field}: floor {ne[field]:.4f}, no history {ne[f'{field}_alone']:.4f}, oracle {ne[f'{field}_oracle']:.4f}"
        for field in FIELDS
    )
    items = f"next item, chosen: floor {nats['']:.3f} nats, oracle {nats['_oracle']:.3f}"
    print(f"{np.median(speed):,.0f} events/s; NE of {said}; {items}", flush=True)
    if given.users is not None:
        return
    median, note = float(np.median(speed)), f"{USERS:,} users, written as Parquet"
    record("simulate_events_per_second", median, raw=speed, note=note)
    record("simulator_floor_ne_least", min(ne[field] for field in FIELDS), note=said)
    record("simulator_floor_ne_most", max(ne[field] for field in FIELDS), note=said)
    record("simulator_without_history_way_up", min(up.values()), note=said)
    record("simulator_item_floor_nats", nats[""], note=items)
    record("simulator_item_oracle_nats", nats["_oracle"], note=items)


if __name__ == "__main__":
    main()
