"""Provenance of a report: its title, the command, and fingerprint and seed of each artifact."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from facta.eval.page import Provenance
from facta.eval.report import title_of
from facta.infer.artifact import Artifact


def title(names: Sequence[str], data: Path) -> str:
    """The title: the compared names and the dataset."""
    return f"{title_of(names)}, on {data.name}"


def provenance(artifacts: Mapping[str, Artifact]) -> Provenance:
    """The provenance of the running command."""
    seeds = {name: (one.config.get("training") or {}).get("seed") for name, one in artifacts.items()}
    return Provenance(
        command=shlex.join(["facta", *sys.argv[1:]]),
        fingerprints={name: one.fingerprint for name, one in artifacts.items()},
        seeds={name: str(seed) for name, seed in seeds.items() if seed is not None},
    )
