"""Items are found first, then ranked: by the artifact that found them, or by another one that knows other items."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from facta.data.dataset.dataset import Dataset
from facta.errors import ConfigError
from facta.infer.artifact import Artifact
from facta.infer.engine import Engine
from facta.infer.history import History
from facta.store.content import Clock
from facta.store.memory import MemoryStore
from tests.unit.test_candidates import T0, artifact, world

AT = np.datetime64(T0 + 10_000, "ms")
SAID = {"at": AT, "context": {"tab": "home"}}
POSTED = [{"item_id": item, "timestamp": T0 + item, "click": item % 2, "event_id": str(item)} for item in (1, 2, 5)]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return world(tmp_path_factory.mktemp("retrieve") / "log")


@pytest.fixture(scope="module")
def joint(log: Dataset) -> Artifact:
    return artifact(log, joint=True)


def history(events: list[dict[str, int | str]]) -> History:
    times = [np.datetime64(int(one["timestamp"]), "ms") for one in events]
    items = [one["item_id"] for one in events]
    return History(items, times, fields={"click": [one["click"] for one in events]})  # type: ignore[arg-type]


def engine(made: Artifact, ranker: Artifact | None = None) -> Engine:
    found = Engine(made, ranker=ranker, store=MemoryStore(Clock(max_future=None)), stride=1, now=lambda: 0)
    found.append(1, POSTED)
    return found


def test_found_items_are_ordered_as_rank_orders_them(joint: Artifact) -> None:
    histories = [history(POSTED), History([]), history(POSTED[:1])]
    plain = joint.recommend(histories, 4, at=AT)
    by = {"click": 1.0, "stars": -0.5}
    found = joint.recommend(histories, 4, by=by, **SAID)
    assert found.source == ["model", "popularity", "model"] == plain.source and found.by == by
    for place, one in enumerate(histories):
        right = joint.rank(one, plain.ids[place], by=by, **SAID)
        assert found.ids[place] == right.ids[0] and found.titles[place] == right.titles[0]
        for name, scores in found.predicted.items():
            assert scores[place] == pytest.approx(right.scores[name][0], rel=1e-5)
        value = np.array(found.predicted["click"][place]) - 0.5 * np.array(found.predicted["stars"][place])
        assert found.scores[place] == pytest.approx(value.tolist(), rel=1e-5)
        assert found.scores[place] == sorted(found.scores[place], reverse=True)
    assert {"click", "stars", "score"} < {*found.frame().columns} and len(found.frame()) == 12


def test_an_engine_says_the_same(joint: Artifact) -> None:
    live, people = engine(joint), [history(POSTED), History([])]
    for k in (1, 3, 9):
        found, right = live.recommend([1, 2], k, by="click", **SAID), joint.recommend(people, k, by="click", **SAID)
        assert (found.ids, found.source, found.by) == (right.ids, right.source, right.by)
        for scores, expected in zip(found.scores, right.scores, strict=True):
            assert scores == pytest.approx(expected, rel=1e-5)


def test_what_another_artifact_cannot_rank_takes_no_place_in_the_list(log: Dataset, joint: Artifact) -> None:
    """It knows other items, in another order."""
    ranker = artifact(log, "dlrm")
    ids = pl.Series("item_id", [8, 7, 6, 5, 4, 3, 102, 101, 100])
    ranker = Artifact(ranker.config, ranker.schema, ranker.catalogue.with_columns(ids), ranker.model)
    live, plain = engine(joint, ranker), joint.recommend(history(POSTED), 9, exclude="nothing", at=AT)
    left = [id_ for id_ in plain.ids[0] if id_ >= 3]
    for k in (1, 3, len(left)):
        found = live.recommend(1, k, exclude="nothing", by="click", **SAID)
        right = ranker.rank(history(POSTED), left[:k], by="click", **SAID)
        assert found.ids == right.ids and found.titles == right.titles
        assert found.scores[0] == pytest.approx(right.scores["click"][0], rel=1e-5)
    assert live.recommend(1, 9, exclude="nothing", by="click", **SAID).ids == found.ids
    assert live.recommend(1, 9, exclude="nothing", at=AT).ids == plain.ids, "without by all may be listed"


def test_what_ranks_nothing_says_so(log: Dataset) -> None:
    with pytest.raises(ConfigError, match="clack"):
        artifact(log, joint=True).recommend([1], 2, by="clack", **SAID)
