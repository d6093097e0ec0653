"""Broken surroundings: markup in names, narrow or closed outputs, signals, two commands at once, odd seeds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

import facta
from facta.data.log import writing
from tests.robustness.cases import SECONDS, Answer, Case, in_process, in_subprocess
from tests.robustness.files import DATASET
from tests.robustness.logs import START, csv, prepare, rows
from tests.robustness.places import asking

NAMES = "names with markup"
MARKED = ("rating<b>", "price[/kg]", "[red]tag", "<img src=x>")


def _marked(folder: Path) -> list[str]:
    lines = [(*line, 1 + number % 5, number % 7, number % 3, "text") for number, line in enumerate(rows())]
    return prepare(folder, csv(folder / "log.csv", lines, ",".join(("user_id", "item_id", "timestamp", *MARKED))))


MARKUP = (
    Case(
        NAMES,
        "columns",
        _marked,
        r"rating<b>, price\[/kg\], \[red\]tag",
        repaired=True,
        leaves=DATASET,
        holds=lambda folder, _: list(facta.Dataset.open(folder / "out").fields) == list(MARKED[:3]),
    ),
    Case(
        NAMES,
        "a file",
        lambda folder: [(folder / "log [").mkdir(), "doctor", str(csv(folder / "log [" / "b].csv", rows()))][1:],
        "notes?|0 errors",
        repaired=True,
    ),
)

OUTPUT = "narrow and closed outputs"


def _titled(folder: Path) -> list[str]:
    items = pl.DataFrame({"item_id": range(1, 6), "title": ["Žofie 名前 🦊"] * 5})
    log = pl.DataFrame(rows(), schema=["user_id", "item_id", "timestamp"], orient="row")
    dataset = facta.prepare(log, folder / "data", items=items)
    facta.train(dataset, "debug/popularity", folder / "artifact")
    return ["recommend", str(folder / "artifact"), "--history", "1,2"]


def _encoded(encoding: str) -> Callable[[Sequence[str]], Answer]:
    def run(arguments: Sequence[str]) -> Answer:
        command = [sys.executable, "-c", "from facta.cli import main; main()", *arguments]
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "OMP_NUM_THREADS": "1"}
        run = subprocess.run(command, capture_output=True, timeout=SECONDS, env=environment, check=False)
        return Answer(run.returncode, run.stdout.decode(encoding), run.stderr.decode(encoding))

    return run


def _closed(descriptor: int) -> Callable[[Sequence[str]], Answer]:
    return lambda arguments: in_subprocess(arguments, before=lambda: os.close(descriptor))


def _nobody_reads(arguments: Sequence[str]) -> Answer:
    """The reader of stdout goes away before anything is written, as `head` may."""
    command = [sys.executable, "-c", "from facta.cli import main; main()", *arguments]
    reading, writing_end = os.pipe()
    os.close(reading)
    with os.fdopen(writing_end, "w") as stdout:
        run = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=SECONDS, check=False)
    quiet = "" if "Broken" in run.stderr or "Exception" in run.stderr else "quiet"
    return Answer(0 if run.returncode in (1, 141) else run.returncode, "", run.stderr + quiet)


OUTPUTS = (
    Case(OUTPUT, "titles on an ASCII stdout", _titled, r"\\u017dofie", repaired=True, run=_encoded("ascii")),
    Case(OUTPUT, "titles on a Windows stdout", _titled, r"Žofie", repaired=True, run=_encoded("cp1252")),
    Case(
        OUTPUT,
        "titles as JSON on an ASCII stdout",
        lambda folder: [*_titled(folder), "--json"],
        r"\\ud83e\\udd8a",
        repaired=True,
        run=_encoded("ascii"),
    ),
    Case(OUTPUT, "a closed stdout", asking("info", "ARTIFACT"), "", repaired=True, run=_closed(1)),
    Case(
        OUTPUT, "nobody reads stdout", asking("info", "ARTIFACT", "--json"), "quiet", repaired=True, run=_nobody_reads
    ),
)

SEEDS = "odd seeds"
TRAIN = ("train", "debug/sasrec-ss", "--data", "DATASET", "--out", "OUT", "--set")
ODD_SEEDS = (
    Case(SEEDS, "beyond 64 bits", asking(*TRAIN, f"training.seed={2**70}"), r"training.seed.*less than"),
    Case(SEEDS, "below 64 bits", asking(*TRAIN, f"training.seed={-(2**70)}"), r"training.seed.*greater than"),
)

ONCE = "two commands and signals"


def _meanwhile(arguments: Sequence[str]) -> Answer:
    """Another process writes the same dataset while this one prepares."""
    out = Path(arguments[-1])
    before = writing.DatasetWriter.manifest

    def slow(self: writing.DatasetWriter, manifest: writing.Manifest) -> None:
        before(self, manifest)
        writing.DatasetWriter.manifest = before  # type: ignore[method-assign]
        if not out.exists():
            facta.prepare(pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [START]}), out)

    writing.DatasetWriter.manifest = slow  # type: ignore[method-assign]
    try:
        return in_process(arguments)
    finally:
        writing.DatasetWriter.manifest = before  # type: ignore[method-assign]


def _stopped(number: int) -> Callable[[Sequence[str]], Answer]:
    """A signal while the dataset is written."""

    def run(arguments: Sequence[str]) -> Answer:
        program = (
            "import os, signal, time\nfrom facta.data.log import writing\nfrom facta.cli import main\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may have it ignored,\n"
            "signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and under nohup this one is\n"
            f"def manifest(*_):\n    os.kill(os.getpid(), {number})\n"
            "    time.sleep(60)  # another thread may have got the signal, and tells this one a little later\n"
            "writing.DatasetWriter.manifest = manifest\nmain()"
        )
        run = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return Answer(0 if run.returncode == 128 + number else run.returncode, run.stdout, run.stderr)

    return run


REQUESTS_PER_BATCH = (
    Case(
        ONCE,
        "two prepare one place",
        lambda folder: prepare(folder, csv(folder / "log.csv", rows())),
        "written by another process in the meantime and stays",
        leaves=DATASET,
        run=_meanwhile,
        holds=lambda folder, _: facta.Dataset.open(folder / "out").num_events == 1,
    ),
    *(
        Case(
            ONCE,
            f"{name} while preparing",
            lambda folder: prepare(folder, csv(folder / "log.csv", rows())),
            "",
            repaired=True,
            run=_stopped(number),
        )
        for name, number in (("SIGTERM", signal.SIGTERM), ("SIGHUP", signal.SIGHUP), ("SIGINT", signal.SIGINT))
    ),
)

TERMINAL: tuple[Case, ...] = (*MARKUP, *OUTPUTS, *ODD_SEEDS, *REQUESTS_PER_BATCH)
