"""recommend_all_vs_encode and history_of_1m_users_ms: lists for all users, and one history among a million users.

    python -m benchmarks.speed.lists            measure and record
    python -m benchmarks.speed.lists --look     measure and print only

All 6,040 people of MovieLens 1M, the 100 best items of each, to a Parquet file: the time of encoding the same requests
alone, divided by the time of the whole. HSTU by its recipe, trained for one epoch: weights change no time. Both run in
this process, in turns. Then `history_of` of users of a log with a million users and ten million events, after the first
call, which reads the ids; and `histories_of`, per user.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.runs import dataset
from facta.data.batches.request import request
from facta.infer import bulk
from facta.infer.artifact import Artifact

FIGURES: dict[str, Figure] = {
    "recommend_all_vs_encode": Figure(
        ">= 0.5",
        "x",
        module("lists"),
        "encoding alone over the 100 best items of all 6,040 users of ML-1M, to Parquet",
    ),
    "history_of_1m_users_ms": Figure(
        "<= 1", "ms", module("lists"), "one user's history from a log of 1,000,000 users and 10,000,000 events"
    ),
}

K, TURNS, USERS, EVENTS, ASKED = 100, 5, 1_000_000, 10_000_000, 1000


def after(data: facta.Dataset) -> int:
    """A moment after all events."""
    assert data.timestamp is not None
    return int(data.timestamp.max()) + 1


def encoding(artifact: Artifact, data: facta.Dataset) -> float:
    """Seconds for the queries of all users, from batches that are made outside of the clock."""
    stored, users, taken, at = artifact._engine.stored(data), np.arange(data.num_users), 0.0, after(data)
    for start in range(0, len(users), 256):
        histories = stored.encoded(users[start : start + 256], at)
        batch = request(histories, [at] * len(histories), artifact.model.window)
        began = time.perf_counter()
        with torch.inference_mode():
            artifact.model.queries(batch)  # type: ignore[operator]
        taken += time.perf_counter() - began
    return taken


def everybody(artifact: Artifact, data: facta.Dataset, out: Path) -> float:
    """Seconds for the lists of all users, in a file."""
    began = time.perf_counter()
    artifact.recommend_users(data, K, at=after(data), out=out, overwrite=True)
    return time.perf_counter() - began


def ratios(artifact: Artifact, data: facta.Dataset, out: Path, turns: int) -> list[float]:
    """Encoding alone / the whole, once a turn."""
    everybody(artifact, data, out)  # item vectors, and files that are cold
    found = []
    for turn in range(turns):
        alone, whole = encoding(artifact, data), everybody(artifact, data, out)
        print(f"turn {turn}: encoding {alone:.2f} s, the whole {whole:.2f} s", flush=True)
        found.append(alone / whole)
    assert len(pl.read_parquet(out)) == K * data.num_users
    return found


def history_times(folder: Path, users: int, events: int, asked: int) -> tuple[float, float]:
    """Milliseconds a user by `history_of`, the median, and by `histories_of`."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "user_id": np.concatenate([np.arange(users), rng.integers(0, users, events - users)]) * 7,
            "item_id": rng.integers(0, 50_000, events),
            "timestamp": rng.integers(1_600_000_000, 1_700_000_000, events),
        }
    )
    log = facta.prepare(frame, folder / "log")
    chosen = (rng.integers(0, users, asked) * 7).tolist()
    facta.history_of(log, chosen[0])
    times = []
    for user in chosen:
        began = time.perf_counter()
        facta.history_of(log, user)
        times.append(1000 * (time.perf_counter() - began))
    began = time.perf_counter()
    facta.histories_of(log, chosen)
    return statistics.median(times), 1000 * (time.perf_counter() - began) / asked


def main() -> None:
    look = looking(__doc__)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = dataset("movielens-1m")
        artifact = facta.train(
            data, "movielens-1m/hstu", folder / "hstu", {"training.epochs": 1, "training.patience": None}
        )
        found = ratios(artifact, data, folder / "top.parquet", TURNS)
        one, many = history_times(folder, USERS, EVENTS, ASKED)
    print(f"history_of {one:.3f} ms, histories_of {many:.3f} ms a user; parts of {bulk.USERS} users")
    if not look:
        record("recommend_all_vs_encode", statistics.median(found), raw=found)
        record("history_of_1m_users_ms", one, note=f"histories_of: {many:.3f} ms a user")


if __name__ == "__main__":
    main()
