"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


@cache
def _trim() -> Any:
    """glibc's malloc_trim; None where there is none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # another C library, another system
        return None


def give_back() -> None:
    """Give the heap's free pages back. glibc keeps pages below the newest allocation: a cache whose values come and go
    would grow to half as much again as what it holds. It takes a few milliseconds."""
    trim = _trim()
    if trim is not None:
        trim(0)
