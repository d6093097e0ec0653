"""attention_forward_vs_gemm, attention_forward_vs_peak and attention_fwdbwd_vs_sdpa: HSTU's attention on long rows.

    python -m benchmarks.speed.attention            measure and record
    python -m benchmarks.speed.attention --look     measure and print only

B 2, N 8192, H 4, d 64, float32, causal, with position and time bias; FLOPs are counted as 2·B·H·d·N(N+1) for the
forward. The forward is set against the best rate of a matrix product among several sizes, which says as much of the
library as of the kernel, and against the processor's own peak of fused multiply-adds (`peak.py`); forward and
backward, gradients of both bias tables included, against torch's scaled_dot_product_attention(is_causal=True) without
any bias.
All on the same two threads, in turns; a turn's ratio, each side the best of three tries, is one measurement.
"""

from __future__ import annotations

import statistics

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.speed.peak import peak_rate
from benchmarks.speed.turns import product_rate, seconds
from facta import ops
from facta.ops import backend
from facta.ops.buckets import LAST_BUCKET
from facta.types import TokenBatch

FIGURES: dict[str, Figure] = {
    "attention_forward_vs_gemm": Figure(
        ">= 0.65",
        "x",
        module("attention"),
        "HSTU attention, N 8192, with bias: rate over the best matrix product's",
    ),
    "attention_forward_vs_peak": Figure(
        "", "", module("attention"), "the same: rate over the processor's peak of fused multiply-adds"
    ),
    "attention_fwdbwd_vs_sdpa": Figure(
        ">= 1",
        "x",
        module("attention"),
        "the same forward and backward: time of causal SDPA without bias over ours",
    ),
}

ROWS, LENGTH, HEADS, WIDTH = 2, 8192, 4, 64
THREADS, TURNS = 2, 5


def world() -> tuple[TokenBatch, list[Tensor], list[Tensor]]:
    """Tokens minutes apart, q, k, v and an incoming gradient, and the two bias tables."""
    random = torch.Generator().manual_seed(0)
    total, offsets = ROWS * LENGTH, torch.arange(ROWS + 1) * LENGTH
    place = torch.arange(total) % LENGTH
    gap = (600_000 * torch.rand(total, generator=random)).long()
    time_ = 1_600_000_000_000 + gap.cumsum(0)
    zeros = torch.zeros(total, dtype=torch.int64)
    tokens = TokenBatch(offsets, zeros, zeros, time_, torch.cat([time_[1:], time_[-1:]]), place, place, zeros, {})
    given = [torch.randn(total, HEADS, WIDTH, generator=random) for _ in range(4)]
    tables = [torch.randn(size, generator=random) * 0.02 for size in (LENGTH + 1, LAST_BUCKET + 1)]
    return tokens, given, tables


class Turns:
    """What is measured, in turns."""

    def __init__(self) -> None:
        self.tokens, (self.q, self.k, self.v, self.grad), self.tables = world()
        self.forward: list[float] = []
        self.against_product: list[float] = []
        self.against_peak: list[float] = []
        self.against_sdpa: list[float] = []

    def attend(self, *given: Tensor) -> Tensor:
        q, k, v, position, time_ = given
        geometry = ops.Geometry(self.tokens)
        return ops.hstu_attention(q, k, v, geometry, position_bias=position, time_bias=time_, scale=1 / LENGTH)

    def ours(self) -> None:
        leaves = [x.detach().requires_grad_() for x in (self.q, self.k, self.v, *self.tables)]
        torch.autograd.grad(self.attend(*leaves), leaves, self.grad)

    def theirs(self) -> None:
        shaped = [x.view(ROWS, LENGTH, HEADS, WIDTH).transpose(1, 2).contiguous() for x in (self.q, self.k, self.v)]
        leaves = [x.requires_grad_() for x in shaped]
        out = F.scaled_dot_product_attention(*leaves, is_causal=True)
        torch.autograd.grad(out, leaves, self.grad.view(ROWS, LENGTH, HEADS, WIDTH).transpose(1, 2))

    def turn(self) -> None:
        flops = 2e-9 * ROWS * HEADS * WIDTH * LENGTH * (LENGTH + 1)
        rate, peak = product_rate(), peak_rate(THREADS)
        with torch.no_grad():
            self.forward.append(flops / seconds(lambda: self.attend(self.q, self.k, self.v, *self.tables)))
        self.against_product.append(self.forward[-1] / rate)
        self.against_peak.append(self.forward[-1] / peak)
        theirs, ours = seconds(self.theirs), seconds(self.ours)
        self.against_sdpa.append(theirs / ours)
        print(
            f"peak {peak:.0f} GFLOP/s, product {rate:.0f}, forward {self.forward[-1]:.0f} "
            f"({self.against_peak[-1]:.3f} of the peak, {self.against_product[-1]:.3f} of the product); "
            f"both ways {ours:.2f} s, SDPA {theirs:.2f} s ({self.against_sdpa[-1]:.3f})",
            flush=True,
        )


def main() -> None:
    look = looking(__doc__)
    torch.set_num_threads(THREADS)
    turns = Turns()
    for _ in range(TURNS):
        turns.turn()
    note = f"{backend.current()}, {THREADS} threads, medians of {TURNS} turns"
    if not look:
        for name, raw in (
            ("attention_forward_vs_gemm", turns.against_product),
            ("attention_forward_vs_peak", turns.against_peak),
            ("attention_fwdbwd_vs_sdpa", turns.against_sdpa),
        ):
            record(name, statistics.median(raw), raw=raw, note=note)


if __name__ == "__main__":
    main()
