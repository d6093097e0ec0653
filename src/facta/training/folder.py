"""The folder of a run: `metrics.jsonl`, `checkpoints/`, with TensorBoard `tensorboard/`, and the folder of a second
training in `refit/`.

A run resumes from the newest whole checkpoint, and only with the same recipe and dataset. Nothing but these four is
ever removed from the folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from facta import durable
from facta.errors import ArtifactError
from facta.training import checkpoint
from facta.training.identity import Identity, environment
from facta.training.journal import Journal, read
from facta.training.log import Log
from facta.training.model import Model
from facta.training.progress import Progress

REFIT = "refit"
"""The folder of the second run, within that of the first."""


class RunFolder:
    """Saves and restores a model and its optimiser."""

    def __init__(self, out: Path, identity: Identity, model: Model, optimiser: torch.optim.Optimizer) -> None:
        self.out, self.identity, self.model, self.optimiser = out, identity, model, optimiser
        self.checkpoints = out / "checkpoints"
        self._environment = environment(optimiser.param_groups[0]["params"][0].device)

    def open(self, log: Log, *, tensorboard: bool) -> tuple[Progress, Journal]:
        """Restore weights, optimiser and progress of the newest checkpoint, or start anew.

        Raises ArtifactError if the folder is of another run or no checkpoint is whole, ResourceError if it cannot
        write.
        """
        with durable.writing(self.out):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        journal = Journal(self.out)
        if journal.unlocked is not None:
            log.say(journal.unlocked)
        try:
            return self._progress(journal, log, tensorboard), journal
        except BaseException:
            journal.close()
            raise

    def _progress(self, journal: Journal, log: Log, tensorboard: bool) -> Progress:
        found, passed_over = checkpoint.newest(self.checkpoints)
        progress = Progress() if found is None else self._resume(found, passed_over, log)
        journal.cut(progress.journal_bytes, progress.step, tensorboard=tensorboard)
        if found is None:
            parameters = sum(tensor.numel() for group in self.model.parameter_groups().values() for tensor in group)
            journal.write("start", 0, 0, parameters=parameters, **self.identity.to_json())
        return progress

    def _resume(self, found: checkpoint.Checkpoint, passed_over: Mapping[Path, str], log: Log) -> Progress:
        self.identity.check(found.state["run"], self.out)
        checkpoint.restore_weights(self.model, found.tensors("weights"))
        checkpoint.restore_optimiser(self.optimiser, self.model, found.tensors("optimiser"))
        for path, reason in passed_over.items():
            log.say(f"Passed over a checkpoint: {reason}.")
            shutil.rmtree(path)
        if found.state["environment"] != self._environment:
            log.say("Another torch, thread count, device or backend than before: sums may differ in their last bits.")
        progress = Progress.from_json(found.state)
        log.say(f"Going on from step {progress.step} of the run in {self.out}.")
        return progress

    def save(self, progress: Progress, journal: Journal) -> None:
        """Write a checkpoint for `open`."""
        progress.journal_bytes = journal.size()
        state = {**progress.to_json(), "run": self.identity.to_json(), "environment": self._environment}
        tensors = {
            "weights": checkpoint.weights(self.model),
            "optimiser": checkpoint.optimiser_tensors(self.optimiser, self.model),
        }
        checkpoint.save(checkpoint.place(self.checkpoints, "step", progress.step), tensors, state)
        checkpoint.prune(self.checkpoints)

    def save_best(self, step: int, validation: Mapping[str, Any]) -> None:
        path = checkpoint.place(self.checkpoints, "best", step)
        checkpoint.save(path, {"weights": checkpoint.weights(self.model)}, validation)

    def restore_best(self, step: int) -> None:
        best = checkpoint.open_checkpoint(checkpoint.place(self.checkpoints, "best", step))
        checkpoint.restore_weights(self.model, best.tensors("weights"))


def acquire_run_folder(out: Path, identity: Identity, *, overwrite: bool) -> None:
    """Check that the run of `identity` may use `out`; `overwrite` empties the folder of any other run.

    Raises ArtifactError if `out` is not the folder of a run (it is not changed), ResourceError if another process
    trains there or it cannot be written.
    """
    if not out.exists():
        with durable.writing(out):  # refuse a file in place of a folder before reading anything
            os.scandir(next(parent for parent in out.absolute().parents if parent.exists())).close()
        return
    if not _is_run(out):
        raise ArtifactError(
            f"'{out}', the folder for this run's checkpoints, has files of no run; move them away, or choose another "
            "place for the artifact."
        )
    if overwrite:
        journal = Journal(out)
        try:
            if not _goes_on(out, identity):
                _empty(out, journal)
        finally:
            journal.close()


def _is_run(out: Path) -> bool:
    """A run that was killed before the first whole line of its journal leaves empty folders and at most a torn line."""
    if not out.is_dir() or _start(out) is not None:
        return out.is_dir()
    files = [path for path in out.rglob("*") if not path.is_dir()]
    return all(path == out / "metrics.jsonl" and b"\n" not in path.read_bytes() for path in files)


def _start(out: Path) -> Mapping[str, Any] | None:
    """The first line of a run's journal; None if it has none."""
    try:
        return read(out, "start")[0]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _goes_on(out: Path, identity: Identity) -> bool:
    """Whether the folder has an unfinished run of the same recipe and dataset."""
    start = _start(out)
    return (out / "checkpoints").is_dir() and start is not None and identity.to_json().items() <= start.items()


def _empty(out: Path, journal: Journal) -> None:
    """Empty the folder but keep the journal file, which is the lock."""
    with durable.writing(out):
        for name in ("checkpoints", "tensorboard", REFIT):
            if (out / name).exists():
                shutil.rmtree(out / name)
        journal.cut(0, 0, tensorboard=False)
