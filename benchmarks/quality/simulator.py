"""Feedback on the simulated service, whose best possible prediction is known: how much of the way to it is made.

    python -m benchmarks.quality.simulator                     all systems at a million events, the figures' one at ten
    python -m benchmarks.quality.simulator --events 1m gr-ranking [--seeds 1]

The gap is (NE of the model - NE of the floor) / (1 - NE of the floor) on the test events; 1 is the base rate, 0 the
exact forward algorithm over the hidden tastes (`facta.data.synthetic.floor`). The figure is the larger one of click and
long view. The floor of one who knows no history and the oracle that knows the taste stand beside it.
"""

from __future__ import annotations

import argparse
from functools import cache

import numpy as np

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import ROOT, committed, record
from benchmarks.runs import SEEDS, artifact
from facta.arrays import Floats
from facta.data.synthetic import simulate
from facta.data.synthetic.floor import Floor, floor
from facta.data.synthetic.simulator import SimulatorConfig, World, chunks
from facta.eval.feedback_metrics import entropy, losses

FIGURES: dict[str, Figure] = {
    **{
        f"simulator_feedback_gap_{size}": Figure(
            bar,
            "",
            module(f"simulator --events {size}"),
            f"simulator, {events} events: the way to the floor that NE has left",
        )
        for size, events, bar in (("1m", "1 million", "<= 0.15"), ("10m", "10 million", "<= 0.1"))
    },
    **{
        f"simulator_{name}_ne": Figure(
            bar,
            "NE",
            module("simulator --events 1m"),
            f"simulator, 1 million events, mean of both tasks: {what}",
        )
        for name, bar, what in (
            ("gr_ranking", "<= simulator_gr_fused_ne", "an action's token shows its item too"),
            ("gr_interleaved", "<= simulator_gr_fused_ne", "interleaved, an action's token shows the action alone"),
            ("gr_fused", "< simulator_gr_unconditioned_ne", "fused"),
            ("gr_unconditioned", "", "fused, the item hidden from the head"),
            ("dlrm", "", "DIN, DCN-v2 and MMoE over all features"),
            ("rates", "", "logistic regression on rates"),
        )
    },
}

USERS = {"1m": 20_000, "10m": 200_000}
FIELDS = ("click", "long_view")
SYSTEMS = ("gr-ranking", "gr-interleaved", "gr-fused", "gr-unconditioned", "dlrm", "rates")
CHANGES: dict[str, list[str]] = {"1m": [], "10m": ["training.epochs=3", "training.patience=null"]}


@cache
def log(size: str) -> facta.Dataset:
    """The simulated log, written and prepared once."""
    place = ROOT / "data" / f"simulator-{size}"
    if not place.exists():
        written = place.with_name(f"{place.name}-log")
        if not written.exists():
            simulate.write(World(SimulatorConfig()), written, users=USERS[size])
        schema, items = simulate.SCHEMA, written / "items.parquet"
        facta.prepare(written / "events.parquet", place, items=items, fields=schema.fields, item_fields=schema.items)
    return facta.Dataset.open(place)


@cache
def known(size: str) -> dict[str, Floats]:
    """[E] what floor and oracle say of every event, in the order of the dataset."""
    world, data = World(SimulatorConfig()), log(size)
    parts: list[Floor] = []
    items = []
    for _, events in chunks(world, 0, USERS[size]):
        parts.append(floor(world, events))
        items.append(events.item)
    if not np.array_equal(np.concatenate(items), data.items["item_id"].to_numpy()[data.item]):
        raise RuntimeError("The dataset is in another order than the simulation; prepare it again.")
    names = [f"{field}{who}" for field in FIELDS for who in ("", "_oracle", "_alone")]
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}


def normalised(predictions: facta.Predictions, field: str, p: Floats | None = None) -> float:
    """NE of the model, or of other predictions [S] of the same events."""
    own, y, _ = predictions.of(field)
    return float(losses(own if p is None else p, y).mean()) / entropy(float(y.mean()))


def gaps(size: str, predictions: facta.Predictions) -> tuple[dict[str, float], str]:
    """Field -> gap, and a sentence with all NE."""
    event = log(size).offsets[predictions.user] + predictions.place
    found, said = {}, []
    for field in FIELDS:
        best, oracle, alone = (
            normalised(predictions, field, known(size)[f"{field}{who}"][event]) for who in ("", "_oracle", "_alone")
        )
        model = normalised(predictions, field)
        found[field] = (model - best) / (1 - best)
        said.append(
            f"{field} NE {model:.4f}, floor {best:.4f}, oracle {oracle:.4f}, without history {alone:.4f}, "
            f"gap {found[field]:.1%}"
        )
    return found, "; ".join(said)


def system(name: str, size: str, seeds: tuple[int, ...]) -> None:
    """Train and measure one system."""
    worst, notes, ne = [], [], []
    for seed in seeds:
        trained = artifact(f"simulator/{name}", log(size), CHANGES[size], seed)
        predictions = facta.predict(trained, log(size))
        found, said = gaps(size, predictions)
        worst.append(max(found.values()))
        ne.append(float(np.mean([normalised(predictions, field) for field in FIELDS])))
        notes.append(said)
        print(f"{name}, {size}, seed {seed}: {said}", flush=True)
    note = f"{predictions.protocol}; seed {seeds[0]}: {notes[0]}"
    if name == "gr-ranking":
        record(f"simulator_feedback_gap_{size}", float(np.mean(worst)), raw=worst, seeds=seeds, note=note)
    if size == "1m":
        record(f"simulator_{name.replace('-', '_')}_ne", float(np.mean(ne)), raw=ne, seeds=seeds, note=note)


def main() -> None:
    parser = argparse.ArgumentParser(description="Feedback on the simulated service.")
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"of {', '.join(SYSTEMS)}; default: all")
    parser.add_argument("--events", choices=USERS, help="default: both")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    given = parser.parse_args()
    unknown = set(given.systems) - set(SYSTEMS)
    if unknown:
        parser.error(f"found {', '.join(sorted(unknown))}; expected of {', '.join(SYSTEMS)}")
    committed()
    for size in [given.events] if given.events else USERS:
        for name in given.systems or (SYSTEMS if size == "1m" else SYSTEMS[:1]):
            system(name, size, SEEDS[: given.seeds])


if __name__ == "__main__":
    main()
