"""What a target sees of its history, against one loop over all earlier events for each target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facta import arrays
from facta.data.split.visibility import BLIND, OWN, Delayed, Frozen, Visibility
from facta.errors import ProtocolError

histories = st.lists(st.lists(st.integers(0, 12), max_size=9), min_size=1, max_size=5)


@dataclass(frozen=True)
class Times:
    offsets: np.ndarray
    timestamp: np.ndarray | None


def log_of(rows: list[list[int]]) -> Times:
    """Histories at given times, in their order."""
    counts = np.array([len(row) for row in rows])
    flat = [time for row in rows for time in sorted(row)]
    return Times(arrays.offsets_of(counts), np.array(flat, dtype=np.int64))


def slow(sees: Visibility, times: list[int], user: int, place: int) -> int:
    """How many of the events before a target it sees."""
    before, own = times[:place], times[place]
    match sees:
        case Delayed(ms=ms):
            return sum(own - time >= ms for time in before)
        case Frozen(ends=ends):
            return min(int(ends[user]), place)
    return sum(time < own for time in before) if sees is BLIND else place


@given(histories, st.integers(0, 14))
@settings(max_examples=200, deadline=None)
def test_each_equals_a_loop_over_the_events_before_the_target(rows: list[list[int]], ms: int) -> None:
    log = log_of(rows)
    user = arrays.rows(log.offsets)
    place = arrays.places(log.offsets)
    ends = np.arange(len(rows)) * 2
    for sees in (OWN, BLIND, Delayed(ms), Frozen(ends)):
        expected = [slow(sees, sorted(rows[u]), u, p) for u, p in zip(user.tolist(), place.tolist(), strict=True)]
        assert sees.events(log, user, place).tolist() == expected, sees


def test_without_a_delay_all_before_is_visible_and_blind_is_the_shortest_delay() -> None:
    log = log_of([[5, 5, 7, 7, 7, 9]])
    user, place = np.zeros(6, dtype=np.int64), np.arange(6)
    assert Delayed(0).events(log, user, place).tolist() == OWN.events(log, user, place).tolist()
    assert Delayed(1).events(log, user, place).tolist() == BLIND.events(log, user, place).tolist() == [0, 0, 2, 2, 2, 5]
    assert Delayed(2).changes_before(np.array([100])).tolist() == [99]  # a change at 98 is old enough
    assert Delayed(0).changes_before(np.array([100])).tolist() == [100]


@pytest.mark.parametrize("sees", [BLIND, Delayed(5)])
def test_a_log_without_times_is_refused(sees: Visibility) -> None:
    log = Times(np.array([0, 2]), None)
    with pytest.raises(ProtocolError, match=r"needs? timestamps; this dataset has only an order"):
        sees.events(log, np.array([0]), np.array([1]))
