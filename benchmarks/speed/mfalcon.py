"""What M-FALCON costs, and what is saved where keys and values of a person are kept.

    python -m benchmarks.speed.mfalcon              measure and record
    python -m benchmarks.speed.mfalcon --look       measure and print only

Interleaved HSTU of 4 layers, width 256 and 4 heads, a person with 1,024 events (2,048 tokens) and 1,024 candidates.
Naive is "append one candidate, run everything", on the same kernels, in batches of 16 rows: 64 candidates are timed and
multiplied. Cold: nothing is kept of the person, and what can be kept is kept afterwards. Warm: all but the newest event
is kept. One pass: history and candidates in one call, as `Artifact.rank` does it. Of 16,384 candidates the microbatches
of 1,024 stand over a memory of the request; against it, the history is encoded again for each of them. Appending: one
more of 2,048 events and an answer for 16 candidates, against encoding all again. All go the way of a request, from the
coded history to scores; a figure is the median of ratios in turns. Weights are untrained: they change no time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from facta.data.batches.encoded import EncodedEvents, EncodedHistory
from facta.data.batches.request import Asked
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.schema import Field
from facta.infer.cache import Cache
from facta.infer.candidates import Candidates, Microbatch, advance
from facta.infer.memories import Memories
from facta.models.model import Model
from facta.models.recommender import Recommender, RecommenderConfig

COMMAND = module("mfalcon")
FIGURES: dict[str, Figure] = {
    "mfalcon_cold_vs_naive": Figure(">= 550", "x", COMMAND, "1,024 candidates over 1,024 events, against one by one"),
    "mfalcon_warm_vs_naive": Figure(">= 1200", "x", COMMAND, "the same, the person's keys and values kept"),
    "mfalcon_warm_vs_onepass": Figure(">= 2", "x", COMMAND, "the same against one pass of history and candidates"),
    "mfalcon_16k_vs_reencoded": Figure(
        ">= 2", "x", COMMAND, "16,384 candidates over one encoding, against encoding the history for every 1,024"
    ),
    "append_vs_reencode": Figure(
        ">= 40", "x", COMMAND, "one more of 2,048 events and an answer for 16 candidates, against encoding all again"
    ),
}

EVENTS, CANDIDATES, MANY, LONG, FEW, ITEMS, TURNS = 1024, 1024, 16_384, 2048, 16, 50_000, 7
NAIVE, ROWS = 64, 16
CLICK = Field(name="click", kind="binary", dtype="int8", positive=(1,))
HOUR = 3_600_000
START = 1_700_000_000_000


def model(window: int) -> Recommender:
    config = RecommenderConfig.parse(
        {
            "window": window, "width": 256, "layout": "interleaved", "next_item": None, "feedback": {},
            "encoder": {"kind": "hstu", "layers": 4, "heads": 4, "bias": "both"},
        }
    )  # fmt: skip
    return Recommender(config, Catalogue(ITEMS, fields=(CLICK,)), seed=0).eval()


def history(events: int) -> EncodedHistory:
    random = np.random.default_rng(0)
    times = START + np.cumsum(random.integers(0, 2 * HOUR, events))
    return EncodedHistory(
        EncodedEvents(random.integers(0, ITEMS, events), times, {"click": random.integers(1, 3, events)}), [CLICK]
    )


def asked(of: EncodedHistory, count: int) -> Candidates:
    assert of.times is not None
    rows = np.random.default_rng(1).integers(0, ITEMS, count)
    return Candidates(of, int(of.times[-1]) + HOUR, Asked(rows), "person")


def scored(model: Model, given: Candidates, memories: Memories | None, microbatch: int) -> float:
    while given.left:
        advance(model, [Microbatch(given, min(given.left, microbatch))], 1, memories)
    return float(np.concatenate(given.found["click"]).sum())


def naive(model: Recommender, of: EncodedHistory, count: int) -> None:
    for start in range(0, count, ROWS):
        rows = [asked(of, 1) for _ in range(start, min(start + ROWS, count))]
        advance(model, [Microbatch(one, 1) for one in rows], 1, None)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(works: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of each, once a turn after a first time of all, in both orders by turns."""
    for work in works.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns):
        for name in works if turn % 2 else reversed(works):
            taken[name].append(seconds(works[name]))
    return taken


def of_candidates(turns: int) -> tuple[dict[str, list[float]], str]:
    made, person = model(EVENTS + 1), history(EVENTS)
    kept: Memories = Cache(1 << 34)
    scored(made, asked(person, 1), kept, 1)
    works = {
        "naive": lambda: naive(made, person, NAIVE),
        "cold": lambda: scored(made, asked(person, CANDIDATES), Cache(1 << 34), CANDIDATES),
        "warm": lambda: scored(made, asked(person, CANDIDATES), kept, CANDIDATES),
        "one pass": lambda: scored(made, asked(person, CANDIDATES), None, CANDIDATES),
    }
    taken = in_turns(works, turns)
    whole = [one * CANDIDATES / NAIVE for one in taken["naive"]]
    found = {
        "mfalcon_cold_vs_naive": _ratios(whole, taken["cold"]),
        "mfalcon_warm_vs_naive": _ratios(whole, taken["warm"]),
        "mfalcon_warm_vs_onepass": _ratios(taken["one pass"], taken["warm"]),
    }
    return found, _said({**taken, "naive": whole})


def of_many(turns: int) -> tuple[dict[str, list[float]], str]:
    made, person = model(EVENTS + 1), history(EVENTS)

    def again() -> None:
        for _ in range(0, MANY, CANDIDATES):
            scored(made, asked(person, CANDIDATES), None, CANDIDATES)

    works = {"reencoded": again, "microbatches": lambda: scored(made, asked(person, MANY), None, CANDIDATES)}
    taken = in_turns(works, turns)
    return {"mfalcon_16k_vs_reencoded": _ratios(taken["reencoded"], taken["microbatches"])}, _said(taken)


def of_appending(turns: int) -> tuple[dict[str, list[float]], str]:
    """Each turn appends an event of its own."""
    made, person = model(LONG + turns + 3), history(LONG - 1)
    kept: Memories = Cache(1 << 34)
    scored(made, asked(person, 1), kept, 1)
    random = np.random.default_rng(2)

    def append() -> None:
        assert person.times is not None
        time = np.array([int(person.times[-1]) + HOUR])
        person.append(EncodedEvents(random.integers(0, ITEMS, 1), time, {"click": np.array([1])}))
        scored(made, asked(person, FEW), kept, FEW)

    taken = in_turns({"append": append, "encode again": lambda: scored(made, asked(person, FEW), None, FEW)}, turns)
    return {"append_vs_reencode": _ratios(taken["encode again"], taken["append"])}, _said(taken)


def _ratios(slow: list[float], fast: list[float]) -> list[float]:
    return [one / other for one, other in zip(slow, fast, strict=True)]


def _said(taken: dict[str, list[float]]) -> str:
    each = [f"{name} {1000 * statistics.median(values):.1f} ms" for name, values in taken.items()]
    return f"{torch.get_num_threads()} threads; {', '.join(each)}"


def main() -> None:
    look = looking(__doc__)
    for measure in (of_candidates, of_many, of_appending):
        found, said = measure(TURNS)
        print(said)
        for name, values in found.items():
            print(f"{name} {statistics.median(values):.2f} ({', '.join(f'{one:.1f}' for one in values)})")
            if not look:
                record(name, statistics.median(values), raw=values, note=said)


if __name__ == "__main__":
    main()
