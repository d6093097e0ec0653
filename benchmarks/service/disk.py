"""How long the disk takes to flush, while something else is measured."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.service.meanwhile import meanwhile

PAUSE = 0.05  # seconds between two flushes


@contextmanager
def flushing(folder: Path) -> Iterator[list[float]]:
    """Milliseconds of an append of 4 KiB and `fdatasync`, 20 times a second, until the block ends."""
    taken: list[float] = []

    def flush(over: threading.Event) -> None:
        with (folder / "flushed").open("ab", buffering=0) as file:
            while not over.wait(PAUSE):
                file.write(bytes(4096))
                began = time.perf_counter()
                os.fdatasync(file.fileno())
                taken.append(1000 * (time.perf_counter() - began))

    with meanwhile(flush):
        yield taken
