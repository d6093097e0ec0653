"""Process-wide settings of a training run: deferred signals, retained memory (glibc), deterministic sums."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import nn

from facta.errors import ConfigError


class Interrupts:
    """Within the context SIGINT and SIGTERM only set `received`; a second signal acts at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only in the main thread
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def raise_received(self) -> None:
        """Act on the received signal: KeyboardInterrupt, or exit with 128 + its number."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + (self.received or 0))

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def parse_device(device: str) -> torch.device:
    """A device by torch's name ("cpu", "cuda", "cuda:1"). Raises ConfigError if this machine has no such device."""
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:  # torch's assertion that it was compiled with CUDA
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"Found the device '{device}', which torch cannot use here: {reason}.") from None
    return found


LARGE_MODEL_BYTES = 1 << 27  # bytes of parameters
_TRIM, _MAPPED_FROM, _MAPPED = -1, -3, -4  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX of malloc.h
_NEVER, _MANY, _MOST = -1, 65_536, 32 << 20  # no trimming; glibc's own number of mapped blocks; its largest threshold


@contextmanager
def retain_freed_memory(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Make glibc keep freed memory for the next step, in the whole process, until the context ends.

    Otherwise glibc returns freed memory to the kernel after every step (tensors of more than 32 MiB at once), and new
    memory costs a page fault for each 4 KiB: 5 to 10 % of a small step, 25 % of one of 131,072 tokens. For a model of
    more than LARGE_MODEL_BYTES such tensors are still mapped one by one: the gradients of its tables would leave holes
    in the heap (0.8 GiB at a million items of 64 numbers). Does nothing without glibc; in threads other than the main
    one glibc still maps tensors larger than 64 MiB.
    """
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    mallopt, trim = (getattr(libc, name, None) for name in ("mallopt", "malloc_trim"))
    if mallopt is None or trim is None:
        yield
        return
    large = sum(parameter.nbytes for parameter in parameters) > LARGE_MODEL_BYTES
    mallopt(_MAPPED_FROM, _MOST)
    mallopt(_MAPPED, _MANY if large else 0)
    mallopt(_TRIM, 1 << 30 if large else _NEVER)
    try:
        yield
    finally:
        mallopt(_MAPPED, _MANY)
        mallopt(_TRIM, 2 * _MOST)  # the limits of glibc's own dynamic rule
        trim(0)


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Add in a fixed order, so that equal inputs give equal bits.

    Otherwise several threads add the gradient of `x[index]` with atomics, on a CPU too, and runs differ. On a GPU
    cuBLAS also needs a fixed workspace. Raises nothing itself; an operation without a fixed order raises.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # otherwise torch would fill all new memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled
