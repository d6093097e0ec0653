"""stream_10m_peak_gib: one pass in the order of time over ten million simulated events, interrupted and resumed.

    python -m benchmarks.quality.stream

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

from benchmarks.figure import Figure, module
from benchmarks.record import ROOT, committed, record

FIGURES: dict[str, Figure] = {
    "stream_10m_peak_gib": Figure(
        "",
        "GiB",
        module("stream"),
        "one pass over 10 million simulated events, interrupted and resumed: peak memory",
    ),
}

STREAM = ["training.hours=72", "training.epochs=1", "training.keep=last", "training.patience=null"]
SMALL = ["model.window=32", "model.width=32", "model.encoder.layers=2"]
INTERRUPTED = 130


@dataclass(frozen=True)
class Run:
    """A process that ended, or was interrupted."""

    status: int
    fingerprint: str | None
    gib: float
    seconds: float
    periods: int  # learned when it ended


def prepared(size: str) -> Path:
    """The log, made by another process: a child's peak of memory begins at that of its parent."""
    script = f"from benchmarks.quality.simulator import log; print(log({size!r}).path)"
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return Path(said.strip())


def run(size: str, out: Path, interrupt_after: float | None = None) -> Run:
    """`facta train`, from the start or from where it stopped."""
    changes = [part for change in (*STREAM, *SMALL) for part in ("--set", change)]
    command = [Path(sys.executable).with_name("facta"), "train", "simulator/gr-ranking", "--data", prepared(size)]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--out", out, *changes, "--json"], stdout=subprocess.PIPE, text=True)
    if interrupt_after is not None:
        time.sleep(interrupt_after)
        process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    journal = out.with_name(f"{out.name}.run") / "metrics.jsonl"
    periods = sum(json.loads(line)["event"] == "epoch" for line in journal.read_text().splitlines())
    fingerprint = json.loads(said)["fingerprint"] if said else None
    found = Run(process.returncode, fingerprint, used.ru_maxrss / 2**20, time.perf_counter() - began, periods)
    print(f"{size}: {found}", flush=True)
    return found


def main() -> None:
    committed()
    folder = ROOT / "runs" / "stream"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    small, large = run("1m", folder / "1m"), run("10m", folder / "10m")
    first = run("10m", folder / "resumed", large.seconds / 3)
    assert first.status == INTERRUPTED and 0 < first.periods < large.periods, "the interrupt did not hit the stream"
    second = run("10m", folder / "resumed")
    assert [found.status for found in (small, large, second)] == [0, 0, 0], "a run failed"
    assert second.fingerprint and second.fingerprint == large.fingerprint, "the resumed run gave another artifact"
    parts = f"interrupted after {first.periods} of {large.periods} periods and resumed: the same artifact"
    note = f"1 million events: {small.gib:.2f} GiB; {large.seconds:,.0f} s; {parts}, {large.fingerprint}"
    print(note)
    peaks = [large.gib, first.gib, second.gib]
    record("stream_10m_peak_gib", max(peaks), raw=peaks, note=note)


if __name__ == "__main__":
    main()
