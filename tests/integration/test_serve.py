"""A service over HTTP: what it answers is what the artifact says of what was posted."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from facta.errors import ConfigError, UnknownEventError
from facta.infer.artifact import Artifact
from facta.infer.history import History
from facta.serve.client import AsyncClient, Client
from tests.serving import DAY, ITEMS, T0, Server, config_of, saved, serving, shop

T1 = T0 + 100 * DAY
STRIDE = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def made(folder: Path) -> Artifact:
    return saved(shop(folder / "log"), folder / "artifact")


@pytest.fixture(scope="module")
def server(made: Artifact, folder: Path) -> Iterator[Server]:
    saved(shop(folder / "log2"), folder / "models" / "other", "fused")
    (folder / "models" / "torn").mkdir()
    for file in (folder / "models" / "other").iterdir():
        (folder / "models" / "torn" / file.name).write_bytes(file.read_bytes())
    (folder / "models" / "torn" / "model.safetensors").write_bytes(b"torn")
    config = config_of(folder, swap_from=str(folder / "models"), answers=str(folder / "answers.log"))
    with serving(config, folder) as running:
        yield running


def event(user: Any, item: int, day: int, **values: Any) -> dict[str, Any]:
    return {"visitor": user, "item_id": item, "timestamp": T1 + DAY * day, **values}


def offline(made: Artifact, events: list[dict[str, Any]], at: str, **asked: Any) -> tuple[list[Any], list[float]]:
    """What the artifact recommends for the history of some posted events."""
    history = History(
        items=[one["item_id"] for one in events],
        times=[np.datetime64(one["timestamp"], "ms") for one in events],  # type: ignore[misc]
        fields={name: [one.get(name) for one in events] for name in ("tab", "click")},
    )
    found = made.recommend(history, 5, at=np.datetime64(at.removesuffix("+00:00"), "ms"), stride=STRIDE, **asked)
    return found.ids[0], found.scores[0]


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal items and, but for rounding, equal scores: kept keys and values are added up in another order."""
    ids = [[item["id"] for item in answer["items"]] for answer in (one, other)]
    scores = [[item.get("score") or item["scores"]["click"] for item in answer["items"]] for answer in (one, other)]
    return ids[0] == ids[1] and scores[0] == pytest.approx(scores[1], rel=1e-4)


