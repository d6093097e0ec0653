"""Whether what was acknowledged is there, once, after a process of the service was killed in the middle of posts.

    python -m benchmarks.service.kills            measure and record
    python -m benchmarks.service.kills --look     measure and print only

A small service, four clients that post and ask without pause, SIGKILL of the process that speaks HTTP or of the engine,
in turns, at a moment that is drawn; a new service on the same store; then what it shows of each person against what was
acknowledged. 26 times on SQLite and 26 times on PostgreSQL (a server of its own, installed on this machine).
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from pathlib import Path

from tests.event_stores import postgresql_url, sqlite_url
from tests.integration.test_serve_deaths import Load
from tests.serving import config_of, saved, serving, shop

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record

FIGURES: dict[str, Figure] = {
    "serve_kills_survived": Figure(
        ">= 50", "", module("kills"), "SIGKILLs during posts after which no acknowledged event is lost or doubled"
    ),
}

KILLS, CLIENTS = 26, 4


def survived(folder: Path, store: str, number: int) -> int:
    """Kill once and look; returns how many acknowledged events were there. Raises AssertionError."""
    random.seed(number)
    config, users = config_of(folder, store=store), [1000 * (number + 1) + n for n in range(CLIENTS)]
    with serving(config, folder) as server:
        loads = [Load(server, user) for user in users]
        time.sleep(random.uniform(0.3, 1.0))
        if number % 2:
            os.kill(server.engines()[0], signal.SIGKILL)
            time.sleep(0.3)
        else:
            server.process.kill()
            server.process.wait()
        for one in loads:
            one.end()
        if number % 2:
            assert server.process.poll() is None, "the other process ended"
    with serving(config.change(port=0), folder, ready=False) as again:
        for load in loads:
            shown = again.http.get(f"/v1/users/{load.user}?events=100000").json()["events"]
            ids = [one["event_id"] for one in shown]
            assert len(ids) == len(set(ids)), "an event is there twice"
            assert set(load.acknowledged) <= set(ids), "an acknowledged event is lost"
    found = sum(len(one.acknowledged) for one in loads)
    assert found, "nothing was acknowledged before the kill"
    return found


def main() -> None:
    look = looking(__doc__)
    counted, events = 0, 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        saved(shop(folder / "log"), folder / "artifact")
        for opened in (sqlite_url, postgresql_url):
            with opened() as url:
                for number in range(KILLS):
                    events += survived(folder, url, number)
                    counted += 1
                    print(f"{url.partition(':')[0]}: {counted} survived, {events:,} events", flush=True)
    note = f"{KILLS} on SQLite, {KILLS} on PostgreSQL; half of the engine; {events:,} acknowledged events"
    print(f"serve_kills_survived {counted}; {note}")
    if not look:
        record("serve_kills_survived", counted, note=note)


if __name__ == "__main__":
    main()
