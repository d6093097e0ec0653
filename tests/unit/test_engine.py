"""Requests and answers: histories in, ids and titles out, the same alone and in company."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import facta.artifact.model as saved_model
from facta.data.batches.dataset_requests import request_batch
from facta.data.batches.request import request
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.times import Time, moment
from facta.data.log.prepare import prepare
from facta.data.split.splits import Requests
from facta.errors import ConfigError, DataError
from facta.infer.artifact import Artifact
from facta.infer.history import History, as_histories, encoded
from facta.infer.history_of import history_of

TIMED = {"kind": "recommender", "window": 4, "width": 8, "encoder": {"kind": "hstu", "layers": 1, "bias": "both"}}
ITEMS = 12
T0 = 1_600_000_000_000  # 2020-09-13T12:26:40Z


def artifact(*, timed: bool = False, ids: list[object] | None = None, window: int = 4) -> Artifact:
    config = {**TIMED, "window": window, "encoder": {**TIMED["encoder"], "bias": "both" if timed else "position"}}  # type: ignore[dict-item]
    model = saved_model.parse(config).build(Catalogue(ITEMS), seed=1)
    model.eval()
    ids = [10 * row for row in range(ITEMS)] if ids is None else ids
    catalogue = pl.DataFrame(
        {
            "row": range(ITEMS),
            "item_id": ids,
            "title": [f"title {id_}" for id_ in ids],
            "training_events": [5, 9, 7, 8, 0, 1, 1, 1, 1, 1, 1, 6],
        }
    )
    return Artifact({"name": "t", "model": config, "protocol": {}}, {}, catalogue, model)


@pytest.fixture
def log(tmp_path: Path) -> Dataset:
    frame = pl.DataFrame(
        {
            "user_id": [1, 1, 1, 1, 1, 1, 2, 2, 3],
            "item_id": [0, 10, 20, 30, 40, 50, 60, 70, 110],
            "timestamp": [T0 // 1000 + second for second in (100, 200, 200, 400, 500, 600, 50, 900, 10)],
        }
    )
    items = pl.DataFrame({"item_id": [10 * row for row in range(ITEMS)]})
    return prepare(frame, tmp_path / "log", items=items)


def test_one_history_and_many_give_the_same_shape_and_the_same_lists() -> None:
    engine = artifact()
    histories = [[0, 10, 20], [30], [], [20, 10, 0, 30, 50, 60, 70]]
    together = engine.recommend(histories, 3)
    assert len(together.ids) == len(together.titles) == len(together.scores) == 4
    for place, history in enumerate(histories):
        alone = engine.recommend(history, 3)
        assert alone.ids == [together.ids[place]]
        assert alone.scores[0] == pytest.approx(together.scores[place], rel=1e-6)
    assert together.titles[0] == [f"title {id_}" for id_ in together.ids[0]]


def test_scores_are_those_of_the_model_and_come_best_first() -> None:
    engine = artifact()
    answer = engine.recommend([0, 10], ITEMS, exclude="nothing")
    batch = request([encoded(History([0, 10]), engine.rows_of)], None, 4)
    expected = engine.model.catalogue_scores(batch).dense()[0]
    trained = [row for row in torch.argsort(expected, descending=True).tolist() if row != 4]
    assert answer.ids == [[10 * row for row in trained]]
    assert answer.scores[0] == pytest.approx(expected[trained].tolist(), abs=1e-5)  # sums of terms up to 13


def test_what_is_excluded_and_what_was_never_trained_on_is_not_recommended() -> None:
    engine = artifact()
    assert set(engine.recommend([0, 10], 50).ids[0]) == {20, 30, 50, 60, 70, 80, 90, 100, 110}
    assert set(engine.recommend([0, 10], 50, exclude="nothing").ids[0]) == {10 * row for row in range(ITEMS)} - {40}
    assert set(engine.recommend([0, 10], 50, exclude=[20, 999]).ids[0]) == {10 * row for row in range(ITEMS)} - {20, 40}
    assert len(engine.recommend([0, 10], 2).ids[0]) == 2


def test_events_beyond_the_window_change_no_score_but_are_excluded() -> None:
    engine = artifact(window=2)
    long, short = engine.recommend([30, 0, 10], 50), engine.recommend([0, 10], 50)
    assert 30 not in long.ids[0] and 30 in short.ids[0]
    assert long.ids[0] == [id_ for id_ in short.ids[0] if id_ != 30]


def test_a_history_without_known_items_is_answered_with_popularity_and_says_so() -> None:
    answer = artifact(timed=True).recommend([History([]), History([7, 8], [T0, T0 + 1])], 3)
    assert answer.ids == [[10, 30, 20]] * 2 and answer.scores == [[9, 8, 7]] * 2
    assert answer.source == ["popularity", "popularity"] and answer.unknown == [0, 2]


def test_a_history_of_items_that_nothing_was_learned_of_is_answered_with_popularity() -> None:
    """The catalogue knows item 40, and no training event shows it."""
    engine = artifact(timed=True)
    histories = [History([40, 40]), History([0, 40], [T0, T0 + 1]), History([40], [T0])]
    answer = engine.recommend(histories, 3, at=T0 + 2)
    assert answer.source == ["popularity", "model", "popularity"] and answer.unknown == [0, 0, 0]
    assert answer.ids[0] == answer.ids[2] == [10, 30, 20] and answer.scores[0] == [9, 8, 7]
    assert engine.recommend([40], 3) == engine.recommend(History([40, 40]), 3)  # without a time: no model is asked


def test_unknown_items_are_left_out_and_counted() -> None:
    engine = artifact(timed=True)
    with_unknown = engine.recommend(History([0, 7, 10], [T0, T0 + 50, T0 + 100]), 5, at=T0 + 200)
    without = engine.recommend(History([0, 10], [T0, T0 + 100]), 5, at=T0 + 200)
    assert (with_unknown.ids, with_unknown.scores) == (without.ids, without.scores)
    assert with_unknown.unknown == [1] and with_unknown.source == ["model"]


def test_unknown_items_take_no_place_in_the_window() -> None:
    engine = artifact(window=4)
    expected = engine.recommend([0, 10, 20, 30], 5)
    for history in ([0, 10, 20, 30, 7, 8, 9], [0, 7, 10, 8, 20, 9, 30]):
        found = engine.recommend(history, 5)
        assert (found.ids, found.scores, found.unknown) == (expected.ids, expected.scores, [3])


def test_ids_of_another_type_are_refused() -> None:
    with pytest.raises(DataError, match="'10' of type str; ids of this catalogue are of type int, such as 0"):
        artifact().recommend(["10"])
    for wrong in ([[10.0]], [10.0], [10, None], [[True]]):
        with pytest.raises(DataError, match=r"of type (float|NoneType|bool)"):
            artifact().recommend(wrong)
    text = artifact(ids=list("abcdefghijké"))
    assert text.recommend(["é", "a"], 50).unknown == [0]
    with pytest.raises(DataError, match="of type int"):
        text.recommend([3])


def test_ids_never_pass_through_floats() -> None:
    big = 2**62
    engine = artifact(ids=[big + row for row in range(ITEMS)])
    assert engine.rows_of([big + 3, np.int64(big + 4), big + 100]).tolist() == [3, 4, -1]


def test_a_model_that_reads_time_asks_for_it() -> None:
    engine = artifact(timed=True)
    for history, at in ((History([0, 10]), T0), (History([0, 10], [T0, T0 + 1]), None), ([0, 10], "2020-01-01")):
        with pytest.raises(DataError, match="reads time"):
            engine.recommend(history, at=at)
    with pytest.raises(DataError, match="before the newest event of its history, 1600000002000"):
        engine.recommend(History([0, 10], [T0, T0 + 2000]), at=T0 + 1999)
    with pytest.raises(DataError, match="2 items and 1 times"):
        engine.recommend(History([0, 10], [T0]), at=T0 + 3)
    with pytest.raises(DataError, match="2 request times for 1"):
        engine.recommend(History([0], [T0]), at=[T0 + 3, T0 + 4])


def test_the_time_of_the_request_changes_the_answer_of_a_model_that_reads_time() -> None:
    engine = artifact(timed=True)
    history = History([0, 10, 20], [T0, T0 + 1000, T0 + 2000])
    soon, late = T0 + 3000, T0 + 3_000_000_000
    assert engine.recommend(history, at=soon).scores != engine.recommend(history, at=late).scores
    both = engine.recommend([history, history], at=[soon, late])
    assert both.scores[0] == pytest.approx(engine.recommend(history, at=soon).scores[0])
    assert artifact().recommend(history, at=soon).ids == artifact().recommend(history).ids


@pytest.mark.parametrize(
    "each",
    [
        (T0 + 3000, T0 + 9000),
        np.array([T0 + 3000, T0 + 9000]),
        np.array([T0 + 3000, T0 + 9000]).astype("datetime64[ms]"),
        torch.tensor([T0 + 3000, T0 + 9000]),
        pl.Series([T0 + 3000, T0 + 9000]).cast(pl.Datetime("ms")),
        (T0 + later for later in (3000, 9000)),
    ],
    ids=["tuple", "numpy", "datetime64", "torch", "polars", "generator"],
)
def test_times_of_requests_are_a_list_or_an_array(each: object) -> None:
    engine, history = artifact(timed=True), History([0, 10, 20], [T0, T0 + 1000, T0 + 2000])
    expected = engine.recommend([history, history], at=[T0 + 3000, T0 + 9000])
    assert engine.recommend([history, history], at=each) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("one", [torch.tensor(T0 + 3000), np.array(T0 + 3000), np.datetime64(T0 + 3000, "ms")])
def test_an_array_without_a_dimension_is_one_moment_for_all(one: object) -> None:
    engine, histories = artifact(timed=True), [History([0, 10], [T0, T0 + 1000]), History([20], [T0])]
    assert engine.recommend(histories, at=one) == engine.recommend(histories, at=T0 + 3000)  # type: ignore[arg-type]


def test_an_empty_list_is_one_empty_history() -> None:
    answer = artifact().recommend([], 2)
    assert answer.ids == [[10, 30]] and answer.source == ["popularity"]


def test_a_request_is_the_batch_that_evaluation_makes(log: Dataset) -> None:
    ends, times = np.array([6, 2, 0]), T0 + np.array([700_000, 900_000, 5000])
    none = np.zeros(4, dtype=np.int64)
    evaluated = request_batch(log, Requests(np.array([0, 1, 2]), ends, times, none, none[:0]), slice(0, 3), window=4)
    histories = [history_of(log, 1), history_of(log, 2), History([], [])]
    asked = request([encoded(one, log.item_rows) for one in histories], times.tolist(), window=4)
    for name in ("offsets", "index", "next_time"):
        assert torch.equal(getattr(asked, name), getattr(evaluated, name)), name
    assert torch.equal(asked.events.item, evaluated.events.item)
    assert torch.equal(asked.events.time, evaluated.events.time)  # type: ignore[arg-type]
    for name in ("offsets", "num_visible", "input_index", "weight"):
        assert torch.equal(getattr(asked.targets, name), getattr(evaluated.targets, name)), name
    assert torch.equal(asked.targets.events.time, evaluated.targets.events.time)  # type: ignore[arg-type]


def test_a_stored_history_ends_at_the_moment_asked_for(log: Dataset) -> None:
    assert history_of(log, 1).items == [0, 10, 20, 30, 40, 50]
    times = [np.datetime64(T0 + 1000 * second, "ms") for second in (100, 200, 200)]
    assert history_of(log, 1, until=T0 + 200_000) == History([0, 10, 20], times)
    assert history_of(log, 1, until=np.datetime64(T0 // 1000 + 200, "s")).items == [0, 10, 20]
    assert history_of(log, 1, until=datetime.fromtimestamp(0.5, UTC)).items == []
    with pytest.raises(DataError, match="77"):
        history_of(log, 77)


def test_a_moment_means_nothing_to_a_history_without_times(tmp_path: Path) -> None:
    ordered = prepare(pl.DataFrame({"user_id": [1, 1], "item_id": [0, 10]}), tmp_path / "ordered")
    assert history_of(ordered, 1) == History([0, 10])
    with pytest.raises(DataError, match=r"an order of events but no times; leave it out \(until=, or --at\)"):
        history_of(ordered, 1, until="2020-01-01")


def test_a_log_whose_own_clock_starts_at_zero_is_answered_from(tmp_path: Path) -> None:
    """A declared unit is believed, so a stored history may lie in 1970; written as a number it would be a mistake."""
    frame = pl.DataFrame({"user_id": [1, 1], "item_id": [0, 10], "timestamp": [0, 5]})
    history = history_of(prepare(frame, tmp_path / "simulated", unit="s"), 1)
    engine = artifact(timed=True)
    assert encoded(history, engine.rows_of).times.tolist() == [0, 5000]  # type: ignore[union-attr]
    assert engine.recommend(history, at=np.datetime64(9, "s")).source == ["model"]


def test_events_given_out_of_order_are_sorted_by_time_and_ties_keep_their_order() -> None:
    engine = artifact(timed=True)
    history = encoded(History([20, 0, 10, 30], [T0 + 5, T0 + 3, T0 + 5, T0 + 4]), engine.rows_of)
    assert history.rows.tolist() == [0, 3, 2, 1]
    assert history.times is not None and (history.times - T0).tolist() == [3, 4, 5, 5]


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (T0, T0),
        (np.int64(T0), T0),
        (torch.tensor(T0), T0),
        ("1970-01-01T00:00:01", 1000),
        ("1970-01-01T01:00:01+01:00", 1000),
        (" 2020-09-13 ", T0 - 44_800_000),
        (date(2020, 9, 13), T0 - 44_800_000),
        (datetime(1970, 1, 1, 0, 0, 1), 1000),
        (datetime(1970, 1, 2, tzinfo=UTC), 86_400_000),
        (datetime(1970, 1, 2, tzinfo=timezone(timedelta(hours=2))), 79_200_000),
        (datetime(2020, 9, 13, 12, 26, 40, 999), T0),
        *[(np.datetime64("2020-09-13T12:26:40", unit), T0) for unit in ("s", "ms", "us", "ns")],
        *[(np.datetime64("2020-09-13", unit), T0 - 44_800_000) for unit in ("D", "h")],
        (np.datetime64("2020-09-13T12:26:40.000999999"), T0),
        (np.datetime64("1970-01-01T00:00:01"), 1000),
        (pl.Series([datetime(2020, 9, 13, 12, 26, 40)])[0], T0),
    ],
)
def test_times_are_read_as_utc_milliseconds(time: Time, expected: int) -> None:
    assert moment(time) == expected


@pytest.mark.parametrize(
    "time", ["yesterday", "1611111211234", "2020-02-30", 1.6e12, None, np.datetime64("NaT"), np.datetime64(10**5, "Y")]
)
def test_a_time_that_is_none_is_explained(time: object) -> None:
    with pytest.raises(DataError, match="expected milliseconds since 1970 or an ISO time"):
        moment(time)  # type: ignore[arg-type]


@pytest.mark.parametrize("time", [T0 // 1000, T0 * 1000, T0 * 10**6, 0, -1, True, np.int64(T0 // 1000)])
def test_numbers_of_another_unit_are_no_milliseconds(time: int) -> None:
    with pytest.raises(DataError, match=rf"time {int(time)}; .*1973 to 2100: multiply Unix seconds by 1000"):
        moment(time)


def test_requests_take_the_times_of_numpy_in_any_unit_and_refuse_unix_seconds() -> None:
    engine = artifact(timed=True)
    numbers = History([0, 10, 20], [T0, T0 + 1000, T0 + 2000])
    expected = engine.recommend(numbers, at=T0 + 3000)
    for unit in ("ms", "us", "ns"):
        times = np.array([T0, T0 + 1000, T0 + 2000], dtype="datetime64[ms]").astype(f"datetime64[{unit}]")
        assert engine.recommend(History([0, 10, 20], times), at=times[-1] + np.timedelta64(1, "s")) == expected
    with pytest.raises(DataError, match="NaT"):
        engine.recommend(History([0, 10], [np.datetime64(T0, "ms"), np.datetime64("NaT", "ms")]), at=T0)
    with pytest.raises(DataError, match="multiply Unix seconds by 1000"):
        engine.recommend(History([0], [T0 // 1000]), at=T0 // 1000 + 3)


def test_histories_in_all_their_forms() -> None:
    given = History([1, 2], [3, 4])
    assert as_histories(given) == [given]
    assert (
        as_histories([1, 2]) == as_histories(np.array([1, 2])) == as_histories(pl.Series([1, 2])) == [History([1, 2])]
    )
    assert as_histories(torch.tensor([1, 2])) == [History([1, 2])]
    assert as_histories(torch.tensor([[1, 2], [3, 4]])) == as_histories([[1, 2], [3, 4]])
    assert as_histories([given, ["a"], []]) == [given, History(["a"]), History([])]
    assert as_histories([]) == [History([])]
    with pytest.raises(DataError, match="side by side"):
        as_histories([1, [2]])


@pytest.mark.parametrize("history", ["abc", b"abc", History("abc"), [History("abc")]])
def test_a_text_is_no_history(history: object) -> None:
    """Its letters, or bytes, would be read as ids."""
    for ids in (list("abcdefghijkl"), None):
        with pytest.raises(DataError, match=r"history b?'abc'; expected a list of item ids, as in \[b?'abc'\]"):
            artifact(ids=ids).recommend(history)  # type: ignore[arg-type]


def test_a_wrong_k_or_exclude_is_refused() -> None:
    for k in (0, -1, 2.5, "3", None):
        with pytest.raises(ConfigError, match=f"k = {k!r}; expected a whole number, at least 1"):
            artifact().recommend([0], k)  # type: ignore[arg-type]
    assert artifact().recommend([0], np.int64(3)) == artifact().recommend([0], 3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'seen'; expected 'history', 'nothing' or a list"):
        artifact().recommend([0], exclude="seen")


@pytest.mark.parametrize(("protocol", "shown"), [({}, 0), ({"mask": "nothing"}, 3), ({"mask": "window(1)"}, 2)])
def test_what_its_own_protocol_masked_is_not_recommended(protocol: dict[str, str], shown: int) -> None:
    engine = artifact()
    engine = Artifact({**engine.config, "protocol": protocol}, engine.schema, engine.catalogue, engine.model)
    answer, history = engine.recommend([0, 10, 20], ITEMS), {0, 10, 20}
    assert len(history & set(answer.ids[0])) == shown
    assert shown == 3 or 20 not in answer.ids[0]
