"""How long a service takes to be ready, and an import.

    python -m benchmarks.service.starting            measure and record
    python -m benchmarks.service.starting --look     measure and print only

serve_import_1m_seconds: `facta import` of MovieLens 1M (1,000,209 events, 6,040 people) into a new SQLite store, the
process's start included. serve_start_seconds: from the start of the service, with this store, until /health/ready says
so.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.runs import dataset
from benchmarks.service.world import world

FIGURES: dict[str, Figure] = {
    "serve_start_seconds": Figure("<= 5", "s", module("starting"), "from start to ready, 1 million events stored"),
    "serve_import_1m_seconds": Figure("<= 60", "s", module("starting"), "facta import of 1 million events, SQLite"),
}

TURNS = 5


def main() -> None:
    look = looking(__doc__)
    data = dataset("movielens-1m")
    imports, starts = [], []
    with tempfile.TemporaryDirectory() as place:
        made = world(Path(place) / "world")
        for _ in range(TURNS):
            began = time.monotonic()
            with made.serving():
                starts.append(time.monotonic() - began)
            print(f"ready after {starts[-1]:.2f} s", flush=True)
        for turn in range(TURNS):
            store = f"sqlite:///{place}/import-{turn}.db"
            began = time.monotonic()
            subprocess.run(
                [sys.executable, "-m", "facta", "import", str(data.path), "--store", store],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            imports.append(time.monotonic() - began)
            print(f"imported in {imports[-1]:.1f} s", flush=True)
            Path(f"{place}/import-{turn}.db").unlink()
    if not look:
        record("serve_start_seconds", statistics.median(starts), raw=starts)
        record("serve_import_1m_seconds", statistics.median(imports), raw=imports)


if __name__ == "__main__":
    main()
