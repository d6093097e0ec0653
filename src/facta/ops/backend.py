"""Backends: `reference` (plain PyTorch, the definition) or the compiled kernels of an instruction set.

The default is the fastest backend of this build and processor; FACTA_BACKEND or `use` chooses another one, and a
missing one is an error. Kernels compute float32 and bfloat16 on the CPU; the reference computes everything else
(float64, other devices).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from facta.errors import ConfigError

REFERENCE = "reference"
Shapes = TypeVar("Shapes", bound=Callable[..., Any])
_STORED = (torch.float32, torch.bfloat16)


def _load() -> Any | None:
    try:
        return import_module("facta.ops._native")  # after torch, whose OpenMP threads it shares
    except ModuleNotFoundError:
        return None


# Plain module variables, not a cache or a context variable: torch.compile reads them while it traces, and
# compiles again when the backend changes.
_module = _load()
_available: tuple[str, ...] = (*(_module.backends() if _module is not None else ()), REFERENCE)
_asked: str | None = None

# A fork copies the memory of OpenMP's threads but not the threads, so a child that shares work with them would wait for
# ever. With one thread it does not wait, and servers fork several processes of one thread each anyway.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def module() -> Any | None:
    """The compiled module; None if facta was installed without it."""
    return _module


def available() -> tuple[str, ...]:
    """Backends from the fastest to the reference."""
    return _available


def current() -> str:
    """The backend in use. Raises ConfigError if FACTA_BACKEND names a missing one."""
    return _checked(_asked or os.environ.get("FACTA_BACKEND") or available()[0])


@contextmanager
def use(name: str) -> Iterator[None]:
    """Compute with another backend within the context, in all threads. Raises ConfigError if it is missing."""
    global _asked
    before, _asked = _asked, _checked(name)
    try:
        yield
    finally:
        _asked = before


def why() -> str:
    """A sentence on the backend in use and the reason."""
    if _asked or os.environ.get("FACTA_BACKEND"):
        return f"{current()}, as asked for"
    if module() is None:
        return f"{REFERENCE}: facta was installed without its compiled kernels (FACTA_NO_NATIVE, or no compiler)"
    return f"{current()}: the fastest of {', '.join(available())}"


def native_for(*tensors: Tensor | None) -> str | None:
    """The kernels that compute these tensors; None: the reference does."""
    name = current()
    given = [tensor for tensor in tensors if tensor is not None]
    fits = all(tensor.device.type == "cpu" and tensor.dtype in _STORED for tensor in given)
    return name if name != REFERENCE and fits and len({tensor.dtype for tensor in given}) == 1 else None


class Operator(Protocol):
    """An operator of `torch.library.custom_op`, and its bare function."""

    direct: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any: ...
    def register_fake(self, shapes: Shapes) -> Shapes: ...
    def register_autograd(self, backward: Callable[..., Any], *, setup_context: Callable[..., None]) -> None: ...


def custom_op(name: str) -> Callable[[Callable[..., Any]], Operator]:
    """A CPU operator of torch that changes none of its arguments; `direct` is the bare function."""

    def made(function: Callable[..., Any]) -> Operator:
        operator: Any = torch.library.custom_op(name, mutates_args=(), device_types="cpu")(function)
        operator.direct = function
        found: Operator = operator
        return found

    return made


def direct(x: Tensor) -> bool:
    """Whether kernels may be called without torch's dispatch of operators: in inference without tracing. The dispatch
    costs tens of microseconds a call, and its first call imports torch's compiler, which takes seconds and memory.
    """
    return not torch.compiler.is_compiling() and torch.is_inference_mode_enabled() and type(x) is Tensor


def _checked(name: str) -> str:
    if name not in available():
        raise ConfigError(
            f"There is no backend '{name}'; this installation has {', '.join(available())} "
            "(FACTA_BACKEND; kernels are compiled by pip install without FACTA_NO_NATIVE)."
        )
    return name
