"""The engine's side of the service, without a process: what is refused, forgotten, late, or kept of nobody."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import to_json

from facta.errors import StoreError
from facta.infer.engine import Engine
from facta.serve.answering import Answering
from facta.serve.wire import Frame, Verb
from facta.store.memory import MemoryStore
from facta.store.protocol import StoredEvent
from tests.serving import T0, artifact, shop

ASKED = {"request_id": "r", "seconds": 60.0, "at": None}


@pytest.fixture
def answering(tmp_path: Path) -> Answering:
    made = artifact(shop(tmp_path / "log"), "interleaved", window=16, joint=True)
    store = MemoryStore()
    for user in (1, 2):
        store.append([(user, StoredEvent("", item, T0 + item, {"tab": "home"})) for item in (1, 2, 3)])
    return Answering(Engine(made, store=store, microbatch=2), made, "default")


def taken(answering: Answering, number: int, verb: Verb, **asked: Any) -> Frame | None:
    return answering.take(Frame(number, verb, to_json(ASKED | asked)))


def through(answering: Answering) -> dict[int, tuple[int, dict[str, Any]]]:
    found: dict[int, tuple[int, dict[str, Any]]] = {}
    for _ in range(50):
        found |= {one.number: (one.code, json.loads(one.body)) for one in answering.step()}
    assert not len(answering)
    return found


def test_an_engine_is_warm_and_has_kept_nothing_of_it(answering: Answering) -> None:
    answering.warm()
    assert not len(answering) and not len(answering.engine.memories) and answering.engine.steps == 0
    loaded = {*sys.modules}
    for number in range(2):
        taken(answering, number, Verb.RECOMMEND, user_id=1, k=3)
        taken(answering, 10 + number, Verb.RANK, user_id=1, candidates=[1, 2], context={"tab": "home"})
        assert {code for code, _ in through(answering).values()} == {200}
    assert not {*sys.modules} - loaded, "the first question waits for imports"


def test_requests_of_a_step_have_their_own_answers(answering: Answering) -> None:
    """Some of one step, in any order, with popularity, a ranking in parts and a history beside them."""
    given = [{"item_id": item, "timestamp": T0 + item, "tab": "home"} for item in (1, 2, 3)]
    assert taken(answering, 1, Verb.RANK, user_id=1, candidates=[*range(9)], context={"tab": "home"}) is None
    for number, user in ((2, 1), (3, 99), (4, 2)):
        assert taken(answering, number, Verb.RECOMMEND, user_id=user, k=number) is None
    assert taken(answering, 5, Verb.RECOMMEND, user_id=None, k=4, history=given) is None
    assert taken(answering, 6, Verb.RECOMMEND, user_id=1, k=4, by="click") is None
    assert taken(answering, 7, Verb.RECOMMEND, user_id=1, k=4, exclude=["0", 4, 5, 6, 7, 8]) is None
    found = through(answering)
    assert {number: code for number, (code, _) in found.items()} == dict.fromkeys(range(1, 8), 200)
    assert [len(found[number][1]["items"]) for number in range(1, 8)] == [9, 2, 3, 4, 4, 4, 3]
    assert found[3][1]["source"] == "popularity" and found[5][1]["source"] == "model"
    assert [one["id"] for one in found[5][1]["items"]] == [one["id"] for one in found[4][1]["items"]]
    assert {one["id"] for one in found[7][1]["items"]} == {1, 2, 3}
    scores = [one["scores"]["click"] for one in found[6][1]["items"]]
    assert scores == sorted(scores, reverse=True)
    assert len(answering.engine.memories) == 2, "of a history that was given nothing is kept"


def test_who_is_forgotten_while_asked_about_is_nowhere_afterwards(answering: Answering) -> None:
    taken(answering, 1, Verb.RANK, user_id=1, candidates=[*range(8)], context={"tab": "home"})
    taken(answering, 2, Verb.RECOMMEND, user_id=2, k=3)
    begun = [*answering.step(), *answering.step()]  # the ranking goes on for three steps more
    assert [one.number for one in begun] == [2] and len(answering) == 1
    answering.engine.store.forget(1)
    assert taken(answering, 3, Verb.FORGET, user_id=1) is not None
    code, said = through(answering)[1]
    assert code == 503 and "forgotten" in said["detail"]
    assert (0, 1) not in answering.engine.memories and 1 not in answering.engine.residents
    assert (0, 2) in answering.engine.memories


def test_a_ranking_that_nobody_waits_for_ends(answering: Answering) -> None:
    taken(answering, 1, Verb.RANK, user_id=1, candidates=[*range(8)], context={"tab": "home"})
    taken(answering, 2, Verb.RANK, user_id=2, candidates=[*range(8)], context={"tab": "home"})
    assert answering.step() == []
    assert answering.take(Frame(1, Verb.CANCEL, b"")) is None and answering.take(Frame(77, Verb.CANCEL, b"")) is None
    assert [one.number for one in answering.step()] == [1], "its next turn is not taken"
    assert through(answering)[2][0] == 200


def test_what_is_late_or_too_much_is_refused(answering: Answering) -> None:
    taken(answering, 1, Verb.RECOMMEND, user_id=1, k=3, seconds=-1.0)
    assert through(answering)[1][0] == 503
    answering.engine.scheduler.limit = 1
    assert taken(answering, 2, Verb.RECOMMEND, user_id=1, k=3) is None
    refused = taken(answering, 3, Verb.RECOMMEND, user_id=1, k=3)
    assert refused is not None and refused.code == 503 and b"BusyError" in refused.body
    assert through(answering)[2][0] == 200


def test_a_store_that_is_away_is_a_refusal_and_back_an_answer(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(known: Any) -> Any:
        raise StoreError("The event store is away.")

    with monkeypatch.context() as patched:
        patched.setattr(answering.engine.store, "changes", away)
        taken(answering, 1, Verb.RECOMMEND, user_id=1, k=3)
        assert through(answering)[1] == (503, {"error": "StoreError", "detail": "The event store is away."})
    taken(answering, 2, Verb.RECOMMEND, user_id=1, k=3)
    assert through(answering)[2][0] == 200


def test_filters_are_read_as_the_log_writes_ids_and_refused_in_a_sentence(answering: Answering) -> None:
    taken(answering, 1, Verb.RECOMMEND, user_id=1, k=9, allow=["4", 5, 7], exclude=["5"])
    taken(answering, 2, Verb.RECOMMEND, user_id=1, k=9, where={"genre": ["genre 1", "genre 2"]}, at_most={"genre": 1})
    found = through(answering)
    assert {one["id"] for one in found[1][1]["items"]} == {4, 7}
    assert [one["id"] % 3 for one in found[2][1]["items"]] in ([1, 2], [2, 1])
    refused = taken(answering, 3, Verb.RECOMMEND, user_id=1, k=9, where={"gener": "genre 1"})
    assert refused is not None and refused.code == 422 and b"the column 'gener' in where" in refused.body


def test_items_say_which_events_moved_them(answering: Answering) -> None:
    """The five that did most; nobody who is answered by popularity is told anything."""
    events = [StoredEvent(f"e{item}", item % 8, T0 + item, {"tab": "home"}) for item in range(8)]
    answering.engine.store.append([(3, event) for event in events])
    taken(answering, 1, Verb.RECOMMEND, user_id=3, k=2, exclude="nothing", explain=True)
    taken(answering, 2, Verb.RECOMMEND, user_id=99, k=2, explain=True)
    taken(answering, 3, Verb.RECOMMEND, user_id=3, k=2, exclude="nothing", by="click", explain=True)
    given = [{"item_id": item, "timestamp": T0 + item, "tab": "home"} for item in (1, 2, 3)]
    taken(answering, 4, Verb.RECOMMEND, user_id=None, k=1, history=given, explain=True)
    taken(answering, 5, Verb.RECOMMEND, user_id=3, k=2, exclude="nothing")
    found = through(answering)
    right = answering.engine.recommend(3, 2, exclude="nothing", explain=True)
    for item, why in zip(found[1][1]["items"], right.because[0], strict=True):
        assert [(one["event_id"], one["item_id"], one["title"]) for one in item["because"]] == [
            one[:3] for one in why[:5]
        ]
        changes = [one["change"] for one in item["because"]]
        assert len(changes) == 5 and changes == pytest.approx([one.change for one in why[:5]], abs=1e-4)
    assert found[2][1]["source"] == "popularity" and "because" not in found[2][1]["items"][0]
    assert all(len(item["because"]) == 5 and item["scores"] for item in found[3][1]["items"])
    assert [one["item_id"] for one in found[4][1]["items"][0]["because"]] != []
    assert "because" not in found[5][1]["items"][0] and len(answering.engine.memories) == 1
