"""Ten minutes of load: whether anything fails, and whether memory grows.

    python -m benchmarks.service.soak            measure and record
    python -m benchmarks.service.soak --look     measure and print only

The service of `throughput.py`, 200,000 requests at 334 a second. serve_soak_growth: the resident memory of both
processes together at the end over that after two minutes, less 1.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.service.meanwhile import meanwhile
from benchmarks.service.opened import Plan, high, opened
from benchmarks.service.world import world

FIGURES: dict[str, Figure] = {
    "serve_soak_failures": Figure("<= 0", "", module("soak"), "requests of 200,000 in ten minutes that fail"),
    "serve_soak_growth": Figure(
        "<= 0.05", "share", module("soak"), "growth of both processes' memory after the second minute"
    ),
}

RATE, SECONDS, FIRST = 334.0, 600.0, 120.0


def resident(process: int) -> int:
    """Bytes of a process in memory."""
    return int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1]) * 4096


def main() -> None:
    look = looking(__doc__)
    with tempfile.TemporaryDirectory() as place:
        made = world(Path(place) / "world")
        with made.serving() as server:
            processes = [server.process.pid, *server.engines()]
            sizes: list[int] = []

            def watch(over: threading.Event) -> None:
                while not over.wait(1.0):
                    sizes.append(sum(map(resident, processes)))

            plan = Plan(server.config.port, made.keys["admin"], (*made.users,), (*made.items,), RATE, SECONDS, warm=0.0)
            began = time.monotonic()
            with meanwhile(watch):
                found = opened(plan)
            assert processes[1:] == server.engines(), "an engine was started again"
    failed = found.failed + len(found.refused)
    early = sizes[int(FIRST * len(sizes) / (time.monotonic() - began))]
    growth = sizes[-1] / early - 1
    note = f"{found.count:,} requests; {early >> 20} MiB after two minutes, {sizes[-1] >> 20} MiB at the end"
    print(f"{failed} failed, grown by {growth:.3f}; {note}; recommend p99 {high(found.recommend):.1f} ms")
    if not look:
        record("serve_soak_failures", failed, note=note)
        record("serve_soak_growth", growth, note=note)


if __name__ == "__main__":
    main()
