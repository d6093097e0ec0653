"""Which part of a history a row reads, and which of its events it predicts, against the sentence that says so."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facta import arrays
from facta.data.batches.rows import (
    Rows,
    last_window,
    limited_windows,
    one_row_per_limited_target,
    one_row_per_target,
    overlapping_windows,
)
from facta.data.split.visibility import BLIND, OWN, Delayed
from tests.unit.test_visibility import log_of

spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=6)


def bounds(given: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[U] users and the places of their targets; some have none."""
    first, last = np.array([min(pair) for pair in given]), np.array([max(pair) for pair in given])
    return np.arange(len(given)) * 3, first, last


def targets(rows: Rows) -> Counter[tuple[int, int]]:
    ends = zip(rows.user.tolist(), rows.first.tolist(), rows.last.tolist(), strict=True)
    return Counter((user, place) for user, first, last in ends for place in range(first, last))


@given(spans, st.integers(1, 20))
@settings(max_examples=300, deadline=None)
def test_tiles_hold_every_target_once_with_all_before_it_or_half_a_window(
    given: list[tuple[int, int]], window: int
) -> None:
    user, first, last = bounds(given)
    rows = overlapping_windows(user, first, last, window)
    spans_of = zip(user.tolist(), first.tolist(), last.tolist(), strict=True)
    asked = Counter((u, p) for u, a, b in spans_of for p in range(a, b))
    assert targets(rows) == asked
    assert (rows.lengths <= window).all() and (rows.start >= 0).all()
    assert (rows.first < rows.last).all()  # no row without a target
    assert (rows.end == rows.last).all()  # the newest target is an input, and nothing behind it
    before = rows.first - rows.start
    assert ((before >= window // 2) | (rows.start == 0)).all()
    assert int(rows.lengths.sum()) <= int((last - first).sum()) * 2 + window * len(user)


def test_tiles_by_hand() -> None:
    rows = overlapping_windows(np.array([7]), np.array([0]), np.array([11]), 4)
    assert rows.start.tolist() == [0, 2, 4, 6, 7] and rows.end.tolist() == [4, 6, 8, 10, 11]
    assert rows.first.tolist() == [0, 4, 6, 8, 10] and rows.last.tolist() == [4, 6, 8, 10, 11]
    late = overlapping_windows(np.array([7]), np.array([9]), np.array([11]), 4)  # the older ones are read alone
    assert (late.start.tolist(), late.end.tolist(), late.first.tolist()) == ([7], [11], [9])


@given(spans, st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_singles_hold_one_target_each_and_the_window_that_ends_with_it(
    given: list[tuple[int, int]], window: int
) -> None:
    user, first, last = bounds(given)
    rows = one_row_per_target(user, first, last, window)
    assert targets(rows) == targets(overlapping_windows(user, first, last, window))
    assert (rows.last - rows.first == 1).all() and (rows.end == rows.last).all()
    np.testing.assert_array_equal(rows.start, np.maximum(rows.end - window, 0))


@pytest.mark.parametrize("window", [1, 3, 50])
def test_newest_predicts_the_successor_of_every_input(window: int) -> None:
    last = np.array([0, 1, 2, 5, 9])
    rows = last_window(last, window)
    assert rows.user.tolist() == [2, 3, 4]
    np.testing.assert_array_equal(rows.lengths, np.minimum(last[2:] - 1, window))
    np.testing.assert_array_equal(rows.first, rows.start + 1)
    np.testing.assert_array_equal(rows.last, last[2:])
    np.testing.assert_array_equal(rows.end, rows.last - 1)


def test_rows_are_chosen_by_slice_and_by_place() -> None:
    rows = overlapping_windows(np.array([1, 2]), np.array([0, 0]), np.array([3, 4]), 2)
    assert len(rows[1:]) == len(rows) - 1
    assert rows[np.array([0])].end.tolist() == rows.end[:1].tolist()


timed = st.lists(st.lists(st.integers(0, 30), max_size=25), min_size=1, max_size=5)


@given(timed, st.integers(1, 12), st.sampled_from([OWN, BLIND, Delayed(1), Delayed(7), Delayed(99)]))
@settings(max_examples=300, deadline=None)
def test_shared_rows_hold_every_target_once_with_all_that_it_sees_or_half_a_window(
    histories: list[list[int]], window: int, sees: Delayed
) -> None:
    log = log_of(histories)
    user, place = arrays.rows(log.offsets), arrays.places(log.offsets)
    rows = limited_windows(log, user, place, window, sees)
    assert targets(rows) == Counter(zip(user.tolist(), place.tolist(), strict=True))
    assert (rows.lengths <= window).all() and (rows.lengths >= 0).all() and (rows.start >= 0).all()
    seen = sees.events(log, *rows.targets)
    row = np.repeat(np.arange(len(rows)), rows.last - rows.first)
    assert ((seen - rows.start[row] >= window // 2) | (rows.start[row] == 0)).all()
    assert (rows.end == [seen[row == one].max() for one in range(len(rows))]).all()  # and nothing that nobody sees


def test_a_delayed_target_apart_has_the_newest_events_that_it_sees() -> None:
    log = log_of([[0, 10, 20, 30, 40, 50]])
    rows = one_row_per_limited_target(log, np.zeros(6, dtype=np.int64), np.arange(6), 3, Delayed(15))
    assert rows.end.tolist() == [0, 0, 1, 2, 3, 4] and rows.start.tolist() == [0, 0, 0, 0, 1, 2]
    assert rows[1:].sees == Delayed(15)
