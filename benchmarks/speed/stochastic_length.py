"""sl_step_vs_transformer and sl_time_vs_flops: what Stochastic Length saves (Zhai et al. 2024, section 3.2).

    python -m benchmarks.speed.stochastic_length            measure, record, and draw docs/stochastic-length.svg
    python -m benchmarks.speed.stochastic_length --look     measure and print only

256 histories of 8,192 events each, drawn by facta's own rule with keys 0 … 255: L = ⌊8192^(α/2)⌋ events stay of most,
all of a few. One layer, D 512, H 8, float32, no relative bias, forward and backward without optimiser, two threads.

`sl_step_vs_transformer`: HSTU on the whole draw at α 1.6, in the order drawn, cut into micro-batches of at most 16,384
tokens; the Transformer block of `block.py` on full histories. Those are all alike, so a turn times 4 of the 256,
one after the other, and multiplies by 64. The ratio of a turn, neither side the best of several tries, is one
measurement.

`sl_time_vs_flops`: time(α) / time(2) over FLOPs(α) / FLOPs(2), of HSTU on the draws of α 1.6 … 2; the largest deviation
from 1 in a turn is one measurement. A draw knows two lengths, so a turn times one micro-batch of each length, best of
two tries, and adds up time a row by how many rows were drawn: a pass of α 2 is 256 whole rows, ten minutes.

FLOPs are those of matrix products, a causal half counted as such: three passes, forward and two gradients, over 5 D²
weights of HSTU (u, v, q, k; output) or 12 D² of the Transformer (q, k, v; output; 4 D up and down), and seven products
of attention: scores and values forward; scores again, as neither kernel keeps them, and four gradients backward. So
counted, full histories through the Transformer cost 15.8 x what the expected draw at α 1.6 costs HSTU; the gradients
counted as twice the forward make it 15.6. A draw of 256 has 7 ± 2.6 whole histories: what it really costs is printed
and noted beside.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

import torch

from benchmarks.figure import Figure, module
from benchmarks.record import ROOT, looking, record
from benchmarks.speed.block import HEADS, THREADS, WIDTH, transformer
from benchmarks.speed.lengths import tokens_of
from benchmarks.speed.turns import seconds
from facta import ops
from facta.data.batches.stochastic_length import StochasticLengthConfig, kept_events, threshold, whole_probability
from facta.encoders.hstu import HSTUConfig, HSTULayer
from facta.ops import backend

FIGURES: dict[str, Figure] = {
    "sl_step_vs_transformer": Figure(
        ">= 15",
        "x",
        module("stochastic_length"),
        "Stochastic Length, α 1.6, N 8192, forward and backward: time of a Transformer block on full rows over ours",
    ),
    "sl_time_vs_flops": Figure(
        "<= 0.15",
        "",
        module("stochastic_length"),
        "the same, α 1.6 … 2: how far time is from the FLOP model at most",
    ),
}

LONGEST, HISTORIES, TOKENS = 8192, 256, 16_384  # TOKENS: of a micro-batch at most
TURNS, FULL = 5, 4  # FULL: histories through the Transformer a turn
ALPHAS = (1.6, 1.7, 1.8, 1.9, 2.0)
HSTU, TRANSFORMER = 5, 12  # weights of a layer, in D²


def flops(lengths: Sequence[int], weights: int) -> int:
    """FLOPs of one layer, forward and backward, over causal rows of these lengths; `weights` in D²."""
    pairs = sum(length * (length + 1) // 2 for length in lengths)
    return 3 * 2 * weights * WIDTH**2 * sum(lengths) + 7 * 2 * WIDTH * pairs


def expected_flops(alpha: float, longest: int = LONGEST) -> float:
    """Of HSTU, a history of the longest length, in the mean over draws."""
    whole = float(whole_probability(torch.tensor([longest]), alpha, longest))
    return whole * flops([longest], HSTU) + (1 - whole) * flops([threshold(alpha, longest)], HSTU)


def drawn(alpha: float, longest: int = LONGEST, histories: int = HISTORIES) -> list[int]:
    """How many events stay of each history."""
    offsets = torch.arange(histories + 1) * longest
    kept = kept_events(offsets, None, torch.arange(histories), StochasticLengthConfig(alpha=alpha), longest)
    return torch.bincount(kept // longest, minlength=histories).tolist()


def micro_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """The rows in their order, in groups of at most so many tokens; a longer row stands alone."""
    groups: list[list[int]] = []
    for length in lengths:
        if not groups or sum(groups[-1]) + length > tokens:
            groups.append([])
        groups[-1].append(length)
    return groups


class Rows:
    """Forward and backward of one HSTU layer over micro-batches, gradients added up."""

    def __init__(self, lengths: Sequence[int], longest: int, tokens: int = TOKENS) -> None:
        self.batches = [tokens_of(group) for group in micro_batches(lengths, tokens)]
        self.layer = HSTULayer(HSTUConfig(heads=HEADS, bias="none", dropout=0.0), WIDTH, longest, salt=0)
        most = max(len(batch.position) for batch in self.batches)
        self.x, self.grad = torch.randn(most, WIDTH), torch.randn(most, WIDTH)

    def __call__(self) -> None:
        for batch in self.batches:
            x, grad = self.x[: len(batch.position)].requires_grad_(), self.grad[: len(batch.position)]
            self.layer(x, batch, ops.Geometry(batch)).backward(grad)


def full_histories(count: int, longest: int) -> Callable[[], None]:
    """The same of a Transformer block, over full histories."""
    _, forward = transformer()
    x, grad = torch.randn(1, longest, WIDTH), torch.randn(1, longest, WIDTH)

    def run() -> None:
        for _ in range(count):
            forward(x.detach().requires_grad_()).backward(grad)

    return run


def against_transformer(lengths: Sequence[int], longest: int = LONGEST, full: int = FULL) -> list[float]:
    """The Transformer's time on as many full histories over HSTU's on these, turn by turn."""
    theirs, ours = full_histories(full, longest), Rows(lengths, longest)
    found = []
    for _ in range(TURNS):
        their, our = seconds(theirs, tries=1) * len(lengths) / full, seconds(ours, tries=1)
        found.append(their / our)
        print(f"{len(lengths)} histories: theirs {their:,.1f} s, ours {our:,.1f} s: {found[-1]:.2f}", flush=True)
    return found


def times(draws: Mapping[float, Sequence[int]], longest: int = LONGEST) -> list[dict[float, float]]:
    """Seconds of each draw, by α, turn by turn."""
    kinds = sorted({length for lengths in draws.values() for length in lengths})
    rows = {length: max(1, TOKENS // length) for length in kinds}
    work = {length: Rows([length] * rows[length], longest) for length in kinds}
    found = []
    for _ in range(TURNS):
        each = {length: seconds(work[length], tries=2) / rows[length] for length in kinds}
        found.append({alpha: sum(each[length] for length in lengths) for alpha, lengths in draws.items()})
        print(", ".join(f"α {alpha}: {taken:,.1f} s" for alpha, taken in found[-1].items()), flush=True)
    return found


def deviations(taken: Mapping[float, float], counted: Mapping[float, float]) -> dict[float, float]:
    """By α: time over FLOPs, each as a share of its value at α 2, less 1."""
    return {alpha: taken[alpha] / taken[2.0] / (counted[alpha] / counted[2.0]) - 1 for alpha in taken}


def plot(taken: Mapping[float, float], counted: Mapping[float, float]) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2), constrained_layout=True)
    axes.plot(list(taken), list(taken.values()), marker="o", label="measured")
    model = [taken[2.0] * count / counted[2.0] for count in counted.values()]
    axes.plot(list(counted), model, linestyle="--", label="FLOP model, through α 2")
    axes.set(xlabel="α", ylabel=f"seconds of {HISTORIES} histories", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title(f"One HSTU layer, D {WIDTH}, histories of {LONGEST:,} events", fontsize="medium")
    figure.savefig(ROOT / "docs" / "stochastic-length.svg")


def flop_ratios(lengths: Sequence[int]) -> str:
    """What the Transformer's full histories cost over HSTU's at α 1.6: by expectation, and of this draw."""
    theirs, ours = flops([LONGEST], TRANSFORMER), flops(lengths, HSTU) / len(lengths)
    return f"FLOP ratio {theirs / expected_flops(1.6):.1f} expected, {theirs / ours:.1f} of this draw"


def main() -> None:
    look = looking(__doc__)
    torch.set_num_threads(THREADS)
    draws = {alpha: drawn(alpha) for alpha in ALPHAS}
    counted = {alpha: flops(lengths, HSTU) for alpha, lengths in draws.items()}
    kept = ", ".join(f"{lengths.count(LONGEST)} at α {alpha}" for alpha, lengths in draws.items())
    note = f"{backend.current()}, {THREADS} threads; of {HISTORIES} histories whole: {kept}"
    faster, said = against_transformer(draws[1.6]), flop_ratios(draws[1.6])
    series = times(draws)
    apart = [max(map(abs, deviations(taken, counted).values())) for taken in series]
    middle = {alpha: statistics.median(taken[alpha] for taken in series) for alpha in ALPHAS}
    off = deviations(middle, counted)
    shown = ", ".join(f"α {alpha}: {middle[alpha]:.1f} s, {off[alpha]:+.1%}" for alpha in ALPHAS)
    print(f"{statistics.median(faster):.2f} x, {said}; {statistics.median(apart):.3f} off; {shown}; {note}", flush=True)
    if look:
        return
    record("sl_step_vs_transformer", statistics.median(faster), raw=faster, note=f"{note}; {said}")
    record("sl_time_vs_flops", statistics.median(apart), raw=apart, note=f"{note}; {shown}")
    plot(middle, counted)


if __name__ == "__main__":
    main()
