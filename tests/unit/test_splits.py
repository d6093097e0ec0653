"""Splits on hand-written histories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.data.split.splits import (
    Requests,
    ValidationRequests,
    check_trainable,
    cut_at_share,
    leave_one_out,
    leave_one_out_test,
    temporal,
    temporal_test,
)
from facta.errors import DataError, ProtocolError

T0 = 1_600_000_000_000
HISTORIES = {  # user: (item, minutes); ties in b
    "a": [(1, 0), (2, 10), (3, 20), (4, 30)],
    "b": [(5, 5), (1, 25), (2, 25), (3, 25)],
    "c": [(4, 1), (5, 40)],
    "d": [(1, 50)],
}


def dataset_of(path: Path, histories: dict[str, list[tuple[int, int]]], timed: bool = True) -> Dataset:
    rows = [(user, item, T0 + 60_000 * minute) for user, events in histories.items() for item, minute in events]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return prepare(frame if timed else frame.drop("timestamp"), path)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return dataset_of(tmp_path / "d", HISTORIES)


def by_name(dataset: Dataset, requests: Requests) -> list[tuple[str, int, list[int]]]:
    """(user, visible events, relevant items), in terms of the log."""
    users, items = dataset.users["user_id"].to_list(), dataset.items["item_id"].to_list()
    relevant = np.split(requests.item, requests.offsets[1:-1])
    return sorted(
        (users[u], int(end), [items[i] for i in rows])
        for u, end, rows in zip(requests.user, requests.end, relevant, strict=True)
    )


def train_ends(dataset: Dataset, ends: np.ndarray) -> dict[str, int]:
    return dict(zip(dataset.users["user_id"].to_list(), ends.tolist(), strict=True))


def test_leave_one_out_holds_out_the_last_two(dataset: Dataset) -> None:
    split, test = leave_one_out(dataset), leave_one_out_test(dataset)
    assert by_name(dataset, test) == [("a", 3, [4]), ("b", 3, [3]), ("c", 1, [5])]
    assert by_name(dataset, split.validation) == [("a", 2, [3]), ("b", 2, [2])]
    assert train_ends(dataset, split.train_end) == {"a": 2, "b": 2, "c": 1, "d": 1}
    assert test.time is not None
    assert sorted((test.time - T0) // 60_000) == [25, 30, 40]


def test_leave_one_out_without_validation_trains_on_all_but_the_last(dataset: Dataset) -> None:
    split = leave_one_out(dataset, validation=False)
    assert train_ends(dataset, split.train_end) == {"a": 3, "b": 3, "c": 1, "d": 1}
    assert len(split.validation) == 0


def test_blind_ties_hide_the_companions_of_the_same_moment(dataset: Dataset) -> None:
    assert by_name(dataset, leave_one_out_test(dataset, ties="blind")) == [("a", 3, [4]), ("b", 1, [3]), ("c", 1, [5])]


def test_blind_ties_do_not_reach_into_the_neighbour(tmp_path: Path) -> None:
    """The first event of a user has the very time of the last event of the user before."""
    dataset = dataset_of(tmp_path / "d", {"a": [(1, 0), (2, 7)], "b": [(1, 7), (2, 7)]})
    assert by_name(dataset, leave_one_out_test(dataset, ties="blind")) == [("a", 1, [2])]


def test_temporal_frozen_asks_once_for_all_of_the_period(dataset: Dataset) -> None:
    cut = T0 + 60_000 * 22
    split, test = temporal(dataset, test_from=cut), temporal_test(dataset, test_from=cut)
    assert by_name(dataset, test) == [("a", 3, [4]), ("b", 1, [1, 2, 3]), ("c", 1, [5])]
    assert train_ends(dataset, split.train_end) == {"a": 3, "b": 1, "c": 1, "d": 0}
    assert test.time is not None and set(test.time.tolist()) == {cut}


def test_temporal_rolling_asks_at_every_event_with_all_before_it(dataset: Dataset) -> None:
    test = temporal_test(dataset, test_from=T0 + 60_000 * 22, state="rolling")
    expected = [("a", 3, [4]), ("b", 1, [1]), ("b", 2, [2]), ("b", 3, [3]), ("c", 1, [5])]  # d has nothing visible
    assert by_name(dataset, test) == expected
    blind = temporal_test(dataset, test_from=T0 + 60_000 * 22, state="rolling", ties="blind")
    assert by_name(dataset, blind) == [("a", 3, [4]), *[("b", 1, [i]) for i in (1, 2, 3)], ("c", 1, [5])]


def test_temporal_validation_ends_where_the_test_begins(dataset: Dataset) -> None:
    split = temporal(dataset, validation_from=T0 + 60_000 * 8, test_from=T0 + 60_000 * 22)
    assert by_name(dataset, split.validation) == [("a", 1, [2, 3])]
    assert train_ends(dataset, split.train_end) == {"a": 1, "b": 1, "c": 1, "d": 0}


def test_the_cut_lies_behind_the_share(dataset: Dataset) -> None:
    cut = cut_at_share(dataset, 0.5)
    assert dataset.timestamp is not None
    assert (np.asarray(dataset.timestamp) < cut).mean() <= 0.5
    assert cut in np.asarray(dataset.timestamp)


def test_what_cannot_be_split_is_refused_with_a_sentence(tmp_path: Path, dataset: Dataset) -> None:
    order_only = dataset_of(tmp_path / "o", HISTORIES, timed=False)
    with pytest.raises(ProtocolError, match="needs timestamps"):
        temporal(order_only, test_from=0)
    with pytest.raises(ProtocolError, match="Blind ties need timestamps"):
        leave_one_out(order_only, ties="blind")
    with pytest.raises(ProtocolError, match="must come first"):
        temporal(dataset, validation_from=10, test_from=5)
    one_row_per_target = dataset_of(tmp_path / "s", {"a": [(1, 0)], "b": [(2, 0)]})
    with pytest.raises(ProtocolError, match="at least two events"):
        leave_one_out(one_row_per_target)
    pairs = dataset_of(tmp_path / "p", {"a": [(1, 0), (2, 1)]})
    with pytest.raises(DataError, match="two events to train on"):
        check_trainable(pairs, leave_one_out(pairs), events=2)
    check_trainable(pairs, leave_one_out(pairs), events=1)  # feedback is of the event itself


def test_a_sample_of_requests_asks_some_of_them_as_they_are() -> None:
    every = ValidationRequests(
        user=np.arange(5),
        end=np.array([3, 1, 4, 1, 5]),
        time=np.array([30, 10, 40, 11, 50]),
        offsets=np.array([0, 1, 3, 4, 4, 6]),
        item=np.array([7, 8, 9, 1, 2, 3]),
    )
    assert every.sample(5) is every
    two = every.sample(2)
    assert (two.user.tolist(), two.end.tolist()) == ([0, 2], [3, 4])
    assert two.time is not None and two.time.tolist() == [30, 40]
    assert (two.offsets.tolist(), two.item.tolist()) == ([0, 1, 2], [7, 1])
    last = every.sample(4)
    assert (last.offsets.tolist(), last.item.tolist()) == ([0, 1, 3, 4, 4], [7, 8, 9, 1])
