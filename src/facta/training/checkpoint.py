"""Checkpoints: folders of safetensors and JSON that are either whole or not used.

    checkpoints/
      step-00001200/            the newest two are kept
        weights.safetensors
        optimiser.safetensors   exp_avg.NAME, exp_avg_sq.NAME, step.NAME
        state.json              progress of the training; SHA-256 of the files beside it and of itself
      best-00000900/            weights of the best validation that a kept step refers to
        weights.safetensors
        state.json

A folder is written beside its place, flushed and renamed, so a crash does not change older ones. Checksums detect a
torn or altered folder, and the previous one is used. There is no generator state: every draw in training is a function
of (seed, epoch, step) or of a target's key.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from facta import durable
from facta.errors import ArtifactError
from facta.training.model import Model

FORMAT = 1
KEPT_CHECKPOINTS = 2
STATE = "state.json"
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A folder whose checksums were verified when it was opened."""

    path: Path
    state: dict[str, Any]

    def tensors(self, name: Literal["weights", "optimiser"]) -> Tensors:
        from safetensors.torch import load_file

        loaded: Tensors = load_file(self.path / f"{name}.safetensors")
        return loaded


def place(folder: Path, kind: Literal["step", "best"], step: int) -> Path:
    return folder / f"{kind}-{step:08d}"


def save(path: Path, tensors: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
    """Write a checkpoint. Raises ResourceError if the disk is full or read-only; older checkpoints stay."""
    with durable.directory(path) as draft:
        files = {}
        for name, values in tensors.items():
            file = draft / f"{name}.safetensors"
            durable.save_tensors(file, values)
            files[file.name] = durable.sha256(file)
        body = {"format": FORMAT, "files": files, "state": dict(state)}
        body["checksum"] = _digest_of(body)
        (draft / STATE).write_text(json.dumps(body, indent=1))


def open_checkpoint(path: Path) -> Checkpoint:
    """Raises ArtifactError with the reason if the folder is torn, altered or too new."""
    try:
        body = json.loads((path / STATE).read_text())
        checksum = body.pop("checksum", None) if isinstance(body, dict) else None
        if checksum is None:
            raise ValueError("not a checkpoint")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path.name}/{STATE} is missing or torn") from error
    if body.get("format", 0) > FORMAT:
        raise ArtifactError(f"{path.name} has format {body['format']}, newer than this facta's {FORMAT}; update facta")
    if checksum != _digest_of(body):
        raise ArtifactError(f"{path.name}/{STATE} has another checksum than when it was written")
    for name, digest in body["files"].items():
        if not (path / name).is_file() or durable.sha256(path / name) != digest:
            raise ArtifactError(f"{path.name}/{name} has another checksum than when it was written")
    return Checkpoint(path, body["state"])


def newest(folder: Path) -> tuple[Checkpoint | None, dict[Path, str]]:
    """The newest whole checkpoint, and the reason for each newer one that was passed over; None if there is none.

    A step is whole only together with the best weights that it refers to. Raises ArtifactError if all are torn.
    """
    passed_over: dict[Path, str] = {}
    for path in steps(folder):
        try:
            found = open_checkpoint(path)
            if found.state["best_step"] is not None:
                open_checkpoint(place(folder, "best", found.state["best_step"]))
            return found, passed_over
        except ArtifactError as error:
            passed_over[path] = str(error)
    if passed_over:
        raise ArtifactError(
            f"No checkpoint in '{folder}' is whole ({'; '.join(passed_over.values())}). "
            f"Delete '{folder.parent}' to start again."
        )
    return None, passed_over


def steps(folder: Path) -> list[Path]:
    """Folders of steps, newest first, whole or not."""
    return sorted(folder.glob("step-*"), reverse=True)


def prune(folder: Path) -> None:
    """Keep the newest steps and the best weights that they refer to; drafts of killed runs are removed too."""
    kept = set(steps(folder)[:KEPT_CHECKPOINTS])
    bests = {json.loads((path / STATE).read_text())["state"]["best_step"] for path in kept}
    kept |= {place(folder, "best", step) for step in bests if step is not None}
    for path in folder.iterdir():
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def weights(model: Model) -> Tensors:
    """Parameters and buffers by name, each once: tied ones under their first name."""
    seen: set[int] = set()
    found: Tensors = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor
    return found


@torch.no_grad()
def restore_weights(model: Model, saved: Mapping[str, Tensor]) -> None:
    here = weights(model)
    _same_names(here, saved)
    for name, tensor in here.items():
        tensor.copy_(saved[name])


def optimiser_tensors(optimiser: torch.optim.Optimizer, model: Model) -> Tensors:
    """The state of each parameter under the parameter's name, `exp_avg.NAME`."""
    return {
        f"{kind}.{name}": value
        for name, parameter in weights(model).items()
        for kind, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, model: Model, saved: Mapping[str, Tensor]) -> None:
    parameters = weights(model)
    optimiser.state.clear()
    for key, value in saved.items():
        kind, _, name = key.partition(".")
        parameter = parameters[name]
        optimiser.state[parameter][kind] = value.to(parameter.device)


def _same_names(here: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in here.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in saved.items()}:
        unlike = sorted(
            name for name in {*here, *saved} if shapes.get(name) != tuple(getattr(saved.get(name), "shape", ()))
        )
        raise ArtifactError(
            f"The checkpoint holds another model: {', '.join(unlike[:3])} differ in name or shape. "
            "Choose another folder."
        )


def _digest_of(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
