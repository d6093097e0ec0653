"""history_to_batch_ms: from a stored history to the batch of a request.

    python -m benchmarks.speed.histories            measure and record
    python -m benchmarks.speed.histories --look     measure and print only

A log of 200 people with 2,000 events each and four fields: a context, a click, stars, and seconds in buckets. The time
of one user's events in codes and of the batch that asks the model of all of them; the median over 200 people. Beside it
the way by values: `history_of`, then coded as a history that is given on the spot.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from facta.data.batches.encoded import EncodedHistory
from facta.data.batches.request import request
from facta.data.batches.spec import InputSpec
from facta.data.batches.stored import encoded_history
from facta.infer.history import encoded

FIGURES: dict[str, Figure] = {
    "history_to_batch_ms": Figure(
        "<= 2",
        "ms",
        module("histories"),
        "a stored history of 2,000 events and 4 fields to the batch of a request",
    ),
}

USERS, EVENTS, ITEMS, T0 = 200, 2000, 20_000, 1_600_000_000_000
WANTS = InputSpec(fields=("tab", "click", "stars", "seconds"))


def prepared(folder: Path) -> facta.Dataset:
    """The log."""
    rng, count = np.random.default_rng(0), USERS * EVENTS
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), EVENTS),
            "item_id": rng.integers(0, ITEMS, count),
            "timestamp": T0 + np.tile(60_000 * np.arange(EVENTS), USERS),
            "tab": rng.choice(["home", "search", "similar"], count),
            "click": rng.integers(0, 2, count),
            "stars": rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], count),
            "seconds": rng.exponential(20, count).astype(np.float32),
        }
    )
    fields = {
        "tab": "context",
        "click": "feedback",
        "stars": {"kind": "ordinal", "positive": ">= 4"},
        "seconds": {"kind": "numeric", "boundaries": [5.0, 10.0, 20.0, 40.0, 80.0], "positive": ">= 20"},
    }
    return facta.prepare(frame, folder / "log", fields=fields)


def milliseconds(data: facta.Dataset, users: int, history: Callable[[int], EncodedHistory]) -> list[float]:
    """Of each user, from the row to the batch."""
    at, found = T0 + 60_000 * EVENTS, []
    for user in range(users):
        began = time.perf_counter()
        batch = request([history(user)], [at], EVENTS)
        found.append(1000 * (time.perf_counter() - began))
        assert len(batch.events.item) == EVENTS and len(batch.events.fields) == len(WANTS.fields)
    return found


def main() -> None:
    look = looking(__doc__)
    with tempfile.TemporaryDirectory() as place:
        data = prepared(Path(place))

        def by_values(user: int) -> EncodedHistory:
            history = facta.history_of(data, data.users["user_id"][user])
            return encoded(history, data.item_rows, data.manifest, WANTS)

        by_values(0)  # reads the ids of all users
        codes = milliseconds(data, USERS, lambda user: encoded_history(data, user, None, WANTS))
        values = milliseconds(data, USERS // 10, by_values)
    slow, load = statistics.median(values), os.getloadavg()[0]
    said = f"by values {slow:.1f} ms; best {min(codes):.3f} ms; load {load:.1f}"
    print(f"history_to_batch_ms {statistics.median(codes):.3f}; {said}")
    if not look:
        record("history_to_batch_ms", statistics.median(codes), raw=codes, note=said)


if __name__ == "__main__":
    main()
