"""store_kills_survived, store_events_per_second, serve_import_1m_seconds: the event store killed, crowded and filled.

    python -m benchmarks.speed.store            measure and record
    python -m benchmarks.speed.store --look     measure and print only

Kills: a process posts from four threads and is killed at a random moment within half a second, again and again on one
store, 50 times on SQLite and, where a server can be started, 50 times on PostgreSQL; after each kill every event that
was acknowledged has to be there, whole and once. Crowd: 32 threads append one event each time, on SQLite, for five
seconds; events that were acknowledged in a second. Import: a dataset of 1,000,000 events of 6,040 users, with ratings
and a text, into SQLite. PostgreSQL runs as in the tests, without flushing: killing the poster takes nothing from the
server.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from threading import Thread

import numpy as np
import polars as pl
import pytest
from tests import event_store_kills as kills
from tests.event_stores import postgresql_url, sqlite_url

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from facta.store.content import Clock
from facta.store.importing import import_dataset
from facta.store.opening import open_store
from facta.store.protocol import StoredEvent

FIGURES: dict[str, Figure] = {
    "store_kills_survived": Figure(
        ">= 50", "kills", module("store"), "kills of a posting process without a lost or doubled event, of each store"
    ),
    "store_events_per_second": Figure(
        "", "events/s", module("store"), "acknowledged by SQLite to 32 threads that post one event at a time"
    ),
    "serve_import_1m_seconds": Figure("<= 60", "s", module("store"), "import of 1,000,000 events into SQLite"),
}
KILLS, LONGEST, POSTERS, SECONDS = 50, 0.5, 32, 5.0
USERS, EVENTS, ITEMS = 6_040, 1_000_000, 3_700


def survived(url: Callable[[], AbstractContextManager[str]]) -> int:
    """How many kills one store survives, of KILLS."""
    random, acknowledged = Random(0), list[kills.Acknowledged]()
    with url() as place:
        for number in range(KILLS):
            acknowledged += kills.killed(place, number, LONGEST * random.random())
            try:
                events = kills.check(place, acknowledged)
            except AssertionError as error:
                print(f"kill {number}: {error}", flush=True)
                return number
        print(f"{place.split(':')[0]}: {KILLS} kills, {len(acknowledged):,} appends, {events:,} events", flush=True)
    return KILLS


def crowd() -> float:
    """Acknowledged events in a second."""
    with sqlite_url() as url:
        store = open_store(url)
        until, done = time.perf_counter() + SECONDS, [0] * POSTERS

        def post(thread: int) -> None:
            while time.perf_counter() < until:
                store.append([(thread, StoredEvent("", done[thread] % ITEMS, done[thread], {"surface": "home"}))])
                done[thread] += 1

        threads = [Thread(target=post, args=(thread,)) for thread in range(POSTERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store.close()
    return sum(done) / SECONDS


def imported() -> float:
    """Seconds that an import takes."""
    random = np.random.default_rng(0)
    log = pl.DataFrame(
        {
            "user_id": random.integers(0, USERS, EVENTS),
            "item_id": random.integers(0, ITEMS, EVENTS),
            "timestamp": 1_700_000_000 + random.integers(0, 30_000_000, EVENTS),
            "rating": random.integers(1, 6, EVENTS),
            "surface": pl.Series(["home", "search", "tv"]).gather(random.integers(0, 3, EVENTS)),
        }
    )
    fields = {"rating": {"kind": "ordinal"}, "surface": {"role": "context", "kind": "categorical"}}
    with tempfile.TemporaryDirectory() as folder:
        dataset = facta.prepare(log, Path(folder) / "data", fields=fields)
        place = Path(folder) / "events.db"
        store = open_store(f"sqlite:///{place}", Clock(max_future=None))
        began = time.perf_counter()
        found = import_dataset(dataset, store)
        took = time.perf_counter() - began
        assert found.events == EVENTS
        store.close()
        print(f"import: {took:.1f} s, {place.stat().st_size / EVENTS:.0f} bytes an event", flush=True)
    return took


def main() -> None:
    look = looking(__doc__)
    stores = {"SQLite": survived(sqlite_url)}
    try:
        stores["PostgreSQL"] = survived(postgresql_url)
    except pytest.skip.Exception as reason:
        print(f"PostgreSQL is left out: {reason}", flush=True)
    rate, seconds = crowd(), imported()
    print(f"{rate:,.0f} events/s to {POSTERS} threads", flush=True)
    if not look:
        record("store_kills_survived", min(stores.values()), raw=[*stores.values()], note=f"of {' and '.join(stores)}")
        record("store_events_per_second", rate)
        record("serve_import_1m_seconds", seconds)


if __name__ == "__main__":
    main()
