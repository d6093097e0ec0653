"""What a live engine's answers cost, with keys and values kept and without, and whether it keeps within its budget.

    python -m benchmarks.speed.live              measure and record
    python -m benchmarks.speed.live --look       measure and print only

HSTU by the recipe of MovieLens 1M (2 layers of width 50, window 200, stride 25), 3,706 items, people with 100 to 300
events each. Whole answers, from the look-up in the store to ids and titles, k 10, for 32 people at once: an engine that
keeps keys and values against one that keeps coded histories alone, in turns. Then how much the process grows over the
bytes of its budget, after more people were asked about than it can keep. Weights are untrained: they change no time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from facta.artifact.model import restored, state_of
from facta.data.dataset.catalogue import Catalogue
from facta.models.recommender import RecommenderConfig
from facta.store.memory import MemoryStore
from facta.store.protocol import StoredEvent

COMMAND = module("live")
FIGURES: dict[str, Figure] = {
    "cached_answer_vs_uncached": Figure(
        ">= 3", "x", COMMAND, "whole answers for 32 people of MovieLens 1M's size, keys and values kept or not"
    ),
    "cache_budget_overrun": Figure(
        "<= 1.1", "x", COMMAND, "what a full cache adds to the resident memory, over its budget"
    ),
}
ITEMS, PEOPLE, TURNS, START, MINUTE = 3706, 32, 15, 1_600_000_000_000, 60_000
BUDGET, MANY = 256 << 20, 3000
CONFIG = RecommenderConfig.parse({"window": 200, "width": 50, "encoder": {"kind": "hstu", "layers": 2, "bias": "both"}})
SCHEMA = {"events": 0, "users": 0, "content_hash": "00", "order": "user, timestamp, input row"}


def artifact() -> facta.Artifact:
    rows = np.arange(ITEMS)
    catalogue = pl.DataFrame({"row": rows, "item_id": rows, "training_events": 1 + rows % 97})
    catalogue = catalogue.with_columns(title="Title " + pl.col("row").cast(pl.String))
    config = {"name": "benchmark", "model": CONFIG.model_dump(mode="json"), "protocol": {}}
    model = restored(CONFIG, Catalogue(ITEMS), state_of(CONFIG.build(Catalogue(ITEMS))))
    return facta.Artifact(config, SCHEMA, catalogue, model)


def store(people: int) -> MemoryStore:
    random, found = np.random.default_rng(0), MemoryStore()
    for user in range(people):
        items = random.integers(0, ITEMS, random.integers(100, 301)).tolist()
        found.append(
            [(user, StoredEvent(str(n), item, START + MINUTE * n)) for n, item in enumerate(items)],
        )
    return found


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def answers(made: facta.Artifact, events: MemoryStore) -> tuple[list[float], str]:
    kept, none = facta.Engine(made, store=events), facta.Engine(made, store=events)
    none.memories.budget = 0  # coded histories stay
    users = list(range(PEOPLE))
    right = none.recommend(users, 10)
    assert kept.recommend(users, 10).ids == kept.recommend(users, 10).ids == right.ids
    taken: dict[str, list[float]] = {"kept": [], "not kept": []}
    engines = {"kept": kept, "not kept": none}
    for turn in range(TURNS):
        for name in engines if turn % 2 else reversed(engines):
            taken[name].append(seconds(lambda name=name: engines[name].recommend(users, 10)))  # type: ignore[misc]
    said = ", ".join(f"{name} {1000 * statistics.median(values):.1f} ms" for name, values in taken.items())
    ratios = [one / other for one, other in zip(taken["not kept"], taken["kept"], strict=True)]
    return ratios, f"{torch.get_num_threads()} threads; {said}"


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * 4096


def overrun(made: facta.Artifact, events: MemoryStore) -> tuple[float, str]:
    """Asked twice about everybody: the cache is full after the first half, and everything in it has been replaced."""
    engine = facta.Engine(made, store=events, cache=BUDGET)
    facta.Engine(made, store=events, cache=0).recommend(list(range(PEOPLE)), 10)
    before = resident()
    for _ in range(2):
        for first in range(0, MANY, PEOPLE):
            engine.recommend(list(range(first, min(first + PEOPLE, MANY))), 10)
    grown, held = resident() - before, engine.memories.nbytes + engine.residents.nbytes
    assert engine.memories.evicted > 0
    said = f"budget {BUDGET >> 20} MiB, counted {held >> 20} MiB, grown by {grown >> 20} MiB"
    return grown / BUDGET, f"{said}; {len(engine.memories)} people"


def main() -> None:
    look = looking(__doc__)
    made, events = artifact(), store(MANY)
    value, said = overrun(made, events)
    print(f"cache_budget_overrun {value:.3f}: {said}")
    if not look:
        record("cache_budget_overrun", value, note=said)
    ratios, told = answers(made, events)
    print(f"cached_answer_vs_uncached {statistics.median(ratios):.2f}: {told}")
    if not look:
        record("cached_answer_vs_uncached", statistics.median(ratios), raw=ratios, note=told)


if __name__ == "__main__":
    main()
