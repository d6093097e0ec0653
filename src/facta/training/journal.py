"""`metrics.jsonl`: the events of a run, one JSON object a line; optionally also in TensorBoard.

    {"event": "start" | "step" | "epoch" | "validation" | "stopped" | "end", "step": …, "epoch": …, "loss": …, …}

A line is appended by one write, so a crash can tear only the last one; a resumed run truncates the file to the size at
its checkpoint and appends. Only TIMINGS differ between a resumed and an uninterrupted run.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facta import durable
from facta.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TIMINGS = ("events_per_second", "seconds")


class Journal:
    """Appends to `out/metrics.jsonl` and locks it, so that no second process trains there (if the disk has locks)."""

    def __init__(self, out: Path) -> None:
        self._out, self._path = out, out / "metrics.jsonl"
        self._board: SummaryWriter | None = None
        self.unlocked: str | None = None  # why the folder is not locked
        with durable.writing(self._path):
            self._file = self._path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends
        except BlockingIOError as error:
            self._file.close()
            raise ResourceError(
                f"Another process is training in '{out}'; wait for it, or choose another folder."
            ) from error
        except OSError as error:  # some network disks have no locks; two runs in one folder are then up to the user
            self.unlocked = f"The disk of '{out}' has no file locks ({error.strerror}): train one run at a time in it."

    def cut(self, size: int, step: int, *, tensorboard: bool) -> None:
        """Keep the first `size` bytes, written up to `step`, and append after them."""
        self._board = _summary_writer(self._out, step) if tensorboard else None
        self._file.truncate(min(size, self.size()))

    def write(self, event: str, step: int, epoch: int, **values: Any) -> None:
        line = json.dumps({"event": event, "step": step, "epoch": epoch, **values})
        with durable.writing(self._path):
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{event}/{name}", value, step)

    def size(self) -> int:
        """Bytes so far, flushed to disk."""
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        with suppress(OSError):  # closing retries the failed `write`, which has been reported
            self._file.close()
        if self._board is not None:
            self._board.close()


def read(out: Path, event: str | None = None) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a torn last line is left out."""
    text = (out / "metrics.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [record for record in records if event is None or record["event"] == event]


def _summary_writer(out: Path, step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "training.tensorboard is true, but TensorBoard is not installed: "
            "pip install 'facta[track]', or set it to false."
        ) from error
    return SummaryWriter(str(out / "tensorboard"), purge_step=step)
