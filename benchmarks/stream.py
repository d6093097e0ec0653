"""stream_10m_peak_gib: one pass in the order of time over ten million simulated events, interrupted and resumed.

    python -m benchmarks.stream

The generative ranker of the simulator, 2 layers of width 32 with a window of 32, in periods of three days: each learns
the events of its period alone, and is asked about the next one first. `facta train` runs in a process of its own: over
the log of a million events, over that of ten, and over that again, where it is interrupted half-way (SIGINT) and
started once more. The figure is the largest peak of resident memory, mapped files and all; that of the small log stands
beside it. The artifact of the run in two parts must be the same to the bit.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import ROOT, committed, record
from benchmarks.simulator import log

STREAM = ["training.hours=72", "training.epochs=1", "training.keep=last", "training.patience=null"]
SMALL = ["model.window=32", "model.width=32", "model.encoder.layers=2"]


@dataclass(frozen=True)
class Run:
    """A process that ended, or was interrupted."""

    fingerprint: str | None
    gib: float
    seconds: float


def run(size: str, out: Path, interrupt_after: float | None = None) -> Run:
    """`facta train`, from the start or from where it stopped."""
    changes = [part for change in (*STREAM, *SMALL) for part in ("--set", change)]
    facta, data = Path(sys.executable).with_name("facta"), ROOT / "data" / f"simulator-{size}"
    command = [facta, "train", "simulator/gr-ranking", "--data", data]
    began = time.perf_counter()
    with subprocess.Popen([*command, "--out", out, *changes, "--json"], stdout=subprocess.PIPE, text=True) as process:
        if interrupt_after is not None:
            time.sleep(interrupt_after)
            process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        said = process.stdout.read()
        _, _, used = os.wait4(process.pid, 0)
    fingerprint = json.loads(said)["fingerprint"] if said else None
    found = Run(fingerprint, used.ru_maxrss / 2**20, time.perf_counter() - began)
    print(f"{size}: {found}", flush=True)
    return found


def main() -> None:
    committed()
    folder = ROOT / "runs" / "stream"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for size in ("1m", "10m"):
        print(log(size), flush=True)
    small, large = run("1m", folder / "1m"), run("10m", folder / "10m")
    first = run("10m", folder / "resumed", large.seconds / 2)
    assert first.fingerprint is None, "the run ended before it could be interrupted"
    second = run("10m", folder / "resumed")
    assert second.fingerprint == large.fingerprint, "the resumed run gave another artifact"
    peaks = [large.gib, first.gib, second.gib]
    parts = f"interrupted after {first.seconds:,.0f} s and resumed: the same artifact, {large.fingerprint}"
    note = f"1 million events: {small.gib:.2f} GiB; {large.seconds:,.0f} s; {parts}"
    print(note)
    record("stream_10m_peak_gib", max(peaks), raw=peaks, spread=0.0, note=note)


if __name__ == "__main__":
    main()
