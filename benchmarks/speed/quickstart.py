"""What a newcomer waits for: a fresh clone of this commit, its own .venv, `make quickstart`; then `make test`.

The clone knows nothing of this machine but pip's settings: no .venv, no data, no variables of the calling environment
beyond what a login shell has.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figure import Figure, module
from benchmarks.record import ROOT, committed, record

FIGURES: dict[str, Figure] = {
    "quickstart_seconds": Figure("<= 600", "s", module("quickstart"), "clean clone to finished `make quickstart`"),
    "test_seconds": Figure("<= 600", "s", module("quickstart"), "`make test` after set-up"),
}

KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TERM")


def environment() -> dict[str, str]:
    """A login shell's: what pip needs to find its index stays, a virtual environment in use does not."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(("PIP_", "SSL_"))}
    inside = Path(sys.prefix) / "bin"
    folders = [folder for folder in kept.get("PATH", os.defpath).split(os.pathsep) if Path(folder) != inside]
    return {**kept, "PATH": os.pathsep.join(folders)}


def timed(target: str, clone: Path) -> float:
    start = time.perf_counter()
    subprocess.run(["make", target], cwd=clone, env=environment(), check=True)
    return time.perf_counter() - start


def main() -> None:
    committed()
    with tempfile.TemporaryDirectory(prefix="facta-clone-") as folder:
        clone = Path(folder) / "facta"
        start = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", "--no-local", str(ROOT), str(clone)], check=True)
        quickstart = time.perf_counter() - start + timed("quickstart", clone)
        record("quickstart_seconds", quickstart, note="clone, install, download, five models, report")
        subprocess.run(["make", "setup"], cwd=clone, env=environment(), check=True)
        record("test_seconds", timed("test", clone))
    print(f"quickstart {quickstart:.0f} s; both are recorded: make figures")


if __name__ == "__main__":
    main()
