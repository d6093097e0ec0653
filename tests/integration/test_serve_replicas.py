"""Two services over one PostgreSQL: what is posted to one of them is in the next answer of the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.event_stores import postgresql_url
from tests.serving import DAY, T0, Server, config_of, saved, serving, shop


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    folder = tmp_path_factory.mktemp("replicas")
    saved(shop(folder / "log"), folder / "artifact")
    with postgresql_url() as url:
        config = config_of(folder, store=url)
        with serving(config, folder) as one, serving(config.change(port=0), folder) as other:
            yield one, other


def event(user: int, day: int, item: int) -> dict[str, Any]:
    return {"visitor": user, "item_id": item, "timestamp": T0 + DAY * (100 + day), "event_id": f"e{day}"}


def listed(server: Server, user: int) -> tuple[str, list[int]]:
    answer = server.post("/v1/recommend", {"user_id": user, "k": 5, "at": T0 + DAY * 200})
    answer.raise_for_status()
    found = answer.json()
    return found["source"], [item["id"] for item in found["items"]]


def test_what_one_was_told_the_other_answers_with(pair: tuple[Server, Server]) -> None:
    one, other = pair
    assert listed(other, 70)[0] == "popularity"
    for day in range(6):
        told, asked = (one, other) if day % 2 else (other, one)
        before = listed(asked, 70)
        assert told.post("/v1/events", event(70, day, day)).status_code == 200
        source, items = listed(asked, 70)
        assert source == "model" and day not in items and items != before[1]
        assert listed(told, 70) == (source, items)


def test_one_event_posted_to_both_is_there_once(pair: tuple[Server, Server]) -> None:
    answers = [server.post("/v1/events", event(71, 0, 3)).json() for server in pair]
    assert [one["accepted"] for one in answers] == [1, 0] and [one["duplicates"] for one in answers] == [0, 1]
    assert [server.http.get("/v1/users/71").json()["num_events"] for server in pair] == [1, 1]


def test_who_was_forgotten_by_one_is_a_stranger_to_the_other(pair: tuple[Server, Server]) -> None:
    one, other = pair
    one.post("/v1/events", [event(72, day, day) for day in range(3)])
    assert listed(other, 72)[0] == "model"
    assert one.http.delete("/v1/users/72").json()["forgotten"]
    assert listed(other, 72)[0] == "popularity" and other.http.get("/v1/users/72").status_code == 404
