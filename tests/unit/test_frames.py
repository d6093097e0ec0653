"""Answers and rankings as frames: the lists line by line, in the form of `recommend_users` and `rank_users`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import facta
import facta.artifact.model as saved_model
from facta.artifact.files import ArtifactData
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.infer.artifact import Artifact
from facta.infer.history_of import histories_of
from tests.unit.test_candidates import MINUTE, T0, artifact
from tests.unit.test_candidates import log as log  # the fixture
from tests.unit.test_engine import artifact as small

AT = T0 + 2000 * MINUTE
LINES = {"request": pl.Int64, "rank": pl.Int32, "item_id": pl.Int64, "score": pl.Float32, "title": pl.String}
pytestmark = pytest.mark.filterwarnings("ignore::facta.errors.UnknownValueWarning")


def asked_as_users(frame: pl.DataFrame, dataset: Dataset) -> pl.DataFrame:
    """Requests are the users of a dataset in its order."""
    user = dataset.users["user_id"].gather(frame["request"])
    return frame.drop("request").select(user.alias("user_id"), pl.all())


def test_an_answer_has_a_line_for_each_item() -> None:
    engine = small()
    answer = engine.recommend([[0, 10, 20], [], [40], [110]], 3, exclude=[10 * row for row in range(10)])
    assert [len(ids) for ids in answer.ids] == [2, 2, 2, 2] and set(answer.source) == {"model", "popularity"}
    frame = answer.frame()
    assert dict(frame.schema) == {**LINES, "source": pl.String}
    place = 0
    for request, ids in enumerate(answer.ids):
        for rank, id_ in enumerate(ids):
            expected = (request, rank + 1, id_, answer.scores[request][rank], f"title {id_}", answer.source[request])
            assert frame.row(place) == expected
            place += 1
    assert place == frame.height


def test_an_answer_is_what_all_users_get(log: Dataset) -> None:
    engine = artifact(log, joint=True)
    histories = histories_of(log, log.users["user_id"], until=AT)
    answer = engine.recommend(histories, 4, at=AT, exclude="history")
    lengths = {len(ids) for ids in answer.ids}
    assert {4} < lengths, "no list is shorter than another"
    expected = engine.recommend_users(log, 4, at=AT, exclude="history")
    found = asked_as_users(answer.frame(), log)
    assert found.schema == expected.schema
    assert found.drop("score").equals(expected.drop("score"))
    assert found["score"].to_list() == pytest.approx(expected["score"].to_list(), rel=1e-4)


@pytest.mark.parametrize("by", [None, {"click": 1.0, "stars": -0.5, "seconds": 0.3}])
def test_a_ranking_is_what_all_users_get(log: Dataset, by: Any) -> None:
    engine = artifact(log)
    histories = histories_of(log, log.users["user_id"], until=AT)
    ranking = engine.rank(histories, [3, 0, 99, 7, 5], at=AT, by=by)
    expected = engine.rank_users(log, [3, 0, 99, 7, 5], at=AT, by=by)
    found = asked_as_users(ranking.frame(), log)
    assert found.schema == expected.schema and {"click", "stars", "seconds"} < set(found.columns)
    scores = [name for name, kind in found.schema.items() if kind == pl.Float32]
    assert found.drop(scores).equals(expected.drop(scores))
    for name in scores:
        assert found[name].to_list() == pytest.approx(expected[name].to_list(), rel=1e-4, abs=1e-6)
    for request, lists in enumerate(ranking.scores["click"]):
        assert ranking.frame().filter(pl.col("request") == request)["click"].to_list() == pytest.approx(lists)


def test_lists_without_items_keep_the_types_of_the_columns(log: Dataset) -> None:
    text = [f"item {place}" for place in range(12)]
    for ids, kind in ((None, pl.Int64), (text, pl.String), ([2**64 - 1 - place for place in range(12)], pl.UInt64)):
        engine = small(ids=ids)  # type: ignore[arg-type]
        every = [engine.catalogue["item_id"][0]], engine.catalogue["item_id"].to_list()
        empty = engine.recommend(every[0], 3, exclude=every[1]).frame()
        full = engine.recommend(every[0], 3).frame()
        assert empty.is_empty() and empty.schema == full.schema and full.schema["item_id"] == kind
        assert pl.concat([empty, full])["item_id"].to_list() == full["item_id"].to_list()
    ranking = artifact(log).rank([facta.History([0], [T0])] * 2, [[], []], at=AT)
    assert ranking.frame().is_empty() and dict(ranking.frame().schema).items() >= LINES.items()


def test_a_request_that_got_nothing_has_no_line() -> None:
    alone = facta.Answer(ids=[[], [10]], titles=[[], [None]], scores=[[], [1.0]], source=["model"] * 2, unknown=[0, 0])
    assert alone.frame().rows() == [(1, 1, 10, 1.0, None, "model")]


def test_a_feedback_field_may_have_the_name_of_a_column(tmp_path: Path) -> None:
    """Its prediction stands beside what orders the candidates, and does not replace it."""
    data = pl.DataFrame(
        {
            "user_id": [place // 6 for place in range(60)],
            "item_id": [place % 7 for place in range(60)],
            "timestamp": [T0 + MINUTE * place for place in range(60)],
            "score": [place % 2 for place in range(60)],
            "rank": [int(place % 3 > 0) for place in range(60)],
        }
    )
    dataset = facta.prepare(data, tmp_path / "log", fields=["score", "rank"])
    model: dict[str, Any] = {"kind": "recommender", "layout": "interleaved", "width": 8, "feedback": {}}
    engine = named(dataset, {**model, "next_item": None})
    by = {"score": 1.0, "rank": 2.0}
    frames = [
        engine.rank(facta.history_of(dataset, 0), [3, 4, 5], at=AT, by=by).frame(),
        engine.rank_users(dataset, [3, 4, 5], at=AT, by=by),
    ]
    for frame in frames:
        assert frame.columns[-2:] == ["score (predicted)", "rank (predicted)"]
        assert frame["rank"].to_list()[:3] == [1, 2, 3]
        value = frame["score (predicted)"] + 2 * frame["rank (predicted)"]
        assert frame["score"].to_list() == pytest.approx(value.to_list(), rel=1e-5)


def named(log: Dataset, config: dict[str, Any]) -> Artifact:
    """Untrained."""
    built = saved_model.parse(config).build(Catalogue.of(log), seed=3).eval()
    catalogue = log.items.with_columns(training_events=pl.lit(1))
    schema = log.manifest.model_dump(mode="json")
    return Artifact.of(ArtifactData({"name": "t", "model": config, "protocol": {}}, schema, catalogue, built))
