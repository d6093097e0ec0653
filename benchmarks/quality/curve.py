"""ml1m_loss_curve_apart: HSTU's MovieLens 1M recipe trained by the compiled kernels and by the reference, side by side.

    python -m benchmarks.quality.curve            measure and record (a few minutes)
    python -m benchmarks.quality.curve --look     measure and print only

Both start from the same weights and see the same batches, negatives and dropout, all of which are functions of keys.
What is left is float32's rounding, in other orders of summation: the largest relative difference of the loss over the
first 50 steps.
"""

from __future__ import annotations

import torch

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.runs import dataset
from benchmarks.speed.epoch import THREADS, Ours
from facta.data.dataset.dataset import Dataset
from facta.ops import backend
from facta.training.step import take_step
from facta.types import Negatives

FIGURES: dict[str, Figure] = {
    "ml1m_loss_curve_apart": Figure(
        "<= 1e-05", "", module("curve"), "ML-1M, HSTU: loss by kernels against the reference's, first 50 steps"
    ),
}

STEPS, EVERY = 50, 5


def curve(data: Dataset, kernels: str) -> list[float]:
    """The loss of each step."""
    side, losses = Ours(data), []
    places = [(epoch, place) for epoch in range(2) for place in range(side.batches.steps(epoch))][:STEPS]
    with backend.use(kernels):
        for epoch, place in places:
            micro_step = (side.batches.batch(epoch, place), Negatives(each=side.negatives))
            losses.append(take_step(side.model, side.optimiser, [micro_step], 1, clip_norm=None).loss)
    return losses


def main() -> None:
    look = looking(__doc__)
    torch.set_num_threads(THREADS)
    data, kernels = dataset("movielens-1m"), backend.current()
    ours, reference = curve(data, kernels), curve(data, backend.REFERENCE)
    apart = [abs(a / b - 1) for a, b in zip(ours, reference, strict=True)]
    for step in range(EVERY - 1, STEPS, EVERY):
        print(f"step {step + 1}: {kernels} {ours[step]:.6f}, reference {reference[step]:.6f}, apart {apart[step]:.1e}")
    if not look:
        note = f"{kernels}; loss {reference[0]:.4f} at the first step, {reference[-1]:.4f} at step {STEPS}"
        record("ml1m_loss_curve_apart", max(apart), raw=apart, spread=0.0, note=note)


if __name__ == "__main__":
    main()
