"""What a generative ranker computes in a second of answers, beside the DLRM that it replaces; what a candidate costs.

    python -m benchmarks.speed.served              measure, record, and draw docs/candidates.svg
    python -m benchmarks.speed.served --look       measure and print only

gr_vs_dlrm_flops_per_second: the GR of `mfalcon.py` (interleaved HSTU, 4 layers, width 256) and the DLRM of the
simulator's recipe (DIN over 50 events, crosses, experts) score 1,024 candidates for a person with 1,024 events, in
turns. Of the GR all events but the newest are kept, of the DLRM the coded history. Operations are those of matrix
products in these very calls: of the GR a token for each candidate and for the newest event, with 2,048 tokens before
it. The figure is the median of the ratios of operations a second.

The picture: milliseconds a candidate, for 64 to 16,384 candidates and microbatches of 16 to 4,096, the least of three.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.figure import Figure, module
from benchmarks.record import ROOT, looking, record
from benchmarks.speed.mfalcon import CANDIDATES, CLICK, EVENTS, ITEMS, asked, history, in_turns, model, scored, seconds
from facta.data.dataset.catalogue import Catalogue
from facta.infer.cache import Cache
from facta.infer.memories import Memories
from facta.models.dlrm import DLRMConfig
from facta.models.recommender import Recommender
from facta.recipes.simulator import dlrm

FIGURES: dict[str, Figure] = {
    "gr_vs_dlrm_flops_per_second": Figure(
        ">= 5", "x", module("served"), "1,024 candidates, warm: operations that a GR serves in a second, over a DLRM's"
    ),
}

TURNS, TIMES = 11, 3
COUNTS = (64, 256, 1024, 4096, 16_384)
MICROBATCHES = (16, 64, 256, 1024, 4096)


def kept_of(made: Recommender, events: int = EVENTS) -> Memories:
    """The memory of the person with so many events."""
    kept: Memories = Cache(1 << 34)
    scored(made, asked(history(events), 1), kept, 1)
    return kept


def gr_flops(made: Recommender, count: int, events: int = EVENTS) -> float:
    """Of the tokens of `count` candidates and of the newest event, which see all tokens before them; with the heads."""
    tokens = made.tokens_per_event
    encoder = made.config.encoder.cost(made.config.width, tokens * events)
    return (count + tokens) * encoder.flops + count * made.cost(1).flops_per_target


def compared(turns: int) -> tuple[list[float], str]:
    gr, person = model(EVENTS + 1), history(EVENTS)
    kept = kept_of(gr)
    config = dlrm().model.of_any_fields
    assert isinstance(config, DLRMConfig)
    other = config.build(Catalogue(ITEMS, fields=(CLICK,))).eval()
    works: dict[str, Callable[[], object]] = {
        "GR": lambda: scored(gr, asked(person, CANDIDATES), kept, CANDIDATES),
        "DLRM": lambda: scored(other, asked(person, CANDIDATES), None, CANDIDATES),
    }
    taken = in_turns(works, turns)
    flops = {"GR": gr_flops(gr, CANDIDATES), "DLRM": CANDIDATES * other.cost(EVENTS).flops_per_token}
    rates = {name: [flops[name] / one for one in taken[name]] for name in works}
    said = ", ".join(
        f"{name} {flops[name] / 1e9:.2f} GFLOP in {1000 * statistics.median(taken[name]):.1f} ms" for name in works
    )
    ratios = [ours / theirs for ours, theirs in zip(rates["GR"], rates["DLRM"], strict=True)]
    return ratios, f"{torch.get_num_threads()} threads; {said}"


def curve() -> dict[int, list[float]]:
    """Microbatch -> milliseconds a candidate, for each of COUNTS."""
    gr, person = model(EVENTS + 1), history(EVENTS)
    kept = kept_of(gr)
    found: dict[int, list[float]] = {}
    for microbatch in MICROBATCHES:
        found[microbatch] = []
        for count in COUNTS:
            times = TIMES if count < COUNTS[-1] else 1
            least = min(seconds(partial(scored, gr, asked(person, count), kept, microbatch)) for _ in range(times))
            found[microbatch].append(1000 * least / count)
            print(f"{count:>6,} candidates by {microbatch:>5,}: {found[microbatch][-1]:.4f} ms each", flush=True)
    return found


def draw(found: dict[int, list[float]]) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), constrained_layout=True)
    for microbatch, values in found.items():
        axes.loglog(COUNTS, values, marker="o", base=2, label=f"{microbatch:,}")
    axes.set(xlabel="candidates of a request", ylabel="ms a candidate")
    axes.set_xticks(COUNTS, [f"{count:,}" for count in COUNTS])
    axes.set_yticks(*_ticks([value for values in found.values() for value in values]))
    axes.grid(alpha=0.3)
    figure.legend(title="microbatch", frameon=False, loc="outside right upper")
    axes.set_title(f"HSTU, 4 layers of width 256, {EVENTS:,} events kept: what a candidate costs", fontsize=10)
    figure.savefig(ROOT / "docs" / "candidates.svg")


def _ticks(values: list[float]) -> tuple[list[float], list[str]]:
    """1, 2, 5, 10 … within the values."""
    every = [step * 10.0**power for power in range(-4, 3) for step in (1, 2, 5)]
    shown = [one for one in every if min(values) / 1.5 <= one <= max(values) * 1.5]
    return shown, [f"{one:g}" for one in shown]


def main() -> None:
    look = looking(__doc__)
    ratios, note = compared(TURNS)
    print(f"gr_vs_dlrm_flops_per_second {statistics.median(ratios):.2f}; {note}")
    if not look:
        record("gr_vs_dlrm_flops_per_second", statistics.median(ratios), raw=ratios, note=note)
    found = curve()
    if not look:
        draw(found)


if __name__ == "__main__":
    main()
