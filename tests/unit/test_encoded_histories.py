"""Histories in codes: whatever they come from and however they grew, they are one encoding of what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from facta.data.batches.dataset_requests import request_batch
from facta.data.batches.encoded import EncodedEvents, EncodedHistory
from facta.data.batches.growing import Growing
from facta.data.batches.request import request
from facta.data.batches.spec import InputSpec
from facta.data.batches.stored import StoredHistories, encoded_history
from facta.data.batches.windows import window_length, window_start
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import Requests
from facta.errors import DataError
from facta.infer.history import History, encoded
from facta.infer.history_of import history_of
from tests.late_world import FIELDS, MINUTE, T0, histories, prepared
from tests.unit.test_candidates import log as log  # the fixture

FACTS = ("rows", "places", "unknown", "times", "next_time", "fields", "late", "known_at", "user", "lists", "series")
LATE = InputSpec(fields=tuple(FIELDS))
EVERYTHING = InputSpec(
    fields=("tab", "click", "stars", "seconds"), users=("city", "since"), lists=("before",), series=True
)  # of the other log


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared(histories(), tmp_path_factory.mktemp("late") / "log")


def some_rows(ids: Sequence[Any]) -> Any:
    """A catalogue without every third item."""
    return np.array([id_ if id_ % 3 else -1 for id_ in ids], dtype=np.int64)


def plain(value: Any) -> Any:
    """Arrays and tensors as lists."""
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type) and type(value).__module__ != "facta.data.dataset.schema":
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    return value.tolist() if isinstance(value, (np.ndarray, torch.Tensor)) else value


def facts(history: EncodedHistory) -> dict[str, Any]:
    return {name: plain(getattr(history, name)) for name in FACTS}


def part(history: History, start: int, stop: int) -> History:
    """Some events of a history."""
    assert history.times is not None
    return replace(
        history,
        items=history.items[start:stop],
        times=history.times[start:stop],
        fields={name: values[start:stop] for name, values in history.fields.items()},
        known_at={name: times[start:stop] for name, times in history.known_at.items()},
    )


def coded(dataset: Dataset, history: History) -> EncodedHistory:
    return encoded(history, some_rows, dataset.manifest, LATE)


def events_of(history: EncodedHistory, rows: Sequence[int]) -> EncodedEvents:
    """All events of a history, those of unknown items too: for these the codes are 0."""
    assert history.times is not None
    return EncodedEvents(np.array(rows), history.times, history.fields, history.known_at)


def appended(dataset: Dataset, whole: History, start: int, stop: int) -> EncodedEvents:
    """Events as they come one by one: encoded where every item is known, then with the rows of the catalogue."""
    new = encoded(part(whole, start, stop), lambda ids: np.zeros(len(ids), dtype=np.int64), dataset.manifest, LATE)
    return events_of(new, some_rows(whole.items[start:stop]).tolist())


@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_history_that_grew_is_the_history_encoded_at_once(late: Dataset, step: int) -> None:
    for user in range(late.num_users):
        whole = history_of(late, user)
        for start in range(len(whole.items) + 1):
            grown = coded(late, part(whole, 0, start))
            for place in range(start, len(whole.items), step):
                grown.append(appended(late, whole, place, min(place + step, len(whole.items))))
            assert facts(grown) == facts(coded(late, whole)), (user, start)


def test_an_event_before_the_newest_is_no_later_event(late: Dataset) -> None:
    whole = history_of(late, 7)
    grown = coded(late, whole)
    with pytest.raises(DataError, match=r"^Found an event at \d+ to be added to a history whose newest event is at "):
        grown.append(appended(late, whole, 0, 1))
    with pytest.raises(DataError, match="events with times and events without times in one history"):
        grown.append(EncodedEvents(np.array([1]), None, {name: np.array([0]) for name in FIELDS}))
    assert facts(grown) == facts(coded(late, whole))


def test_a_history_that_was_cut_is_its_first_events(late: Dataset) -> None:
    for user in range(late.num_users):
        whole = history_of(late, user)
        for count in range(len(coded(late, whole)) + 1):
            cut, shown = coded(late, whole), coded(late, whole).rows
            ends = int(cut.places[count - 1]) + 1 if count else 0
            cut.cut(count)
            wanted = coded(late, part(whole, 0, ends))
            assert facts(cut) == facts(wanted), (user, count)
            for place in range(ends, len(whole.items)):
                cut.append(appended(late, whole, place, place + 1))
            assert facts(cut) == facts(coded(late, whole)), (user, count)
            assert shown.tolist() == coded(late, whole).rows.tolist()


def test_an_amended_event_is_the_event_encoded_anew(late: Dataset) -> None:
    """An older event, too: a batch that is made afterwards shows it, one that was made before does not change."""
    whole, at = history_of(late, 7), T0 + 10_000 * MINUTE
    for place in range(len(coded(late, whole))):
        amended, ours = coded(late, whole), {name: list(values) for name, values in whole.fields.items()}
        theirs = int(amended.places[place])
        before = request([amended], [at], 20)
        was = before.events.fields["click"].tolist()
        clicked = 1 - ours["click"][theirs]
        ours["click"][theirs] = clicked
        amended.amend(place, {"click": clicked + 1})
        wanted = coded(late, replace(whole, fields=ours))
        assert facts(amended) == facts(wanted)
        after = request([amended], [at], 20)
        assert plain(after) == plain(request([wanted], [at], 20))
        assert before.events.fields["click"].tolist() == was != after.events.fields["click"].tolist()


def test_an_amended_value_is_shown_from_the_moment_when_it_is_known(late: Dataset) -> None:
    history = encoded(History([1, 2, 4], [T0, T0 + 10, T0 + 20], {"buy": [0, 0, 0]}), some_rows, late.manifest, LATE)
    assert not history.late
    history.amend(1, {"buy": 2}, {"buy": T0 + 50})
    assert {one.name for one in history.late} == {"buy", "rated"}
    assert plain(history.known_at) == {"buy": [np.iinfo(np.int64).min, T0 + 50, np.iinfo(np.int64).min]}
    assert request([history], [T0 + 90], 3).events.fields["buy"].tolist() == [1, 1, 1]  # the third came before
    history.amend(2, {"buy": 2}, {"buy": T0 + 50})
    assert request([history], [T0 + 50], 3).events.fields["buy"].tolist() == [1, 1, 1]
    assert request([history], [T0 + 51], 3).events.fields["buy"].tolist() == [1, 1, 2]
    history.amend(2, {"buy": 2}, {"buy": T0 + 20})  # with its event
    assert request([history], [T0 + 20], 3).events.fields["buy"].tolist() == [1, 1, 2]


@pytest.mark.parametrize("until", [None, *(T0 + minutes * MINUTE for minutes in (-5, 0, 25, 75, 350, 9000))])
def test_a_dataset_gives_the_codes_that_its_values_have(late: Dataset, log: Dataset, until: int | None) -> None:
    for dataset, spec in ((late, LATE), (log, EVERYTHING)):
        for user in range(dataset.num_users):
            found = encoded_history(dataset, user, until, spec)
            id_ = dataset.users["user_id"][user]
            wanted = encoded(history_of(dataset, id_, until=until), dataset.item_rows, dataset.manifest, spec)
            assert facts(found) == facts(wanted), (user, until)


def test_many_users_at_once_share_nothing(late: Dataset) -> None:
    stored = StoredHistories(late, some_rows, late.manifest, LATE)
    first, second = stored.encoded(np.array([6, 7]))
    first.amend(0, {"click": 0})
    assert second.times is not None
    first.append(EncodedEvents(second.rows, second.times + 10**9, second.fields))
    assert facts(second) == facts(stored.encoded(np.array([7]))[0])


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (4, 3), (50, 1)])
def test_evaluation_and_requests_make_one_batch(late: Dataset, log: Dataset, window: int, stride: int) -> None:
    """Of every user as it stood after every event, asked at its newest event and much later; alone and all together."""
    for dataset, spec in ((late, LATE), (log, EVERYTHING)):
        assert dataset.timestamp is not None
        asked = [
            (user, end, at)
            for user in range(dataset.num_users)
            for end in range(int(dataset.offsets[user + 1] - dataset.offsets[user]) + 1)
            for at in (int(dataset.timestamp[dataset.offsets[user] + max(end - 1, 0)]), T0 + 9000 * MINUTE)
        ]
        every = [stood(dataset, user, end, spec) for user, end, _ in asked]
        users, ends, times = (np.array(column) for column in zip(*asked, strict=True))
        offsets, none = np.zeros(len(asked) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
        requests = Requests(users, ends, times, offsets, none)
        for rows in (slice(0, len(asked)), *(slice(row, row + 1) for row in range(0, len(asked), 3))):
            found = request(every[rows], times[rows].tolist(), window, stride=stride)
            wanted = request_batch(dataset, requests, rows, window, spec, stride=stride)
            assert plain(without_keys(found)) == plain(without_keys(wanted)), asked[rows]


def stood(dataset: Dataset, user: int, end: int, spec: InputSpec) -> EncodedHistory:
    """The history of a user as it stood after some events."""
    history = encoded_history(dataset, user, None, spec)
    history.cut(end)
    return history


def without_keys(batch: Any) -> Any:
    """Series entries are named by user in evaluation; nothing is drawn by these names."""
    return batch if batch.series is None else replace(batch, series=replace(batch.series, key=batch.series.field * 0))


def test_rows_of_different_people_keep_apart(late: Dataset) -> None:
    """Together as alone: some with late feedback and some without, one without events."""
    wholes = [history_of(late, user) for user in (7, 1, 5)] + [History([], []), History([1, 2], [T0, T0 + 1])]
    each, at = [coded(late, one) for one in wholes], [T0 + 10_000 * MINUTE + place for place in range(5)]
    assert {bool(one.late) for one in each} == {True, False}
    together = request(each, at, 3)
    for row, (one, moment) in enumerate(zip(each, at, strict=True)):
        alone, span = request([one], [moment], 3), slice(int(together.offsets[row]), int(together.offsets[row + 1]))
        assert together.events.item[span].tolist() == alone.events.item.tolist()
        assert together.next_time is not None and alone.next_time is not None
        assert together.next_time[span].tolist() == alone.next_time.tolist()
        for name, column in together.events.fields.items():
            assert column[span].tolist() == alone.events.fields[name].tolist(), (row, name)


def test_unknown_items_take_no_place_in_a_window(late: Dataset) -> None:
    history = encoded(History([1, 3, 2, 6, 9, 4, 5, 3], [T0 + place for place in range(8)]), some_rows)
    assert (history.unknown, history.places.tolist()) == (4, [0, 2, 5, 6])
    assert request([history], [T0 + 10], 3).events.item.tolist() == [2, 4, 5]
    assert request([history], [T0 + 10], 4).events.item.tolist() == [1, 2, 4, 5]


def slow_start(events: int, window: int, stride: int) -> int:
    """The first multiple of the stride from which on at most N events lie."""
    start = 0
    while events - start > window:
        start += stride
    return start


def test_a_window_moves_in_strides() -> None:
    for window in range(1, 9):
        for stride in range(1, window + 1):
            events = np.arange(30)
            wanted = [slow_start(n, window, stride) for n in range(30)]
            assert window_start(events, window, stride).tolist() == wanted
            assert [window_start(n, window, stride) for n in range(30)] == wanted
            lengths = window_length(events, window, stride)
            assert lengths[:window].tolist() == events[:window].tolist()
            assert set(lengths[window + stride :].tolist()) == set(range(window - stride + 1, window + 1))
    assert window_start(np.arange(6), 3).tolist() == [0, 0, 0, 0, 1, 2]  # stride 1: the newest N


def test_windows_of_candidates_begin_where_those_of_lists_do_but_once_in_a_stride() -> None:
    """A candidate is one of the N events: one event less is read. One memory serves both, up to that event."""
    for window in (4, 9):
        for stride in range(1, window):
            apart = [n for n in range(60) if window_start(n, window - 1, stride) != window_start(n, window, stride)]
            assert apart == [n for n in range(window, 60) if (n - window) % stride == 0]


def test_a_request_shows_its_window_and_counts_places_from_its_start() -> None:
    history = encoded(History([1] * 7 + [2, 4, 5], [T0 + place for place in range(10)]), some_rows)
    batch = request([history], [T0 + 20], 5, stride=3)
    assert batch.events.item.tolist() == [1, 2, 4, 5] and batch.index.tolist() == [0, 1, 2, 3]
    assert batch.targets.num_visible.tolist() == [4] and batch.next_time is not None
    assert batch.next_time.tolist() == [T0 + 7, T0 + 8, T0 + 9, T0 + 20]


def test_room_doubles_and_views_stay() -> None:
    column, rooms, views = Growing(np.array([0])), set(), []
    for value in range(1, 1000):
        column.extend(np.array([value]))
        views.append(column.values)
        rooms.add(id(column.values.base if column.values.base is not None else column.values))
    assert len(rooms) <= 11 and column.values.tolist() == list(range(1000))
    column.cut(3)
    column.extend(np.array([7, 7]))
    assert column.values.tolist() == [0, 1, 2, 7, 7] and views[-1].tolist() == list(range(1000))
