"""How far answers of a live engine are from those of everything computed anew.

    python -m benchmarks.speed.exact            measure and record
    python -m benchmarks.speed.exact --look     measure and print only

mfalcon_max_relative_error: candidates in microbatches of 1, 3 and all, in company, with a memory of the person and
without, against each candidate alone; all encoders and layouts that rank, in float32. cache_walk_max_relative_error:
people to whom anything happens (events, earlier ones, amended, taken back, exchanged, facts told, sessions joined,
forgotten), asked at times of their own, some twice in a step, with so little room that memories are evicted, against
the artifact without an engine; 2,000 requests or more, in float32. An error is the largest difference of log odds (of
scores of items) over the largest of the request.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from tests.live_world import ENCODERS, artifact_of
from tests.unit import test_candidates, test_live, test_mfalcon

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from facta.data.dataset.dataset import Dataset
from facta.infer.asking import Asking, KeptUnder
from facta.infer.cache import Cache
from facta.infer.candidates import scores
from facta.infer.memories import Memories
from facta.models.recommender import Recommender

COMMAND = module("exact")
FIGURES: dict[str, Figure] = {
    "mfalcon_max_relative_error": Figure(
        "<= 1e-05", "", COMMAND, "candidates in microbatches, warm or cold, against each candidate alone, float32"
    ),
    "cache_walk_max_relative_error": Figure(
        "<= 1e-05", "", COMMAND, "2,000 requests of a live engine against its artifact without memory, float32"
    ),
}
REQUESTS, ROOM = 2000, 60_000  # bytes: of four people two or three fit


def odds(p: np.ndarray) -> np.ndarray:
    """Log odds; of numbers that are no probabilities, the numbers."""
    p = p.astype(np.float64)
    return np.log(p / (1 - p)) if ((p > 0) & (p < 1)).all() else p


def microbatches(log: Dataset) -> float:
    worst = 0.0
    for layout in test_candidates.LAYOUTS:
        for encoder in ENCODERS.values():
            model = artifact_of(log, layout, encoder, window=8).model
            assert isinstance(model, Recommender)
            asking = test_mfalcon.given(log, model, seed=1)
            right = test_mfalcon.naive(model, asking)
            memories: Memories = Cache(1 << 24)
            kept = KeptUnder(memories, test_mfalcon.PEOPLE)
            for one in (asking, Asking(asking.histories, asking.at, asking.asked, asking.stride, kept)):
                for microbatch in (1, 3, 100):
                    found = scores(model, one, microbatch)
                    for name, column in right.items():
                        far = np.abs(odds(found[name]) - odds(column)).max() / np.abs(odds(column)).max()
                        worst = max(worst, float(far))
    return worst


def walks(log: Dataset) -> tuple[float, int]:
    worst, asked = 0.0, 0
    for seed in range(1000):
        if asked >= REQUESTS:
            break
        layout = test_candidates.LAYOUTS[seed % 3]
        encoder = [*ENCODERS.values()][seed % len(ENCODERS)]
        made = artifact_of(log, layout, encoder, joint=seed % 2 == 1)
        found, requests = test_live.walked(made, seed, stride=1 + seed % 6, cache=ROOM, scale=odds)
        worst, asked = max(worst, found), asked + requests
    return worst, asked


def main() -> None:
    look = looking(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        log = test_candidates.world(Path(folder) / "log")
        found, (walked, asked) = microbatches(log), walks(log)
    print(f"mfalcon_max_relative_error {found:.2e}\ncache_walk_max_relative_error {walked:.2e}: {asked:,} requests")
    if not look:
        record("mfalcon_max_relative_error", found, note=f"{len(ENCODERS)} encoders, 3 layouts")
        record("cache_walk_max_relative_error", walked, note=f"{asked:,} requests")


if __name__ == "__main__":
    main()
