"""How long answers take when requests come as they do: Poisson arrivals, latency counted from when each was due.

    python -m benchmarks.service.latency            measure and record
    python -m benchmarks.service.latency --look     measure and print only

The service of `throughput.py`; the generator runs on the same cores. Turns of 20 seconds at 1,750 a second, after 20
seconds of the same load: the p99 of recommendations, and that of events, which wait for the disk, above twice the p99
of `fdatasync` on the same disk in the same seconds.

Beside a ranking: 500 a second, while one client ranks 16,384 candidates without pause by a second artifact in the same
engine (`--ranker`): interleaved HSTU of 4 layers and width 256, a person with 1,024 events.

Overload: three times what `throughput.py` finds in this run; how long a refusal takes, and the p99 at 1,750 a second a
minute later.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
from tests.serving import Server

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.service.closed import closed
from benchmarks.service.disk import flushing
from benchmarks.service.meanwhile import meanwhile
from benchmarks.service.opened import Plan, high, opened
from benchmarks.service.world import World, world
from benchmarks.speed.mfalcon import CLICK, EVENTS, ITEMS
from benchmarks.speed.mfalcon import model as cost_model
from facta.artifact.contents import ArtifactData
from facta.artifact.files import save

COMMAND = module("latency")
FIGURES: dict[str, Figure] = {
    "serve_recommend_p99_ms": Figure("<= 25", "ms", COMMAND, "1,750 requests a second: recommend, p99 from when due"),
    "serve_event_p99_over_fsync_ms": Figure(
        "<= 25", "ms", COMMAND, "the same: p99 of events above twice the p99 of fdatasync"
    ),
    "serve_p99_beside_ranking_ms": Figure(
        "<= 50", "ms", COMMAND, "500 a second beside a ranking of 16,384 candidates: recommend, p99"
    ),
    "serve_overload_reject_p99_ms": Figure("<= 50", "ms", COMMAND, "three times the capacity: p99 of refusals"),
    "serve_p99_after_overload_ms": Figure("", "ms", COMMAND, "1,750 a second, a minute after the overload: p99"),
}

RATE, BESIDE, TURNS, SECONDS, CANDIDATES = 1750.0, 500.0, 5, 20.0, 16_384


def plan(server: Server, made: World, rate: float = RATE, **changes: Any) -> Plan:
    return Plan(server.config.port, made.keys["admin"], (*made.users,), (*made.items,), rate, SECONDS, **changes)


def steady(server: Server, made: World) -> dict[str, tuple[list[float], str]]:
    answers, events = [], []
    flushes: list[float] = []
    for turn in range(TURNS):
        with flushing(made.folder) as taken:
            found = opened(plan(server, made, warm=20.0 if turn == 0 else 5.0, seed=turn))
        answers.append(high(found.recommend))
        events.append(high(found.events) - 2 * high(taken))
        flushes.append(high(taken))
        print(
            f"recommend p50 {high(found.recommend, 0.5):.1f} p99 {answers[-1]:.1f} ms; events p99 "
            f"{high(found.events):.1f} ms; fdatasync p99 {flushes[-1]:.1f} ms; "
            f"{len(found.refused)} refused, {found.failed} failed of {found.count:,}",
            flush=True,
        )
    note = f"{RATE:.0f}/s, Poisson; fdatasync p99 {statistics.median(flushes):.1f} ms"
    return {"serve_recommend_p99_ms": (answers, note), "serve_event_p99_over_fsync_ms": (events, note)}


def ranker(folder: Path) -> Path:
    """An artifact of the model of `mfalcon.py`, over numbers as ids."""
    made = cost_model(EVENTS + 1)
    rows = np.arange(ITEMS)
    catalogue = pl.DataFrame({"row": rows, "item_id": rows, "training_events": np.ones(ITEMS, np.int64)})
    schema: Mapping[str, Any] = {
        "events": 0, "users": 0, "content_hash": "00", "order": "user, timestamp, input row",
        "ids": {"user": "number", "item": "number"}, "fields": [CLICK.model_dump(mode="json")],
    }  # fmt: skip
    config = {"name": "ranker", "model": made.config.model_dump(mode="json"), "protocol": {}}
    save(ArtifactData(config, dict(schema), catalogue, made), folder / "ranker")
    return folder / "ranker"


@contextmanager
def ranking(server: Server, made: World, user: Any) -> Iterator[list[float]]:
    """A client that ranks without pause; seconds of each answer."""
    candidates = np.random.default_rng(0).integers(0, ITEMS, CANDIDATES).tolist()
    taken: list[float] = []
    headers = {"authorization": f"Bearer {made.keys['admin']}"}

    def rank(over: threading.Event) -> None:
        with httpx.Client(base_url=server.http.base_url, timeout=60, headers=headers) as http:
            while not over.is_set():
                answer = http.post("/v1/rank", json={"user_id": user, "candidates": candidates})
                answer.raise_for_status()
                taken.append(answer.elapsed.total_seconds())

    with meanwhile(rank):
        yield taken


def beside(made: World) -> tuple[list[float], str]:
    models = {"default": {"artifact": str(made.folder / "artifact"), "ranker": str(ranker(made.folder))}}
    limits = {"seconds": 60.0}
    found: list[float] = []
    with made.serving(made.config(models=models, limits=limits)) as server:
        longest = max(made.users, key=lambda user: server.http.get(f"/v1/users/{user}?events=0").json()["num_events"])
        with ranking(server, made, longest) as taken:
            for turn in range(TURNS):
                one = opened(plan(server, made, BESIDE, warm=20.0 if turn == 0 else 2.0, seed=turn))
                found.append(high(one.recommend))
                print(f"beside a ranking: recommend p99 {found[-1]:.1f} ms, {one.failed} failed", flush=True)
    return found, f"{BESIDE:.0f}/s; {len(taken)} rankings of {CANDIDATES:,}, median {statistics.median(taken):.2f} s"


def overload(server: Server, made: World) -> dict[str, tuple[list[float], str]]:
    capacity = closed(server, made, 10).per_second
    found = opened(plan(server, made, 3 * capacity, warm=5.0, connections=2048))
    said = f"capacity {capacity:.0f}/s, {len(found.refused):,} of {found.count:,} refused, {found.failed} failed"
    print(f"overload: refusals p99 {high(found.refused):.1f} ms; {said}", flush=True)
    after = opened(replace(plan(server, made), warm=60.0))
    return {
        "serve_overload_reject_p99_ms": ([high(found.refused)], said),
        "serve_p99_after_overload_ms": ([high(after.recommend)], said),
    }


def main() -> None:
    look = looking(__doc__)

    def say(found: Mapping[str, tuple[list[float], str]]) -> None:
        for name, (values, note) in found.items():
            print(f"{name} {statistics.median(values):.1f}; {note}", flush=True)
            if not look:
                record(name, statistics.median(values), raw=values, note=note)

    with tempfile.TemporaryDirectory() as place:
        made = world(Path(place) / "world")
        with made.serving() as server:
            say(steady(server, made))
            say(overload(server, made))
        say({"serve_p99_beside_ranking_ms": beside(made)})


if __name__ == "__main__":
    main()
