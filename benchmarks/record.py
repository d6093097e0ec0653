"""The record of measurements: one line of JSON each, appended to `figures.jsonl` by the command that measured, and
never from a tree that holds more than its commit. The results page is renewed with it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

LOG = ROOT / "benchmarks" / "figures.jsonl"

RESULTS = ROOT / "docs" / "results.md"

WRITTEN = ("benchmarks/figures.jsonl", "docs/results.md")  # by `record` itself, between two measurements


def record(
    name: str,
    value: float,
    *,
    raw: Sequence[float] = (),
    spread: float | None = None,
    seeds: Sequence[int] = (),
    note: str = "",
    log: Path = LOG,
) -> dict[str, Any]:
    """Append a measurement of `name` to the log and return its line; `raw` holds every single value behind `value`.

    `spread` defaults to the sample standard deviation of `raw`. Unit, bar and command come from `FIGURES`.
    Raises RuntimeError on a dirty tree and KeyError for a figure that FIGURES does not list.
    """
    from benchmarks.figures import FIGURES, tables, write  # collects this module's users

    if name not in FIGURES:
        raise KeyError(f"No figure '{name}'; add it to the FIGURES of the measurement, beside {', '.join(FIGURES)}.")
    figure = FIGURES[name]
    values = [float(v) for v in raw] or [float(value)]
    line = {
        "name": name,
        "value": float(value),
        "spread": _deviation(values) if spread is None else float(spread),
        "raw": values,
        "unit": figure.unit,
        "bar": figure.bar,
        "command": figure.command,
        "seeds": list(seeds),
        "note": note,
        "hardware": hardware(),
        "versions": versions(),
        "commit": committed(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with log.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
    if log == LOG:
        write(tables(latest()))
    return line


def looking(about: str | None) -> bool:
    """Whether `--look` was said: then a measurement is printed and not recorded. `about`: the docstring of its module.

    Raises RuntimeError where it would be recorded and the tree has uncommitted changes.
    """
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--look", action="store_true", help="print, record nothing")
    look: bool = parser.parse_args().look
    if not look:
        committed()
    return look


def committed(root: Path = ROOT) -> str:
    """The commit that is being measured; RuntimeError when the tree holds anything else but new lines of the record.

    Long measurements call this first, so that a refusal comes before the work.
    """
    changes = _git(root, "status", "--porcelain", "--", ".", *(f":!{path}" for path in WRITTEN))
    if changes:
        raise RuntimeError(f"The tree has uncommitted changes, commit them before measuring:\n{changes}")
    return _git(root, "rev-parse", "HEAD")


def code(root: Path = ROOT) -> str:
    """Git's hash of the tree src/ in the measured commit, and of nothing else: what was trained with it may be used
    while src/ stays, also after benchmarks/, docs/ or the versions of other packages have changed.
    """
    committed(root)
    return _git(root, "rev-parse", "HEAD:src")


def _git(root: Path, *arguments: str) -> str:
    run = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"Figures are recorded for a commit, but git said: {run.stderr.strip()}")
    return run.stdout.strip()


def hardware() -> dict[str, Any]:
    """Processor with family, model and vector width, cores that this process may use, memory, and the accelerator if
    there is one. Cloud machines often hide the generation in the name; family and model tell it."""
    described: dict[str, Any] = {"cpu": _cpu(), **_generation(), "cores": len(os.sched_getaffinity(0))}
    described["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    import torch

    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
    return described


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _generation() -> dict[str, Any]:
    """Family, model and the widest vectors of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    found: dict[str, Any] = {
        name: int(told[key])
        for name, key in (("family", "cpu family"), ("model", "model"))
        if told.get(key, "").isdigit()
    }
    flags = told.get("flags", told.get("Features", "")).split()
    widths = {"avx512f": "AVX-512, 512 bits", "avx2": "AVX2, 256 bits", "asimd": "NEON, 128 bits"}
    vectors = [name for flag, name in widths.items() if flag in flags]
    return found | ({"vectors": vectors[0]} if vectors else {})


def versions() -> dict[str, str]:
    packages = ("facta", "torch", "numpy", "polars")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    return float((sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5)


def latest(log: Path = LOG) -> dict[str, dict[str, Any]]:
    """The newest line of each figure."""
    if not log.exists():
        return {}
    lines = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip())
    return {line["name"]: line for line in lines}


def spreads(line: Mapping[str, Any]) -> bool:
    """Whether there is a deviation to tell: one measurement has none."""
    return len(line["raw"]) > 1 or line["spread"] > 0


def seeds_of(line: Mapping[str, Any]) -> str:
    """What the value is of, where every raw one is of a seed."""
    count = len(line["seeds"])
    if not count or len(line["raw"]) != count:
        return ""
    return "1 seed" if count == 1 else f"mean of {count} seeds"
