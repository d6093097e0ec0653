"""Which events of a history a model reads: the one rule of windows.

Letters: n events of a history, N the window (the most events that are read).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from facta.arrays import Ints

Count = TypeVar("Count", int, Ints)


def window_start(events: Count, window: int, stride: int = 1) -> Count:
    """How many of the oldest of n events are left out: stride * ceil(max(0, n - N) / stride).

    A function of n alone, so that calls with and without a cache read the same events. A window moves `stride` events
    at a time; in between it only grows, so cached keys and values stay valid. It holds n events up to N, then N -
    stride + 1 to N. With stride 1 it is the newest N.
    """
    left_out = (events - window) * (events > window)  # max(0, n - N) of numbers and arrays alike
    return stride * -(-left_out // stride)


def window_length(events: Ints, window: int, stride: int = 1) -> Ints:
    """[B] how many events the windows of histories of n events hold."""
    return np.asarray(events - window_start(events, window, stride))
