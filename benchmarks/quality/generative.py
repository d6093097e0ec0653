"""generative_cost_slope_*, generative_ne_apart: one example per user against one example per impression.

    python -m benchmarks.quality.generative            measure, record, and draw docs/generative.svg
    python -m benchmarks.quality.generative --look     measure and print only

Every history of the simulated service has exactly N events here; the model is simulator/gr-ranking. Generative training
takes a loss at every action of a user's row; an impression-level example carries one action and all that came before
it (Zhai et al. 2024, section 2.3: a factor of N). The cost factor per event seen is the ratio of both, in FLOPs of the
model's own count and in seconds of whole training steps (one thread); its slope is that of a line through the
logarithms. NE is compared after one epoch each, which shows both the same events, on the same test events.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import ROOT, committed, record
from facta.data.batches.training import Examples, TrainingBatches
from facta.data.dataset.catalogue import Catalogue
from facta.data.split.splits import temporal
from facta.data.synthetic import simulate
from facta.data.synthetic.simulator import SimulatorConfig, World
from facta.eval.predictions import differences
from facta.models.recommender import Recommender, RecommenderConfig
from facta.training.optim import adamw
from facta.training.step import take_step
from facta.types import Negatives

FIGURES: dict[str, Figure] = {
    "generative_cost_slope_flops": Figure(
        ">= 0.8",
        "",
        module("generative"),
        "cost per event seen, impressions over users, log-log slope in N: FLOPs",
    ),
    "generative_cost_slope_seconds": Figure(
        ">= 0.8", "", module("generative"), "the same in seconds of training steps, N 16 … 128"
    ),
    "generative_ne_apart": Figure(
        "", "NE", module("generative"), "impression-level against generative training at equal events seen"
    ),
}

COUNTED, TIMED, TURNS = (16, 32, 64, 128, 256), (16, 32, 64, 128), 5
EVENTS = 4_096  # inputs of a timed step, about
NE_LENGTH, NE_USERS = 32, 4_000
EXAMPLES: tuple[Examples, Examples] = ("user", "impression")


def log(place: Path, length: int, users: int) -> facta.Dataset:
    """A log of users with `length` events each."""
    config = SimulatorConfig(users=users, items=2_000, events_per_user=length, length_spread=0.0)
    simulate.write(World(config), place / "log")
    schema, items = simulate.SCHEMA, place / "log" / "items.parquet"
    source = place / "log" / "events.parquet"
    return facta.prepare(source, place / "data", items=items, fields=schema.fields, item_fields=schema.items)


def config(length: int) -> RecommenderConfig:
    model = facta.find_recipe("simulator/gr-ranking", [f"model.window={length}"]).model
    assert isinstance(model, RecommenderConfig)
    return model


def flops(model: Recommender, tokens: int) -> float:
    return model.cost(tokens).flops_per_token * tokens


def counted(length: int, catalogue: Catalogue) -> float:
    """FLOPs an event: impressions over users. An event is two tokens."""
    model = Recommender(config(length), catalogue)
    user = flops(model, 2 * length) / length
    return sum(flops(model, 2 * (before + 1)) for before in range(length)) / length / user


class Steps:
    """Whole training steps of one kind of example, and how long they take an event seen."""

    def __init__(self, data: facta.Dataset, length: int, examples: Examples) -> None:
        split = temporal(data, test_from=np.iinfo(np.int64).max)
        self.model = Recommender(config(length), Catalogue.of(data))
        settings = facta.find_recipe("simulator/gr-ranking").training
        assert settings is not None
        self.optimiser = adamw(self.model.parameter_groups(), settings)
        inputs = length if examples == "user" else (length + 1) / 2
        self.batches = TrainingBatches(
            data, split, window=length, batch_size=max(round(EVENTS / inputs), 1),
            spec=self.model.inputs, examples=examples,
        )  # fmt: skip
        self.place = 0
        self()

    def __call__(self) -> float:
        """Seconds an event whose feedback was learned."""
        batch = self.batches.batch(0, self.place % self.batches.steps(0))
        self.place += 1
        began = time.perf_counter()
        take_step(self.model, self.optimiser, [(batch, Negatives())], 1, clip_norm=None)
        return (time.perf_counter() - began) / len(batch.targets.num_visible)


def timed(length: int) -> list[float]:
    """Seconds an event, impressions over users, in turns."""
    with TemporaryDirectory() as folder:
        data = log(Path(folder), length, max(EVENTS * 4 // length, 8))
        user, impression = (Steps(data, length, examples) for examples in EXAMPLES)
        return [impression() / user() for _ in range(TURNS)]


def slope(factors: dict[int, float]) -> float:
    """Of the logarithms."""
    return float(np.polyfit(np.log(list(factors)), np.log(list(factors.values())), 1)[0])


def compared(folder: Path) -> dict[str, tuple[float, tuple[float, float]]]:
    """Field -> (NE of impressions minus NE of users, 95 % interval), one epoch each."""
    data = log(folder, NE_LENGTH, NE_USERS)
    found = []
    for examples in EXAMPLES:
        changes = [f"training.examples={examples}", "training.epochs=1", "training.patience=null"]
        if examples == "impression":  # as many events learned a step
            changes.append(f"training.batch_size={64 * NE_LENGTH}")
        found.append(facta.predict(facta.train(data, "simulator/gr-ranking", folder / examples, changes), data))
    return {field: differences([found[1]], [found[0]], field)["NE"] for field in found[0].p}


def draw(in_flops: dict[int, float], in_seconds: dict[int, float]) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.4), constrained_layout=True)
    axes.loglog(list(in_flops), list(in_flops.values()), marker="o", base=2, label="FLOPs")
    axes.loglog(list(in_seconds), list(in_seconds.values()), marker="s", base=2, label="seconds")
    axes.set(xlabel="events of a history, N", ylabel="cost per event seen:\nimpressions over users")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(ROOT / "docs" / "generative.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description="Generative training against impression-level training.")
    parser.add_argument("--look", action="store_true", help="print, record nothing")
    given = parser.parse_args()
    if not given.look:
        committed()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        catalogue = Catalogue.of(log(Path(folder), COUNTED[0], 8))
    in_flops = {length: counted(length, catalogue) for length in COUNTED}
    turns = {length: timed(length) for length in TIMED}
    in_seconds = {length: statistics.median(found) for length, found in turns.items()}
    print(f"FLOPs {in_flops}\nseconds {in_seconds}", flush=True)
    with TemporaryDirectory() as folder:
        apart = compared(Path(folder))
    print(apart)
    if given.look:
        return
    note = ", ".join(f"N {length}: {factor:.1f}" for length, factor in in_flops.items())
    record("generative_cost_slope_flops", slope(in_flops), note=f"factor {note}")
    note = ", ".join(f"N {length}: {factor:.1f}" for length, factor in in_seconds.items())
    record("generative_cost_slope_seconds", slope(in_seconds), note=f"1 thread; factor {note}")
    said = "; ".join(f"{field} {by:+.4f} [{low:+.4f}, {high:+.4f}]" for field, (by, (low, high)) in apart.items())
    record("generative_ne_apart", max(abs(by) for by, _ in apart.values()), note=f"impressions minus users: {said}")
    draw(in_flops, in_seconds)


if __name__ == "__main__":
    main()
