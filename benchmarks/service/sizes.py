"""What a service takes of memory.

    python -m benchmarks.service.sizes            measure and record
    python -m benchmarks.service.sizes --look     measure and print only

The service of `throughput.py`. Resident memory of the process that speaks HTTP and of the engine's when both are ready;
then 2,000 people are asked about: what the engine keeps of each, by its own count (`facta_engine_cache_bytes`), and by
how much its process has grown for each.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.serving import Server

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.service.soak import resident
from benchmarks.service.world import world

COMMAND = module("sizes")
FIGURES: dict[str, Figure] = {
    "serve_http_megabytes": Figure("", "MB", COMMAND, "resident memory of the process that speaks HTTP, when ready"),
    "serve_engine_megabytes": Figure("", "MB", COMMAND, "of the engine's process, HSTU of MovieLens 1M, when ready"),
    "serve_person_kilobytes": Figure("", "kB", COMMAND, "kept of a person of MovieLens 1M, 200 events at most"),
}

ASKED = 2000


def counter(server: Server, name: str) -> float:
    """A value of /metrics."""
    lines = server.http.get("/metrics").text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def main() -> None:
    look = looking(__doc__)
    with tempfile.TemporaryDirectory() as place:
        made = world(Path(place) / "world")
        with made.serving() as server:
            (engine,) = server.engines()
            http, before = resident(server.process.pid), resident(engine)
            for user in made.users[:ASKED]:
                server.post("/v1/recommend", {"user_id": user}).raise_for_status()
            kept = counter(server, "facta_engine_cache_bytes") / counter(server, "facta_engine_cache_people")
            grown = (resident(engine) - before) / ASKED
    note = f"the process grows by {grown / 1e3:.0f} kB a person"
    print(f"HTTP {http / 1e6:.0f} MB, engine {before / 1e6:.0f} MB, {kept / 1e3:.1f} kB a person; {note}")
    if not look:
        record("serve_http_megabytes", http / 1e6)
        record("serve_engine_megabytes", before / 1e6)
        record("serve_person_kilobytes", kept / 1e3, note=note)


if __name__ == "__main__":
    main()
