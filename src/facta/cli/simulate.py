"""`facta data simulate`: the event log of a simulated service with a known Bayes optimum."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from facta.cli import console
from facta.data.synthetic.simulate import write
from facta.data.synthetic.simulator import SimulatorConfig, World
from facta.hardware import human, memory_peak

_DEFAULT = SimulatorConfig()


def simulate(
    out: Annotated[Path, typer.Argument(help="Directory to write; it appears whole or not at all.")],
    users: Annotated[int, typer.Option(min=1, help="How many users.")] = _DEFAULT.users,
    items: Annotated[int, typer.Option(min=1, help="How many items.")] = _DEFAULT.items,
    events_per_user: Annotated[float, typer.Option(min=2, help="Mean length of a history.")] = _DEFAULT.events_per_user,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the users; the world does not change.")] = 0,
    as_json: console.JsonFlag = False,
) -> None:
    """Simulate a service; write its event log, its items, and the schema for `facta prepare`."""
    start = time.perf_counter()
    world = World(SimulatorConfig(users=users, items=items, events_per_user=events_per_user))
    with console.counting("simulating users") as progress:
        events = write(world, out, seed=seed, progress=progress)
    seconds = time.perf_counter() - start
    used = {"seconds": round(seconds, 3), "events_per_second": round(events / seconds), "memory_peak": memory_peak()}
    if as_json:
        console.emit({"path": str(out), "users": users, "items": items, "events": events, **used})
        return
    console.note(f"{users:,} users, {items:,} items, {events:,} events in '{out}'.")
    console.note(f"{events / seconds:,.0f} events a second, peak memory {human(memory_peak())}.")
    console.note(f"facta prepare {out}/events.parquet --items {out}/items.parquet --schema {out}/schema.json --out DIR")
