"""train_step_vs_eager and train_epoch_vs_rectools: how long HSTU's MovieLens 1M step and epoch take.

    python -m benchmarks.speed.epoch eager       one step against the published research step, padded and eager
    python -m benchmarks.speed.epoch rectools    one epoch against RecTools' HSTUModel (about 12 minutes)

2 layers, 1 head, D 50, window 200, batches of 128, 128 uniform negatives a position, dropout .2, both biases;
everything but each user's last event; two threads. A step is loss, gradients and AdamW on the same batch on both sides.
The other side is a process of its own: the research step with glibc's memory as it comes, and, for the note, with it
kept as our trainer keeps it (`retain_freed_memory`); RecTools in a virtual environment of its own (made below build/).
The sides take turns, a step or an epoch each, on the same number of positions; epochs from the second on, nothing
validated. `--look` prints and records nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.figure import Figure, module
from benchmarks.record import ROOT, committed, record
from benchmarks.runs import dataset
from benchmarks.speed import eager
from benchmarks.speed.turns import in_turns
from facta.data.batches.training import TrainingBatches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.models.recommender import Recommender
from facta.ops import backend
from facta.recipes.find import find
from facta.recipes.recipe import RecipeConfig
from facta.training.optim import OptimiserConfig, adamw
from facta.training.prefetch import prefetched
from facta.training.process import retain_freed_memory
from facta.training.step import take_step
from facta.types import Negatives, SequenceBatch

FIGURES: dict[str, Figure] = {
    "train_step_vs_eager": Figure(
        ">= 28", "x", module("epoch eager"), "HSTU's ML-1M step: time of the published, eager step over ours"
    ),
    "train_step_vs_eager_kept": Figure(
        "",
        "x",
        module("epoch eager"),
        "the same, the eager step's memory kept between steps as our trainer keeps it",
    ),
    "train_epoch_vs_rectools": Figure(
        ">= 16", "x", module("epoch rectools"), "HSTU's ML-1M epoch: time of RecTools' HSTUModel over ours"
    ),
}

THREADS, EPOCHS, RECTOOLS = 2, 6, "0.19.0"
TURNS, TRIES = 7, 2
SLOWEST = 2_500  # tokens a second of the eager step
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}  # glibc's names for what `retain_freed_memory` sets


class Ours:
    """The recipe's model and its batches."""

    def __init__(self, data: Dataset) -> None:
        recipe: RecipeConfig = find("movielens-1m/hstu").override(
            ["protocol.split=loo-paper", "training.patience=null", "training.schedule=constant"]
        )
        model = recipe.model.build(Catalogue.of(data), 0)
        assert isinstance(model, Recommender) and model.negatives is not None and recipe.training is not None
        self.model, self.negatives = model.train(), model.negatives.count
        self.batches = TrainingBatches(data, recipe.protocol.cut(data), window=model.window, batch_size=128)
        self.optimiser = adamw(model.parameter_groups(), OptimiserConfig())

    def step(self, batch: SequenceBatch) -> None:
        take_step(self.model, self.optimiser, [(batch, Negatives(each=self.negatives))], 1, clip_norm=None)

    def epoch(self, number: int) -> float:
        start = time.perf_counter()
        for batch in prefetched(lambda place: self.batches.batch(number, place), range(self.batches.steps(number))):
            self.step(batch)
        return time.perf_counter() - start

    def full_batch(self) -> SequenceBatch:
        return next(b for place in range(48) if len((b := self.batches.batch(0, place)).events.item) > 13_000)


def asked(command: Sequence[str | Path], count: int, **variables: str) -> Iterator[dict[str, Any]]:
    """An answer of another process each time that one is asked for; it reads a line and prints one of JSON."""
    pipe, given = subprocess.PIPE, {**os.environ, **variables}
    with subprocess.Popen(command, cwd=ROOT, env=given, stdin=pipe, stdout=pipe, text=True) as run:
        assert run.stdin is not None and run.stdout is not None
        for _ in range(count):
            run.stdin.write("\n")
            run.stdin.flush()
            answer = next((line for line in run.stdout if line.startswith("{")), None)
            if answer is None:
                raise RuntimeError("The other side ended before its last turn; its own words stand above.")
            yield json.loads(answer)


def published_steps(ours: Ours, kept: bool) -> None:
    """The other side: a step of the research code for each line read."""
    batch, model = ours.full_batch(), ours.model
    found, expected = eager.check(model, batch, ours.negatives)
    assert abs(found - expected) < 1e-4 * expected, f"the eager step's loss is {found}, the reference's {expected}"
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    with retain_freed_memory(model.parameters()) if kept else nullcontext():
        for _ in sys.stdin:
            drawn = torch.randint(model.num_items, (len(batch.events.item), ours.negatives))
            optimiser.zero_grad()
            eager.loss(model, batch, drawn, p=0.2).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            print(json.dumps({"loss": found, "reference": expected}), flush=True)


