"""Identity of a run: its recipe and dataset, which must not change when it resumes; and its environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from facta.errors import ArtifactError
from facta.ops import backend

KEYS_SHOWN = 5  # differing keys in one message


@dataclass(frozen=True)
class Identity:
    """`recipe`: all its keys, as plain data."""

    recipe: Mapping[str, Any]
    dataset: str  # content hash

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def check(self, saved: Mapping[str, Any], out: Path) -> None:
        """Raises ArtifactError with the differences if `saved` is the identity of another run."""
        if saved["dataset"] != self.dataset:
            raise ArtifactError(
                f"The run in '{out}' was started on the dataset {saved['dataset'][:12]}, not on {self.dataset[:12]}. "
                "Give it the same dataset, or choose another folder."
            )
        before, now = _flat(saved["recipe"]), _flat(self.to_json()["recipe"])
        differing = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if differing:
            named = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in differing[:KEYS_SHOWN])
            more = f" and {len(differing) - KEYS_SHOWN} more" if len(differing) > KEYS_SHOWN else ""
            raise ArtifactError(
                f"The run in '{out}' was started with other settings: {named}{more}. "
                "Use the same, or choose another folder."
            )


def environment(device: torch.device) -> dict[str, Any]:
    """The environment that equal bits also depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": name,
        "backend": backend.current(),
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return found
