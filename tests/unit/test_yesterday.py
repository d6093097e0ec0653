"""A model of yesterday on the log of today: new items are misses, counted, and leave no trace in histories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import facta
from facta.data.split.known import known_events
from facta.eval.evaluation import evaluate
from facta.eval.experiment import Experiment
from facta.training.log import Log
from tests import worlds
from tests.rankers import Seeded, dataset_of

QUIET = Log("quiet")
CUTS = ["protocol.split=temporal", "protocol.train_end=70%", "protocol.validation_end=80%"]


def bought(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(buy=pl.col("item_id") % 3 == 0)


@pytest.fixture(scope="module", params=["debug/hstu", "debug/item-knn", "debug/popularity"])
def days(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[facta.Artifact, facta.Dataset, facta.Dataset]:
    """(artifact, the log of yesterday, that of today, in which every fourth late event is of one of five new items)."""
    place = tmp_path_factory.mktemp("days")
    frame = bought(worlds.checkerboard())
    old = facta.prepare(frame, place / "old", fields={"buy": {}})
    changes = ["training.epochs=2", "training.patience=null"] if request.param == "debug/hstu" else []
    artifact = facta.train(old, request.param, place / "artifact", [*changes, *CUTS], log=QUIET)
    newest = frame.sort("timestamp", maintain_order=True).with_row_index("n")
    late = (pl.col("n") >= int(0.6 * len(frame))) & (pl.col("n") % 4 == 0)
    today = newest.with_columns(item_id=pl.when(late).then(900 + pl.col("n") % 5).otherwise("item_id")).drop("n")
    new = facta.prepare(today, place / "new", fields={"buy": {}}, catalogue=place / "artifact")
    return artifact, old, new


def test_new_items_follow_the_known_ones_and_are_misses(
    days: tuple[facta.Artifact, facta.Dataset, facta.Dataset],
) -> None:
    artifact, old, new = days
    assert new.num_items == old.num_items + 5
    found = facta.evaluate(artifact, new, other_data=True, ks=(old.num_items,))
    requests = Experiment(new, facta.ProtocolConfig.parse(artifact.config["protocol"])).requests("test")
    unknown = requests.item >= old.num_items
    assert found.asked["unknown_targets"] == unknown.sum() > 0
    assert (found.lists < old.num_items).all()
    of_user = {user: unknown[requests.user == user].mean() for user in found.user}
    hit = dict(zip(found.user, found.values[f"HR@{old.num_items}"], strict=True))
    assert all(hit[user] <= 1 - share + 1e-9 for user, share in of_user.items())


def test_lists_are_those_that_people_get(days: tuple[facta.Artifact, facta.Dataset, facta.Dataset]) -> None:
    """A history with unknown items is read without them, in evaluation as in `recommend`."""
    artifact, _, new = days
    protocol = facta.ProtocolConfig.parse(artifact.config["protocol"]).change(rank="trained", mask="window(3)")
    found = facta.evaluate(artifact, new, protocol, other_data=True, ks=(5,))
    requests = Experiment(new, protocol).requests("test")
    ids, rng = new.items["item_id"].to_list(), np.random.default_rng(0)
    artifact.config["protocol"]["mask"] = "window(3)"  # type: ignore[index]
    for at in rng.choice(len(requests), 40, replace=False):
        start = new.offsets[requests.user[at]]
        span = slice(start, start + requests.end[at])
        assert new.timestamp is not None and requests.time is not None
        history = facta.History([ids[row] for row in new.item[span]], new.timestamp[span].tolist())
        answer = artifact.recommend(history, k=5, at=int(requests.time[at]))
        assert answer.ids == [[ids[row] for row in found.lists[at] if row >= 0]]


def test_unknown_items_take_no_place_in_the_window_and_among_the_masked(tmp_path: Path) -> None:
    """Rows 0 to 3 are known. Of both windows of two events, that of the model and that of the mask."""
    histories = {"a": [1, 2, 3, 90, 91, 4], "b": [3, 90, 91, 2]}
    told = {user: [(item, place) for place, item in enumerate(items)] for user, items in histories.items()}
    data, ranker = dataset_of(tmp_path / "d", told), Seeded(4, window=2)
    protocol = facta.ProtocolConfig(mask="window(2)")
    found = evaluate(ranker, Experiment(data, protocol), counts=np.ones(4, dtype=np.int64), ks=(4,))
    (batch,) = ranker.batches
    assert batch.events.item.tolist() == [1, 2, 2] and batch.offsets.tolist() == [0, 2, 3]
    assert [sorted(line[line >= 0].tolist()) for line in found.lists] == [[0, 3], [0, 1, 3]]


def test_the_same_log_gives_the_same_numbers(days: tuple[facta.Artifact, facta.Dataset, facta.Dataset]) -> None:
    artifact, old, _ = days
    assert facta.evaluate(artifact, old).asked["unknown_targets"] == 0


def test_feedback_of_unknown_items_is_the_mean_of_the_others_and_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    count = 1200
    frame = pl.DataFrame(
        {
            "user_id": np.arange(count) % 60,
            "item_id": rng.integers(0, 20, count),
            "timestamp": 1_700_000_000_000 + np.arange(count) * 60_000,
            "like": rng.random(count) < 0.4,
        }
    )
    old = facta.prepare(frame, tmp_path / "old", fields={"like": {}})
    changes = ["training.epochs=1", "training.patience=null", "training.keep=last", "model.width=8"]
    artifact = facta.train(old, "own-log/gr-ranking", tmp_path / "a", changes, log=QUIET)
    late = (pl.int_range(pl.len()) >= 900) & (pl.int_range(pl.len()) % 5 == 0)
    new = facta.prepare(
        frame.with_columns(item_id=pl.when(late).then(777).otherwise("item_id")),
        tmp_path / "new",
        fields={"like": {}},
        catalogue=tmp_path / "a",
    )
    for state in ("rolling", "frozen"):
        protocol = facta.ProtocolConfig.parse(artifact.config["protocol"]).change(state=state)
        found = facta.predict(artifact, new, protocol, other_data=True)
        whole = facta.predict(artifact, old, protocol)
        assert np.array_equal(found.user, whole.user) and np.array_equal(found.place, whole.place)
        unknown = new.item[new.offsets[found.user] + found.place] >= old.num_items
        assert found.asked["unknown_targets"] == unknown.sum() > 0
        p = found.p["like"]
        assert p[unknown] == pytest.approx(p[~unknown].mean()) and np.unique(p[~unknown]).size > 5
        # of people who met no new item nothing changes
        met = np.isin(found.user, np.unique(np.repeat(np.arange(60), np.diff(new.offsets))[new.item >= old.num_items]))
        assert p[~met] == pytest.approx(whole.p["like"][~met], abs=1e-6)


def test_earlier_lists_of_people_lose_unknown_items(tmp_path: Path) -> None:
    frame = worlds.checkerboard(users=4)
    old = facta.prepare(frame, tmp_path / "old")
    today = pl.concat([frame, frame.tail(1).with_columns(item_id=pl.lit(900, dtype=pl.Int64))])
    people = pl.DataFrame({"user_id": range(4), "before": [[0, 900, 3], [900], [], [11, 900, 5]]})
    new = facta.prepare(today, tmp_path / "new", users=people, user_fields={"before": "items"}, catalogue=old.path)
    fact, ids = known_events(new, old.num_items).user_facts["before"], new.items["item_id"].to_list()
    assert fact.offsets is not None and ids[-1] == 900
    lists = [[ids[row - 1] for row in part.tolist()] for part in fact.values.tensor_split(fact.offsets[1:-1])]
    assert lists == [[0, 3], [], [], [11, 5]]


def test_items_in_another_order_are_refused(tmp_path: Path) -> None:
    old = facta.prepare(worlds.checkerboard(), tmp_path / "old")
    artifact = facta.train(old, "debug/popularity", tmp_path / "a", log=QUIET)
    frame = worlds.checkerboard()
    before_all = frame.head(1).with_columns(item_id=pl.col("item_id") * 0 - 1)
    other = facta.prepare(pl.concat([frame, before_all]), tmp_path / "other")
    with pytest.raises(facta.DataError, match=r"or in another order: prepare it from the artifact's catalogue"):
        facta.evaluate(artifact, other, other_data=True)
