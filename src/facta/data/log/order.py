"""The total order of a log: (user, timestamp, input row). Ties keep the order of the input, on every machine."""

from __future__ import annotations

import numpy as np
import polars as pl

from facta.arrays import AnyInts, Bools, Ints


def history_order(user: AnyInts, time: AnyInts | None) -> Ints:
    """[n] user rows, [n] times or None -> [n] places in the log by (user, time, place); np.lexsort is the twin."""
    if time is None or bool((time[1:] >= time[:-1]).all()):  # most logs are in order of time
        return stable_argsort(user)
    by_time = stable_argsort(time)
    return by_time[stable_argsort(user[by_time])]


def stable_argsort(values: AnyInts) -> Ints:
    """np.argsort(values, kind="stable"), several times faster.

    Value and place share one 64-bit key. All keys differ, so any sort is stable, also a parallel one.
    """
    if len(values) == 0:
        return np.zeros(0, dtype=np.int64)
    bits = max(len(values) - 1, 1).bit_length()
    low = int(values.min())
    if (int(values.max()) - low).bit_length() + bits > 63:
        return np.argsort(values, kind="stable")
    key = values.astype(np.int64)
    key -= low
    key <<= bits
    key |= np.arange(len(key))
    key = pl.Series(key).sort().to_numpy()
    return np.bitwise_and(key, (1 << bits) - 1)


def tied(time: AnyInts, offsets: Ints) -> Bools:
    """[n] times in history order, [U+1] offsets -> [n] whether an event shares its time with another of its user."""
    same = time[1:] == time[:-1]
    starts = offsets[1:-1]
    same[starts[(starts > 0) & (starts < len(time))] - 1] = False
    out = np.zeros(len(time), dtype=np.bool_)
    out[1:] = same
    out[:-1] |= same
    return out
