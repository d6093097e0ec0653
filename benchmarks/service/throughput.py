"""How many requests a second a service answers, and beside the same service with constant answers.

    python -m benchmarks.service.throughput            measure and record
    python -m benchmarks.service.throughput --look     measure and print only

HSTU of MovieLens 1M, all 6,040 histories imported, 1 GiB of cache, keys on, SQLite with default durability; 80 %
recommend (k 10) and 20 % events over random users, a closed loop of 32 connections by wrk, which runs on the same
cores. After 20 seconds of that load, turns of 10 seconds of the service and of `constant.py`.

serve_rps: median of the turns; serve_rps_vs_constant: median of the turns' ratios.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from tests.serving import serving

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.service.closed import closed
from benchmarks.service.world import world

FIGURES: dict[str, Figure] = {
    "serve_rps": Figure(
        ">= 2500", "1/s", module("throughput"), "requests a second, 80 % recommend and 20 % events, 32 connections"
    ),
    "serve_rps_vs_constant": Figure(
        ">= 0.3", "x", module("throughput"), "the same over the same app whose endpoints return constant bytes"
    ),
}

WARM, SECONDS, TURNS = 20, 10, 5


def main() -> None:
    look = looking(__doc__)
    with tempfile.TemporaryDirectory() as place:
        made = world(Path(place) / "world")
        config = made.config()
        with (
            made.serving(config) as server,
            serving(config, made.folder, ready=False, module="benchmarks.service.constant") as constant,
        ):
            closed(server, made, WARM)
            closed(constant, made, 2)
            ours, theirs, failed = [], [], 0
            for _ in range(TURNS):
                one, other = closed(server, made, SECONDS), closed(constant, made, SECONDS)
                ours.append(one.per_second)
                theirs.append(other.per_second)
                failed += one.failed
                print(f"{one.per_second:.0f}/s, constant {other.per_second:.0f}/s, {one.failed} failed", flush=True)
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    note = f"32 connections; constant {statistics.median(theirs):.0f}/s; {failed} failed"
    print(f"serve_rps {statistics.median(ours):.0f}, of the constant {statistics.median(ratios):.2f}; {note}")
    if not look:
        record("serve_rps", statistics.median(ours), raw=ours, note=note)
        record("serve_rps_vs_constant", statistics.median(ratios), raw=ratios, note=note)


if __name__ == "__main__":
    main()
