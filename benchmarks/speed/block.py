"""block_step_*: one HSTU layer against one pre-norm Transformer block, in time and memory, and against the peak.

    python -m benchmarks.speed.block            measure and record
    python -m benchmarks.speed.block --look     measure and print only

D 512, H 8, float32, no relative bias, no dropout; the Transformer is torch's own parts: LayerNorm, one projection for
q, k, v, scaled_dot_product_attention(is_causal=True), a feed-forward of 4 D with GELU. A step is forward, backward and
fused AdamW on 8 x 1,024 or 1 x 8,192 tokens, both on the same two threads, in turns. Memory is what autograd keeps
between forward and backward, parameters left out; the paper counts 14 d against 33 d bytes a token in bfloat16.
`block_step_8k_vs_peak` is the rate of our step over the processor's peak of fused multiply-adds (`peak.py`):
operations are those of all matrix products, causal attention by half, forward and twice as many backward; what the
kernels compute again in the backward pass is not counted.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.speed.peak import peak_rate
from benchmarks.speed.turns import in_turns
from facta import jagged, ops
from facta.encoders.hstu import HSTUConfig, HSTULayer
from facta.ops import backend
from facta.types import TokenBatch

FIGURES: dict[str, Figure] = {
    **{
        f"block_step_{size}_vs_transformer": Figure(
            bar,
            "x",
            module("block"),
            f"one layer's step, D 512, N {length}: time of a Transformer block over ours",
        )
        for size, length, bar in (("1k", 1024, ">= 1.7"), ("8k", 8192, ">= 1.25"))
    },
    "block_step_8k_vs_peak": Figure(
        "", "", module("block"), "the step of N 8192: rate over the processor's peak of fused multiply-adds"
    ),
    "block_memory_vs_transformer": Figure(
        "<= 0.5", "x", module("block"), "bytes kept for the backward, ours over the Transformer block's"
    ),
}

WIDTH, HEADS, THREADS = 512, 8, 2
SHAPES = {"1k": (8, 1024), "8k": (1, 8192)}


class Block(nn.Module):
    """x <- x + attention(LN(x)); x <- x + FFN(LN(x)), on rows of one length."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.inner, self.outer = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        q, k, v = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in self.qkv(self.first(x)).chunk(3, dim=2))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.out(attended)
        return x + self.outer(F.gelu(self.inner(self.second(x))))


def tokens_of(rows: int, length: int) -> TokenBatch:
    """Rows of one length, causal, without times."""
    offsets = torch.arange(rows + 1) * length
    place = jagged.places(offsets)
    return TokenBatch(offsets, place * 0, place, None, None, place, place, place, {})


Forward = Callable[[Tensor], Tensor]


def hstu(rows: int, length: int) -> tuple[nn.Module, Forward]:
    layer = HSTULayer(HSTUConfig(heads=HEADS, bias="none", dropout=0.0), WIDTH, length, salt=0)
    tokens = tokens_of(rows, length)
    return layer, lambda x: layer(x.flatten(0, 1), tokens, ops.Geometry(tokens)).view_as(x)


def transformer() -> tuple[nn.Module, Forward]:
    block = Block()
    return block, block


def step(module: nn.Module, forward: Forward, x: Tensor, grad: Tensor) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)

    def run() -> None:
        optimiser.zero_grad()
        forward(x.requires_grad_()).backward(grad)
        optimiser.step()

    run()
    return run


def kept_bytes(module: nn.Module, forward: Forward, x: Tensor) -> int:
    """What is kept between forward and backward, parameters and the block's own input among it left out once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = forward(x.requires_grad_())
    del out
    return sum(kept.values())


def step_operations(rows: int, length: int) -> float:
    """Floating-point operations of the matrix products of a step of our layer."""
    tokens = rows * length
    projections = 2.0 * tokens * WIDTH * (4 * WIDTH + WIDTH)
    attention = 2.0 * rows * WIDTH * length * (length + 1)
    return 3 * (projections + attention)


def main() -> None:
    look = looking(__doc__)
    torch.set_num_threads(THREADS)
    note = f"{backend.current()}, {THREADS} threads, medians of 5 turns"
    for name, (rows, length) in SHAPES.items():
        x, grad = torch.randn(rows, length, WIDTH), torch.randn(rows, length, WIDTH)
        found = in_turns(step(*transformer(), x, grad), step(*hstu(rows, length), x, grad))
        if not look:
            middle, said = statistics.median(found.ratios), f"{found.said}; {note}"
            record(f"block_step_{name}_vs_transformer", middle, raw=found.ratios, note=said)
        if name == "8k":
            peak = peak_rate(THREADS)
            shares = [1e-9 * step_operations(rows, length) / ours / peak for ours in found.ours]
            said = f"peak {peak:.0f} GFLOP/s, {note}"
            print(f"{statistics.median(shares):.3f} of the peak; {said}")
            if not look:
                record("block_step_8k_vs_peak", statistics.median(shares), raw=shares, note=said)
    ours, theirs = kept_bytes(*hstu(8, 1024), x := torch.randn(8, 1024, WIDTH)), kept_bytes(*transformer(), x)
    each = 4 * x.numel()
    said = f"{ours / each:.1f} D floats a token against {theirs / each:.1f} D, the input among them"
    print(f"kept {ours / 2**20:.0f} MiB against {theirs / 2**20:.0f}: {ours / theirs:.3f}; {said}")
    if not look:
        record("block_memory_vs_transformer", ours / theirs, note=said)


if __name__ == "__main__":
    main()
