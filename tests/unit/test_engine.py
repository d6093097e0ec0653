"""Requests and answers: histories in, ids and titles out, the same alone and in company."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import facta.artifact.model as saved_model
from facta.data.batches import request_batch
from facta.data.histories import Dataset
from facta.data.prepare import prepare
from facta.data.splits import Requests
from facta.errors import ConfigError, DataError
from facta.infer.engine import Artifact
from facta.infer.request import History, as_histories, history_of, known, milliseconds, request

TIMED = {"kind": "recommender", "window": 4, "width": 8, "encoder": {"kind": "hstu", "layers": 1, "bias": "both"}}
ITEMS = 12


def artifact(*, timed: bool = False, ids: list[object] | None = None, window: int = 4) -> Artifact:
    config = {**TIMED, "window": window, "encoder": {**TIMED["encoder"], "bias": "both" if timed else "position"}}  # type: ignore[dict-item]
    model = saved_model.build(saved_model.parse(config), ITEMS, seed=1)
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
            "timestamp": [100, 200, 200, 400, 500, 600, 50, 900, 10],
        }
    )
    items = pl.DataFrame({"item_id": [10 * row for row in range(ITEMS)]})
    return prepare(frame, tmp_path / "log", items=items, unit="s")


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
    batch = request([known(History([0, 10]), engine.rows_of)], None, 4)
    expected = engine.model.catalogue_scores(batch).dense()[0]
    trained = [row for row in torch.argsort(expected, descending=True).tolist() if row != 4]
    assert answer.ids == [[10 * row for row in trained]]
    assert answer.scores[0] == pytest.approx(expected[trained].tolist())


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
    answer = artifact(timed=True).recommend([History([]), History([7, 8], [1, 2])], 3)
    assert answer.ids == [[10, 30, 20]] * 2 and answer.scores == [[9, 8, 7]] * 2
    assert answer.source == ["popularity", "popularity"] and answer.unknown == [0, 2]


def test_unknown_items_are_left_out_and_counted() -> None:
    engine = artifact(timed=True)
    with_unknown = engine.recommend(History([0, 7, 10], [100, 150, 200]), 5, at=300)
    without = engine.recommend(History([0, 10], [100, 200]), 5, at=300)
    assert (with_unknown.ids, with_unknown.scores) == (without.ids, without.scores)
    assert with_unknown.unknown == [1] and with_unknown.source == ["model"]


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
    for history, at in ((History([0, 10]), 5), (History([0, 10], [1, 2]), None), ([0, 10], "2020-01-01")):
        with pytest.raises(DataError, match="reads time"):
            engine.recommend(history, at=at)
    with pytest.raises(DataError, match="before the newest event of its history, 2000"):
        engine.recommend(History([0, 10], [1000, 2000]), at=1999)
    with pytest.raises(DataError, match="2 items and 1 times"):
        engine.recommend(History([0, 10], [1]), at=3)
    with pytest.raises(DataError, match="2 request times for 1"):
        engine.recommend(History([0], [1]), at=[3, 4])


def test_the_time_of_the_request_changes_the_answer_of_a_model_that_reads_time() -> None:
    engine = artifact(timed=True)
    history = History([0, 10, 20], [0, 1000, 2000])
    assert engine.recommend(history, at=3000).scores != engine.recommend(history, at=3_000_000_000).scores
    both = engine.recommend([history, history], at=[3000, 3_000_000_000])
    assert both.scores[0] == pytest.approx(engine.recommend(history, at=3000).scores[0])
    assert artifact().recommend(history, at=3000).ids == artifact().recommend(history).ids


def test_a_request_is_the_batch_that_evaluation_makes(log: Dataset) -> None:
    ends, times = np.array([6, 2, 0]), np.array([700_000, 900_000, 5000])
    none = np.zeros(4, dtype=np.int64)
    evaluated = request_batch(log, Requests(np.array([0, 1, 2]), ends, times, none, none[:0]), slice(0, 3), window=4)
    histories = [history_of(log, 1), history_of(log, 2), History([], [])]
    asked = request([known(one, log.item_rows) for one in histories], times.tolist(), window=4)
    for name in ("offsets", "index", "next_time"):
        assert torch.equal(getattr(asked, name), getattr(evaluated, name)), name
    assert torch.equal(asked.events.item, evaluated.events.item)
    assert torch.equal(asked.events.time, evaluated.events.time)  # type: ignore[arg-type]
    for name in ("offsets", "after", "slot", "weight"):
        assert torch.equal(getattr(asked.targets, name), getattr(evaluated.targets, name)), name
    assert torch.equal(asked.targets.events.time, evaluated.targets.events.time)  # type: ignore[arg-type]


def test_a_stored_history_ends_at_the_moment_asked_for(log: Dataset) -> None:
    assert history_of(log, 1).items == [0, 10, 20, 30, 40, 50]
    assert history_of(log, 1, until=200_000) == History([0, 10, 20], [100_000, 200_000, 200_000])
    assert history_of(log, 1, until=datetime.fromtimestamp(0.5, UTC)).items == []
    with pytest.raises(DataError, match="77"):
        history_of(log, 77)


def test_events_given_out_of_order_are_sorted_by_time_and_ties_keep_their_order() -> None:
    engine = artifact(timed=True)
    history = known(History([20, 0, 10, 30], [5, 3, 5, 4]), engine.rows_of)
    assert history.rows.tolist() == [0, 3, 2, 1]
    assert history.times is not None and history.times.tolist() == [3, 4, 5, 5]


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (7, 7),
        (np.int64(7), 7),
        ("1970-01-01T00:00:01", 1000),
        ("1970-01-01T01:00:01+01:00", 1000),
        (datetime(1970, 1, 1, 0, 0, 1), 1000),
        (datetime(1970, 1, 2, tzinfo=UTC), 86_400_000),
    ],
)
def test_times_are_read_as_utc_milliseconds(time: int | str | datetime, expected: int) -> None:
    assert milliseconds(time) == expected


def test_a_time_that_is_none_is_explained() -> None:
    with pytest.raises(DataError, match="'yesterday'; expected milliseconds"):
        milliseconds("yesterday")


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


def test_a_wrong_k_or_exclude_is_refused() -> None:
    with pytest.raises(ConfigError, match="k = 0"):
        artifact().recommend([0], 0)
    with pytest.raises(ConfigError, match="'seen'; expected 'history', 'nothing' or a list"):
        artifact().recommend([0], exclude="seen")
