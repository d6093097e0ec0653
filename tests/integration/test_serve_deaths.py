"""What dies loses nothing that was acknowledged, and nobody waits for it in vain."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import DAY, T0, Server, config_of, saved, serving, shop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("deaths")
    saved(shop(place / "log"), place / "artifact")
    return place


def event(user: int, day: int) -> dict[str, Any]:
    return {"visitor": user, "item_id": 3, "timestamp": T0 + DAY * (100 + day), "event_id": f"e{day}"}


class Load:
    """One thread that posts events and asks, and keeps what it was told."""

    def __init__(self, server: Server, user: int) -> None:
        self.server, self.user = server, user
        self.acknowledged: list[str] = []
        self.statuses: list[tuple[str, int, float]] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        day = 0
        while not self.over.is_set():
            self.tried("/v1/events", event(self.user, day))
            self.tried("/v1/recommend", {"user_id": self.user})
            day += 1

    def tried(self, path: str, body: dict[str, Any]) -> None:
        began = time.monotonic()
        try:
            status = self.server.post(path, body).status_code
        except httpx.TransportError:
            status = 0
        self.statuses.append((path, status, time.monotonic() - began))
        if status == 200 and "event_id" in body:
            self.acknowledged.append(body["event_id"])

    def end(self) -> None:
        self.over.set()
        self.thread.join()


def test_an_engine_that_dies_hangs_nobody_and_is_started_again(folder: Path) -> None:
    config = config_of(folder)
    with serving(config, folder) as server:
        loads = [Load(server, user) for user in range(500, 504)]
        time.sleep(0.5)
        (engine,) = server.engines()
        before = sum(len(one.acknowledged) for one in loads)
        os.kill(engine, signal.SIGKILL)
        time.sleep(0.3)
        down = server.http.get("/health/ready")
        assert down.status_code == 503 and int(down.headers["retry-after"]) > 0 and "started" in down.json()["detail"]
        refused = server.post("/v1/recommend", {"user_id": 500})
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
        assert sum(len(one.acknowledged) for one in loads) > before, "events are accepted meanwhile"
        server.wait()
        time.sleep(0.3)
        for one in loads:
            one.end()
        asked = [(status, took) for load in loads for path, status, took in load.statuses if path == "/v1/recommend"]
        assert {status for status, _ in asked} == {200, 503} and asked[-1][0] == 200
        assert max(took for _, took in asked) < 3, "nobody waited for the engine that died"
        assert {status for load in loads for path, status, _ in load.statuses if path == "/v1/events"} == {200}
        for load in loads:
            shown = server.http.get(f"/v1/users/{load.user}?events=100000").json()["events"]
            assert sorted(one["event_id"] for one in shown) == sorted(load.acknowledged)
        answer = server.post("/v1/recommend", {"user_id": 500}).json()
        assert answer["source"] == "model", "the new engine knows the old one's people"
        # a stop answers what has begun
        late = [Load(server, user) for user in range(600, 604)]
        time.sleep(0.3)
        (engine,) = server.engines()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        for one in late:
            one.end()
        assert {status for load in late for _, status, _ in load.statuses} <= {200, 0}
        assert not Path(f"/proc/{engine}").exists(), "the engine outlived its service"


def test_a_killed_service_loses_nothing_that_it_acknowledged(folder: Path) -> None:
    config = config_of(folder, store=f"sqlite:///{folder}/killed.db")
    with serving(config, folder, ready=False) as server:
        loads = [Load(server, user) for user in range(4)]
        time.sleep(0.5)
        engines = server.engines()
        server.process.kill()
        server.process.wait()
        for one in loads:
            one.end()
    with serving(config.change(port=0), folder, ready=False) as again:
        for load in loads:
            shown = again.http.get(f"/v1/users/{load.user}?events=100000").json()["events"]
            assert set(load.acknowledged) <= {one["event_id"] for one in shown} and len(load.acknowledged) > 5
    until = time.monotonic() + 20
    while any(Path(f"/proc/{engine}").exists() for engine in engines) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{engine}").exists() for engine in engines), "the engine outlived its service"