def against_eager(ours: Ours, look: bool) -> None:
    batch = ours.full_batch()
    tokens = len(batch.events.item)
    plain, kept = (
        asked([sys.executable, "-m", "benchmarks.speed.epoch", "eager", "--memory", memory], TURNS * TRIES + 1)
        for memory in ("plain", "kept")
    )
    losses, _ = next(plain), next(kept)  # the first step of each warms it up
    ours.step(batch)
    turns = in_turns(lambda: next(plain), lambda: ours.step(batch), TURNS, TRIES)
    beside = in_turns(lambda: next(kept), lambda: ours.step(batch), TURNS, TRIES)
    rate = tokens / statistics.median(turns.theirs)
    print(f"{tokens:,} tokens; loss {losses['loss']:.5f} (reference {losses['reference']:.5f}); {rate:,.0f} tokens/s")
    assert rate >= SLOWEST, f"the eager step makes {rate:,.0f} tokens a second, {SLOWEST:,} are wanted of it"
    if not look:
        size = f"{tokens:,} tokens in {len(batch.offsets) - 1} rows, loss equal; {backend.current()}"
        for name, found in (("train_step_vs_eager", turns), ("train_step_vs_eager_kept", beside)):
            note = f"{found.said}; eager {tokens / statistics.median(found.theirs):,.0f} tokens/s; {size}"
            record(name, statistics.median(found.ratios), raw=found.ratios, note=note)


def rectools_python() -> Path:
    """An interpreter with RecTools in it."""
    place = ROOT / "build" / f"rectools-{RECTOOLS}"
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        pins = [f"torch=={torch.__version__.split('+')[0]}", f"rectools[torch]=={RECTOOLS}"]
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        for pin in pins:  # torch first and alone: the build that the machine prefers
            subprocess.run([python, "-m", "pip", "install", "-qq", pin], check=True)
        (place / "ready").touch()
    return python


def written(data: Dataset) -> Path:
    """Everything but each user's last event, as RecTools' side reads it."""
    log = ROOT / "build" / "rectools-events.csv"
    log.parent.mkdir(exist_ok=True)
    lengths, newest = np.diff(data.offsets), data.offsets[1:] - 1
    events = {"user_id": np.repeat(np.arange(data.num_users), lengths), "item_id": np.asarray(data.item)}
    frame = pl.DataFrame({**events, "timestamp": np.asarray(data.timestamp)})
    frame.with_row_index().filter(~pl.col("index").is_in(newest)).drop("index").write_csv(log)
    return log


def against_rectools(ours: Ours, data: Dataset, look: bool) -> None:
    their, our = [], []
    side = [rectools_python(), ROOT / "benchmarks" / "rectools_side.py", written(data), str(EPOCHS), str(THREADS)]
    for number, epoch in enumerate(asked(side, EPOCHS)):
        same = epoch["positions"] == ours.batches.events
        assert same, f"RecTools trained on {epoch['positions']:,} positions, facta on {ours.batches.events:,}"
        their.append(epoch["seconds"])
        our.append(ours.epoch(number))
        print(f"epoch {number}: RecTools {their[-1]:.1f} s, facta {our[-1]:.2f} s", flush=True)
    raw = [theirs / own for theirs, own in zip(their[1:], our[1:], strict=True)]
    middle, own = statistics.median(their[1:]), statistics.median(our[1:])
    kept = [epoch["seconds"] for epoch in asked(side, 2, **KEPT)][1]
    print(f"RecTools with its memory kept as ours: {kept:.1f} s")
    if not look:
        times = f"RecTools {RECTOOLS} {middle:.1f} s ({kept:.1f} s with its memory kept as ours), facta {own:.2f} s"
        note = f"{times}, {ours.batches.events:,} positions each"
        record("train_epoch_vs_rectools", statistics.median(raw), raw=raw, note=f"{note}; {backend.current()}")


def main() -> None:
    parser = argparse.ArgumentParser(description="HSTU's step and epoch on MovieLens 1M.")
    parser.add_argument("side", choices=("eager", "rectools"))
    parser.add_argument("--look", action="store_true", help="print, record nothing")
    parser.add_argument("--memory", choices=("plain", "kept"), help="be the research step, with glibc so")
    given = parser.parse_args()
    if given.memory and given.side != "eager":
        parser.error("--memory is of the research step: epoch eager")
    if not given.look and not given.memory:
        committed()
    torch.set_num_threads(THREADS)
    data = dataset("movielens-1m")
    ours = Ours(data)
    if given.memory:
        published_steps(ours, given.memory == "kept")
        return
    with retain_freed_memory(ours.model.parameters()):  # as the trainer does
        against_eager(ours, given.look) if given.side == "eager" else against_rectools(ours, data, given.look)


if __name__ == "__main__":
    main()
