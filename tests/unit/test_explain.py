"""Explanations: histories made without the event, asked one by one, say the same; and worlds whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import facta.artifact.model as saved_model
from facta.data.batches.spec import InputSpec
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.data.split.statistics import Statistics
from facta.eval.protocol import ProtocolConfig
from facta.infer.artifact import Artifact
from facta.infer.asking import Asking
from facta.infer.engine import Engine
from facta.infer.explaining import NEWEST
from facta.infer.filters import Filters
from facta.infer.history import History, encoded
from facta.infer.history_of import history_of
from facta.store.content import Clock
from facta.store.memory import MemoryStore
from tests.late_world import histories as late_events
from tests.late_world import prepared
from tests.live_world import ENCODERS, Record, World, artifact_of
from tests.unit.test_candidates import ITEMS, T0
from tests.unit.test_candidates import log as log
from tests.unit.test_live import WORLD

NAMES = ("tab", "click", "stars", "seconds")
SAID = {"tab": "home"}


def score_slowly(made: Artifact, history: History, item: int, at: int, stride: int, by: str | None) -> float:
    """What the artifact says of an item to a history, asked alone; also where the history has nothing to read."""
    moment = np.datetime64(at, "ms")
    if by is not None:
        return made.rank(history, [item], by=by, at=moment, context=SAID, stride=stride).scores[by][0][0]
    found = made.recommend(history, 1, at=moment, exclude="nothing", allow=[item], stride=stride)
    if found.source == ["model"]:
        return found.scores[0][0]
    verbs = made.verbs
    histories = verbs._histories(history)  # type: ignore[attr-defined]
    return float(verbs.lists.scores_of(Asking(histories, [at], None, stride), made.rows_of([item]))[0, 0])


def without(record: Record, event: str) -> History:
    return replace(record, events=[one for one in record.events if one.id != event]).history(NAMES)


@pytest.mark.parametrize(
    ("layout", "stride", "cache"), [("interleaved", 3, 1 << 20), ("fused", 1, 1 << 20), ("interleaved", 1, 0)]
)
def test_changes_are_those_of_histories_made_without_the_event(
    log: Dataset, layout: str, stride: int, cache: int
) -> None:
    """People with changing facts, lists and events of unknown items, before and behind the window."""
    made = artifact_of(log, layout, ENCODERS["hstu"], window=6, joint=True)
    world = World.of(made, 7, stride=stride, microbatch=4, cache=cache, **WORLD)
    compared = 0
    for round_ in range(3):
        for _ in range(14):
            world.happen()
        for user, at in world.ask()[:2]:
            by = "click" if round_ % 2 else None
            record, moment = world.people.get(user, Record()), np.datetime64(at, "ms")
            told: dict[str, Any] = {"at": moment, "by": by, "context": SAID if by else None}
            plain = world.engine.recommend(user, 3, **told)
            found = world.engine.recommend(user, 3, explain=True, **told)
            assert (found.ids, found.source) == (plain.ids, plain.source) and plain.because == []
            assert world.engine.recommend(user, 3, **told).ids == plain.ids, "what is kept of a person stays true"
            if found.source == ["popularity"]:
                assert found.because == [[[], [], []]]
                continue
            known = [one for one in record.events if int(one.item) < ITEMS]
            for item, why in zip(found.ids[0], found.because[0], strict=True):
                assert {one.event_id for one in why} == {one.id for one in known}
                assert [abs(one.change) for one in why] == sorted([abs(one.change) for one in why], reverse=True)
                whole = score_slowly(made, record.history(NAMES), int(item), at, stride, by)
                for one in why[:: 4 if item != found.ids[0][0] else 1]:
                    right = whole - score_slowly(made, without(record, one.event_id), int(item), at, stride, by)
                    assert one.change == pytest.approx(right, abs=2e-6 * max(abs(whole), 1.0)), one
                    compared += 1
    assert compared > 10


@pytest.mark.parametrize("timed", [True, False])
def test_a_history_without_an_event_is_the_history_of_the_others(tmp_path: Path, timed: bool) -> None:
    """Also where feedback came late, and where the event stands beside some of unknown items."""
    log = prepared(late_events(), tmp_path / "log")
    fields = log.manifest
    spec = InputSpec(fields=tuple(one.name for one in fields.fields))
    for user in range(8):
        whole = history_of(log, user)
        items = [item if (place + user) % 4 else 999 for place, item in enumerate(whole.items)]
        whole = replace(whole, items=items) if timed else History(items, fields=whole.fields)
        every = encoded(whole, ids_of(log), fields, spec)
        for number, place in enumerate(every.places.tolist()):
            found, right = every.without(number), encoded(taken_out(whole, place), ids_of(log), fields, spec)
            for name in ("rows", "places", "times", "next_time"):
                assert np.array_equal(getattr(found, name), getattr(right, name)), name
            for name in ("fields", "known_at"):
                ours, theirs = getattr(found, name), getattr(right, name)
                assert {one: ours[one].tolist() for one in ours} == {one: theirs[one].tolist() for one in theirs}
            assert (found.unknown, found.late) == (right.unknown, right.late)


def ids_of(log: Dataset) -> Any:
    known = {id_: row for row, id_ in enumerate(log.items["item_id"].to_list())}
    return lambda ids: np.array([known.get(int(one), -1) for one in ids], dtype=np.int64)


def taken_out(history: History, place: int) -> History:
    def rest(column: Any) -> Any:
        return [value for number, value in enumerate(column) if number != place]

    return replace(
        history, items=rest(history.items), times=None if history.times is None else rest(history.times),
        fields={name: rest(one) for name, one in history.fields.items()},
        known_at={name: rest(one) for name, one in history.known_at.items()},
    )  # fmt: skip


def shop(folder: Path) -> Artifact:
    """Whoever bought 1 bought 2, and whoever bought 3 bought 4: what leads to 2 is known, and how much."""
    people = [(user, item, 10 * user + place) for user in range(40) for place, item in enumerate(PAIRS[user % 2])]
    frame = pl.DataFrame(people, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [1, 2, 3, 4, 9], "title": ["bread", "butter", "nails", "hammer", "new"]})
    log = prepare(frame.with_columns(pl.col("timestamp") + T0 // 1000), folder, items=items)
    config = {"kind": "item-knn", "shrinkage": 0.0, "half_life": None}
    model = saved_model.parse(config).build(Catalogue.of(log), seed=1).eval()
    model.fit_statistics(Statistics(log, ProtocolConfig(split="loo-paper").cut(log)))
    catalogue = log.items.with_columns(training_events=pl.Series(np.bincount(log.item, minlength=log.num_items)))
    return Artifact(
        {"name": "t", "model": config, "protocol": {}}, log.manifest.model_dump(mode="json"), catalogue, model
    )


PAIRS = ((1, 2, 1, 2), (3, 4, 3, 4))


def test_what_alone_leads_to_an_item_is_its_whole_reason(tmp_path: Path) -> None:
    engine = Engine(shop(tmp_path / "log"), store=MemoryStore(Clock(max_future=None)))
    engine.append(1, [{"item_id": item, "timestamp": T0 + item, "event_id": f"event {item}"} for item in (3, 1, 9)])
    found = engine.explain(1, [2, 4])
    assert {*found.ids[0]} == {2, 4}
    for item, score, why in zip(found.ids[0], found.scores[0], found.because[0], strict=True):
        cause = {2: "event 1", 4: "event 3"}[int(item)]
        assert score > 0 and why[0].event_id == cause and why[0].change == pytest.approx(score)
        assert why[0].item_id == {2: 1, 4: 3}[int(item)] and why[0].title == {2: "bread", 4: "nails"}[int(item)]
        assert [one.change for one in why[1:]] == [0.0, 0.0]
        assert {one.event_id for one in why} == {"event 1", "event 3", "event 9"}


def test_a_plain_request_of_the_same_person_in_the_same_step_changes_nothing(tmp_path: Path) -> None:
    engine = Engine(shop(tmp_path / "log"), store=MemoryStore(Clock(max_future=None)))
    engine.append(1, [{"item_id": item, "timestamp": T0 + item, "event_id": f"event {item}"} for item in (3, 1)])
    works = [engine.submit(engine.recommendation(1, 2, explain=explain)) for explain in (False, True, False)]
    while not all(work.done for work in works):
        engine.step()
    right = engine.recommend(1, 2, explain=True)
    found = engine.answer([works[1]])
    assert found.ids == right.ids and found.because == right.because and found.because[0][0]


def test_the_newest_events_are_left_out_and_no_older_ones(tmp_path: Path) -> None:
    engine = Engine(shop(tmp_path / "log"), store=MemoryStore(Clock(max_future=None)))
    count = NEWEST + 5
    engine.append(1, [{"item_id": 9, "timestamp": T0 + n, "event_id": f"{n}"} for n in range(count - 1)])
    engine.append(1, {"item_id": 1, "timestamp": T0 + count, "event_id": "last"})
    (why,) = engine.explain(1, [2]).because[0]
    assert [one.event_id for one in why] == ["last", *(f"{n}" for n in range(count - 2, 4, -1))], "equal ones: newest"


def test_an_explanation_advances_between_the_others(log: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facta.infer.explaining.TOKENS", 20)
    made = artifact_of(log, "interleaved", ENCODERS["hstu"], window=6, joint=True)
    engine = Engine(made, store=MemoryStore(Clock(max_future=None)), now=lambda: 0)
    engine.append(1, [{"item_id": item, "timestamp": T0 + item} for item in range(5)])
    engine.recommend(1, 2)
    kept = engine.memories.get((0, 1))
    long = engine.submit(engine.recommendation(1, 2, explain=True))
    engine.step()
    short = engine.submit(engine.recommendation(1, 2, filters=Filters("nothing")))
    engine.step()
    assert short.done and not long.done
    while not long.done:
        engine.step()
    assert [len(why) for why in engine.answer([long]).because[0]] == [5, 5]
    engine.explain(1, [1, 2], by="click")
    assert kept is not None and engine.memories.get((0, 1)) is kept, "of histories that were not, nothing is kept"