def test_an_answer_knows_every_event_that_was_acknowledged_before_it_was_asked(server: Server, made: Artifact) -> None:
    wrong: list[str] = []

    def live(user: int) -> None:
        events: list[dict[str, Any]] = []
        rng = np.random.default_rng(user)
        for day in range(12):
            events.append(event(user, int(rng.integers(0, ITEMS - 1)), day, tab="home", click=int(rng.integers(0, 2))))
            assert server.post("/v1/events", events[-1]).json()["accepted"] == 1
            asked = {"user_id": user, "k": 5}
            answer = server.post("/v1/recommend", asked).json()
            ids, scores = offline(made, events, answer["at"])
            if [one["id"] for one in answer["items"]] != ids:
                wrong.append(f"{user} after {day}: {answer['items']} {ids}")
            assert [one["score"] for one in answer["items"]] == pytest.approx(scores, rel=1e-4, abs=1e-5)
            assert answer["cached"] == (day > 1), "the newest event is not kept, and all before it are"

    threads = [threading.Thread(target=live, args=[user]) for user in range(1000, 1004)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong


def test_candidates_are_ranked_as_by_the_artifact(server: Server, made: Artifact) -> None:
    events = [event(1, item, day, tab="home", click=item % 2) for day, item in enumerate((3, 1, 4))]
    assert server.post("/v1/events", events).json()["accepted"] == 3
    asked = {"user_id": 1, "candidates": [0, "5", 7, 999], "context": {"tab": "search"}, "at": T1 + 9 * DAY}
    answer = server.post("/v1/rank", asked).json()
    history = History(
        items=[3, 1, 4], times=[np.datetime64(T1 + DAY * day, "ms") for day in range(3)],  # type: ignore[misc]
        fields={"tab": ["home"] * 3, "click": [1, 1, 0]},
    )  # fmt: skip
    right = made.rank(history, [0, 5, 7], at=T1 + 9 * DAY, context={"tab": "search"}, stride=STRIDE)
    assert [one["id"] for one in answer["items"]] == right.ids[0] and answer["left_out"] == 1
    assert [one["scores"]["click"] for one in answer["items"]] == pytest.approx(right.scores["click"][0], rel=1e-4)
    given = {"history": events, "candidates": [0, 5, 7], "context": {"tab": "search"}, "at": T1 + 9 * DAY}
    assert alike(server.post("/v1/rank", given).json(), answer)


def test_a_history_given_on_the_spot_is_answered_like_a_stored_one_and_kept_nowhere(server: Server) -> None:
    events = [event(2, item, day, tab="home", click=1) for day, item in enumerate((5, 2, 6))]
    server.post("/v1/events", events)
    stored = server.post("/v1/recommend", {"user_id": 2, "at": T1 + 9 * DAY}).json()
    given = [{name: value for name, value in one.items() if name != "visitor"} for one in reversed(events)]
    for _ in range(2):
        asked = {"history": given, "at": T1 + 9 * DAY}
        answer = server.post("/v1/recommend", asked, **{"X-Request-Id": "given"}).json()
        assert alike(answer, stored) and not answer["cached"]
    assert server.http.get("/v1/users/0").status_code == 404


def test_ids_are_one_whether_number_or_text(server: Server) -> None:
    server.post("/v1/events", event("17", 3, 0, event_id="a"))
    server.post("/v1/events", event(17, 4, 1, event_id="b"))
    assert [one["item_id"] for one in server.http.get("/v1/users/17").json()["events"]] == [3, 4]
    asked = {"k": 5, "at": T1 + 9 * DAY}
    one, other = (server.post("/v1/recommend", {"user_id": id_, **asked}).json() for id_ in (17, "17"))
    assert alike(one, other) and one["source"] == "model"
    assert server.post("/v1/events", event("seventeen", 3, 0)).status_code == 422


def test_what_is_late_or_wrong_or_told_changes_the_next_answer(server: Server) -> None:
    def scores() -> list[float]:
        asked = {"user_id": 30, "candidates": [0, 1, 2], "at": T1 + 9 * DAY}
        answer = server.post("/v1/rank", asked).json()
        return [one["scores"]["click"] for one in sorted(answer["items"], key=lambda one: one["id"])]

    server.post("/v1/events", [event(30, 3, 0, event_id="a/b ü"), event(30, 4, 1, event_id="b")])
    first = scores()
    assert server.http.patch("/v1/users/30/events/a%2Fb%20%C3%BC", json={"click": 1}).json()["event"]["click"] == 1
    second = scores()
    assert server.http.delete("/v1/users/30/events/b").json() == {"removed": True}
    third = scores()
    assert server.post("/v1/users/30/merge", {"user_id": 31}).status_code == 200  # nothing is known of 31
    server.post("/v1/events", event(31, 5, 2))
    assert server.post("/v1/users/30/merge", {"user_id": 31}).json()["revision"] > 0
    fourth = scores()
    assert server.http.delete("/v1/users/30").json() == {"forgotten": True}
    assert server.http.get("/v1/users/30").status_code == 404
    assert server.post("/v1/recommend", {"user_id": 30}).json()["source"] == "popularity"
    assert len({tuple(one) for one in (first, second, third, fourth, scores())}) == 5


def test_facts_are_told_and_shown(server: Server) -> None:
    told = {"facts": {"city": "Ulm"}, "series": [{"timestamp": "2026-01-01", "field": "plan", "value": "a"}]}
    assert server.http.put("/v1/users/40", json=told).json()["revision"] > 0
    shown = server.http.get("/v1/users/40").json()
    assert shown["facts"] == {"city": "Ulm"} and shown["events"] == []
    assert shown["series"] == [{"timestamp": "2026-01-01T00:00:00.000+00:00", "field": "plan", "value": "a"}]
    assert server.http.put("/v1/users/40", json={"series": [{"value": 1}]}).status_code == 422


def test_some_of_the_people_and_the_fields_of_the_log_are_told(server: Server) -> None:
    server.post("/v1/events", [event(41, 3, 0), event(42, 3, 0)])
    few, many = (server.http.get(f"/v1/users?k={k}").json()["users"] for k in (1, 1000))
    assert few == many[:1] and {41, 42} <= {*many} and server.http.get("/v1/users?k=0").status_code == 422
    (model,) = server.http.get("/v1/models").json()["models"]
    assert model["timed"] and model["user_ids"] == "number"
    told = {one["name"]: one for one in model["fields"]}
    assert told["click"] == {"name": "click", "role": "feedback", "kind": "binary"}
    assert told["tab"]["role"] == "context" and {*told["tab"]["categories"]} == {"home", "search"}


def test_a_batch_with_a_key_is_kept_once(server: Server) -> None:
    batch = [event(50, 1, 0), event(50, 2, 1)]
    first, second = (server.post("/v1/events", batch, **{"Idempotency-Key": "k1"}).json() for _ in range(2))
    assert (first["accepted"], second["accepted"], second["duplicates"]) == (2, 0, 2)
    other = server.post("/v1/events", [event(50, 3, 0)], **{"Idempotency-Key": "k1"})
    assert other.status_code == 409 and other.json()["error"] == "ConflictError"


def test_unknown_items_and_fields_are_kept_and_said(server: Server) -> None:
    answer = server.post("/v1/events", [event(51, 77, 0, colour="red"), event(51, 3, 1)]).json()
    assert answer["unknown_items"] == [77] and answer["unknown_fields"] == ["colour"] and answer["accepted"] == 2
    assert server.post("/v1/recommend", {"user_id": 51}).json()["unknown"] == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/events", {"item_id": 3}, 422, "without 'user_id'"),
        ("/v1/events", [event(60, 3, 0), event(60, 3, 0, click=7)], 422, "binary"),
        ("/v1/events", event(60, 3, 10_000), 422, "ahead of the clock"),
        ("/v1/recommend", {}, 422, "neither of user_id and history"),
        ("/v1/recommend", {"user_id": 1, "history": []}, 422, "both of user_id and history"),
        ("/v1/recommend", {"user_id": True}, 422, "user_id"),
        ("/v1/recommend", {"user_id": 1, "kk": 5}, 422, "Unknown key 'kk' for Recommend; valid keys: "),
        ("/v1/recommend", {"user_id": 1, "k": 100_000}, 422, "at most 1,000"),
        ("/v1/recommend", {"user_id": 1, "at": "soon"}, 422, "soon"),
        ("/v1/recommend", {"user_id": 1, "model": "c"}, 404, "there are default"),
        ("/v1/recommend", {"user_id": 1, "exclude": "all"}, 422, "exclude"),
        ("/v1/rank", {"user_id": 1, "candidates": [1], "by": "love"}, 422, "love"),
        ("/v1/rank", {"user_id": 1, "candidates": [1], "context": {"colour": 1}}, 422, "colour"),
        ("/v1/rank", {"user_id": 1, "candidates": ["x"]}, 422, "whole numbers"),
        ("/v1/users/60/merge", {}, 422, "user_id"),
        ("/v2/recommend", {}, 404, "/docs"),
    ],
)
def test_what_is_refused_is_a_problem_document_and_changes_nothing(
    server: Server, path: str, body: Any, status: int, said: str
) -> None:
    answer = server.post(path, body)
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert said in document["detail"] and document["status"] == status and document["title"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert server.http.get("/v1/users/60").status_code == 404


def test_no_json_is_said(server: Server) -> None:
    answer = server.http.post("/v1/events", content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 400 and "no JSON" in answer.json()["detail"]
    assert server.http.get("/v1/users/%ff").status_code == 400
    assert server.http.get("/v1/items?q=a&k=x").status_code == 422


def test_request_ids_are_taken_over_and_logs_know_nobody(server: Server) -> None:
    trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    answer = server.http.get("/v1/users/987654321", headers={"X-Request-Id": "mine-1", "traceparent": trace})
    assert answer.headers["x-request-id"] == "mine-1" == answer.json()["request_id"]
    assert server.http.get("/health/live", headers={"X-Request-Id": "a b"}).headers["x-request-id"] != "a b"
    found: list[dict[str, Any]] = []
    while not found:  # lines are written a tenth of a second later
        found = [one for one in server.lines() if one.get("request_id") == "mine-1"]
    line = found[0]
    assert line["traceparent"] == trace and line["route"] == "/v1/users/{user_id}" and line["status"] == 404
    assert "987654321" not in server.log.read_text()


def test_items_are_found_by_title_and_by_likeness(server: Server, made: Artifact) -> None:
    found = server.http.get("/v1/items", params={"q": "film the", "k": 20}).json()["items"]
    assert len(found) == ITEMS
    assert server.http.get("/v1/items", params={"q": "THE C"}).json()["items"][0] == {"id": 2, "title": "The c film"}
    assert server.http.get("/v1/items", params={"q": "(x"}).json()["items"] == []
    named = server.http.get("/v1/items", params={"id": ["4", "999", "2"]}).json()["items"]
    assert named == [{"id": 4, "title": "The e film"}, {"id": 2, "title": "The c film"}]
    for wrong in ({}, {"q": "a", "id": "2"}, {"id": "x"}, {"id": [*"1234567"] * 200}):
        assert server.http.get("/v1/items", params=wrong).status_code == 422
    similar = server.http.get("/v1/items/3/similar?k=4").json()
    assert [one["id"] for one in similar["items"]] == made.similar_items(3, 4).ids[0]
    assert server.http.get("/v1/items/999/similar").status_code == 422


def test_filters_and_reasons_come_over_http_as_they_are_in_python(server: Server, made: Artifact) -> None:
    posted = [event(75, item, day, tab="home", event_id=f"e{item}") for day, item in enumerate((3, 4, 5))]
    asked: dict[str, Any] = {"where": {"genre": ["genre 0", "genre 1"]}, "at_most": {"genre": 1}, "exclude": "nothing"}
    with Client(str(server.http.base_url)) as service:
        service.append(posted)
        found = service.recommend(75, 9, at=T1 + 9 * DAY, explain=True, **asked)
        assert [one["id"] for one in service.recommend(75, 9, allow=["2", 7])["items"]] in ([2, 7], [7, 2])
        with pytest.raises(ConfigError, match="column 'gender' in where; the items of this artifact have: title"):
            service.recommend(75, 9, where={"gender": 1})
        with pytest.raises(ConfigError, match="at_most"):
            service.recommend(75, 9, at_most={"genre": 0})
        assert service.hide(found["items"][0]["id"])["unknown"] is False and service.hide(999)["unknown"] is True
        left = service.recommend(75, 9, exclude="nothing", at=T1 + 9 * DAY)["items"]
        assert {one["id"] for one in left} == {*range(ITEMS - 1)} - {found["items"][0]["id"]}, "8 has no training event"
        service.hide(str(found["items"][0]["id"]), hidden=False)
        assert len(service.recommend(75, 9, exclude="nothing")["items"]) == ITEMS - 1
    ids, scores = offline(made, posted, found["at"], **asked)
    assert [one["id"] for one in found["items"]] == ids and len(ids) == 2
    assert [one["score"] for one in found["items"]] == pytest.approx(scores, rel=1e-4)
    assert all({one["event_id"] for one in item["because"]} == {"e3", "e4", "e5"} for item in found["items"])


def test_whatever_is_sent_is_no_mistake_of_the_service(server: Server) -> None:
    """All checks of schemathesis but one: what JSON Schema allows may be refused, for it does not know the log."""
    command = [Path(sys.executable).parent / "schemathesis", "run", f"{server.http.base_url}/openapi.json"]
    options = ["--max-examples", "15", "--seed", "1", "--checks", "all", "--phases", "coverage,fuzzing"]
    left_out = ["--exclude-checks", "positive_data_acceptance", "--no-color"]
    run = subprocess.run([*command, *options, *left_out], capture_output=True, text=True, cwd=server.log.parent)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr
    assert "18 passed" in run.stdout and not [one for one in server.lines() if one.get("status") == 500]
    for item in range(ITEMS):  # some were hidden
        assert server.http.patch(f"/v1/items/{item}", json={"hidden": False}).json()["hidden"] is False


def test_what_was_answered_is_kept_without_the_person(server: Server, folder: Path) -> None:
    answer = server.post("/v1/recommend", {"user_id": 123454321}).json()
    kept, until = "", time.monotonic() + 5
    while answer["request_id"] not in kept and time.monotonic() < until:  # a thread writes it
        kept = (folder / "answers.log").read_text()
    assert answer in [json.loads(line) for line in kept.splitlines()] and "123454321" not in kept


def test_another_artifact_takes_the_place_without_a_failed_request(server: Server, folder: Path) -> None:
    other = Artifact.load(folder / "models" / "other")
    before = {one["name"]: one["fingerprint"] for one in server.http.get("/v1/models").json()["models"]}
    refused = server.http.put("/v1/models/default", json={"artifact": "torn"})
    assert refused.status_code == 422 and "checksum" in refused.json()["detail"]
    for wrong in ("../artifact", "..", "", "none", str(folder / "artifact")):
        assert server.http.put("/v1/models/default", json={"artifact": wrong}).status_code == 422
    assert server.http.put("/v1/models/c", json={"artifact": "other"}).status_code == 404
    statuses, over = [], threading.Event()

    def ask() -> None:
        while not over.is_set():
            statuses.append(server.post("/v1/recommend", {"user_id": 1}).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    found = server.http.put("/v1/models/default", json={"artifact": "other"}, timeout=60)
    over.set()
    asking.join()
    after = {one["name"]: one["fingerprint"] for one in found.json()["models"]}
    assert after["default"] == other.fingerprint != before["default"]
    assert set(statuses) == {200} and len(statuses) > 10
    answer = server.post("/v1/recommend", {"user_id": 1}).json()
    assert answer["model"]["fingerprint"] == other.fingerprint


def test_metrics_count_and_the_page_asks_nobody_else(server: Server) -> None:
    text = server.http.get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['facta_requests_total{route="POST /v1/recommend",status="200"}']) > 40
    assert float(values["facta_events_total"]) > 0
    assert float(values['facta_engine_answered_total{model="default"}']) > 0
    page = server.http.get("/docs").text
    assert "POST /v1/recommend" in page and "://" not in page


def test_the_client_says_the_same_and_raises_what_the_service_says(server: Server) -> None:
    with Client(str(server.http.base_url)) as service:
        assert service.append([event(70, 3, 0, event_id="a/b"), event(70, 4, 1)])["accepted"] == 2
        asked = {"user_id": 70, "k": 3, "at": T1 + 9 * DAY}
        assert alike(service.recommend(70, 3, at=T1 + 9 * DAY), server.post("/v1/recommend", asked).json())
        assert len(service.rank(70, [1, 2], context={"tab": "home"})["items"]) == 2
        assert service.amend(70, "a/b", {"click": 1})["event"]["click"] == 1
        assert service.person(70, events=1)["events"][0]["item_id"] == 4
        assert service.similar_items(3, 2)["item_id"] == 3 and service.items("film", 2)["items"]
        service.tell(70, {"city": "Ulm"})
        service.merge(70, 71)
        assert service.person(71)["facts"] == {"city": "Ulm"} and service.remove(71, "a/b") == {"removed": True}
        assert service.forget(71) == {"forgotten": True} and service.models()["models"]
        with pytest.raises(UnknownEventError, match="no event 'x'"):
            service.amend(70, "x", {"click": 1})
        with pytest.raises(ConfigError, match="Unknown key 'kk'"):
            service.recommend(70, kk=1)


def test_the_client_for_asyncio_is_the_same(server: Server) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(str(server.http.base_url)) as service:
            await service.append(event(72, 3, 0))
            return await asyncio.gather(*(service.recommend(72, k, at=T1 + 9 * DAY) for k in (1, 2, 3)))

    found = asyncio.run(ask())
    assert [len(one["items"]) for one in found] == [1, 2, 3]


def test_the_client_sends_again_and_nothing_is_kept_twice(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    send, lost = httpx.Client.send, [True]

    def losing(self: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
        answer = send(self, request, **more)
        if lost and request.url.path == "/v1/events":
            lost.pop()
            raise httpx.ReadError("gone")
        return answer

    monkeypatch.setattr(httpx.Client, "send", losing)
    with Client(str(server.http.base_url)) as service:
        answer = service.append([event(73, 3, 0), event(73, 4, 1)])
        assert (answer["accepted"], answer["duplicates"], lost) == (0, 2, [])
        assert service.person(73)["num_events"] == 2
