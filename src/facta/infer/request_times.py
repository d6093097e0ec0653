"""When requests are made: one moment for all histories, or one each, where the model needs them.

Letters: B histories.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from facta.arrays import Bools
from facta.data.batches.encoded import EncodedHistory
from facta.data.dataset.times import Time, moment
from facta.errors import DataError


def request_times(
    histories: Sequence[EncodedHistory], asked_of: Bools, at: Time | Iterable[Time] | None, *, reads_time: bool
) -> list[int] | None:
    """[B] times of the requests, of which the model is asked about those `asked_of` [B].

    None where times make no difference: to a model that reads no time, and histories of which all feedback is known.
    Raises DataError for a time that is missing, and for a request before the newest event of its history.
    """
    asked = [one for one, read in zip(histories, asked_of, strict=True) if read]
    if not reads_time and at is not None and all(one.times is not None for one in asked):
        asked = asked if any(one.late for one in asked) else []
    elif not reads_time:
        asked = []
    if not asked:
        return None
    if any(one.times is None for one in asked):
        raise DataError(
            "This model reads time, and the history has none: give the time of each of its events "
            "(facta.History(items, times); --times, one per item of --history)."
        )
    if at is None:
        raise DataError(
            "This model reads time: give the request its own time (at=, or --at, as in --at now), the moment when "
            "the recommendations will be shown."
        )
    each = _each(at, len(histories))
    if len(each) != len(histories):
        raise DataError(
            f"Found {len(each)} request times for {len(histories)} histories; expected one for all or one each."
        )
    moments = [moment(one) for one in each]
    for one, asked_at in zip(histories, moments, strict=True):
        if one.times is not None and len(one.times) and asked_at < one.times[-1]:
            raise DataError(
                f"Found a request at {asked_at} before the newest event of its history, {one.times[-1]} "
                "(both in milliseconds since 1970); a request comes after the events that it may know."
            )
    return moments


def _each(at: Any, count: int) -> list[Time]:
    """The times of `count` requests: a list or an array has one each; all else, like an array's scalar, is for all."""
    several = isinstance(at, Iterable) and not isinstance(at, (str, bytes)) and getattr(at, "ndim", 1) > 0
    return list(at) if several else [at] * count
