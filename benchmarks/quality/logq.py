"""logq_bias_*: how far the mean gradient of a sampled softmax lies from the gradient of the full one.

    python -m benchmarks.quality.logq [--items 5000] [--targets 4096]

One target whose own item, of median popularity, has the probability .005, .26 or .71 under the full softmax; the other
items have shares of Zipf's law with exponent 1, in the log and in the model alike up to a factor e^N(0, 1). The
negatives are the distinct items of the other targets of the batch, drawn by their share of the log (`in-batch`). The
bias of a correction is Σ_v |E g_v - g_v| / Σ_v |g_v| over the gradients g of all logits.

The expectation over batches is no simulation: with weights w_v = e^(s_v) / q_v and A the positive's,
E[w_v I_v / (A + Σ w I)] = ∫ e^(-tA) E[w_v I_v e^(-t Σ w I)] dt, and the expectation over n draws is the coefficient of
z^n in a product over items, read off on a circle in the complex plane. Both integrals are sums of smooth functions by
the trapezoidal rule, exact to about 1e-9; tests/numerics/test_log_q.py compares them with all batches of a small world.
"""

from __future__ import annotations

import argparse
from math import lgamma

import numpy as np
import torch

from benchmarks.figure import Figure, module
from benchmarks.record import committed, record
from facta.arrays import Floats
from facta.data.batches.negatives import Correction, NegativesConfig, log_inclusion

FIGURES: dict[str, Figure] = {
    "logq_bias_negatives": Figure(
        "<= 0.02",
        "",
        module("logq"),
        "logQ on the negatives: largest relative bias of the mean gradient, 5,000 items",
    ),
    "logq_bias_all": Figure("", "", module("logq"), "the same, the positive corrected as well (Yi et al. 2019)"),
}

OWN = (0.005, 0.26, 0.71)
ANGLES, TIMES = 64, 240  # nodes of the two integrals


def world(items: int, own: float) -> tuple[Floats, Floats, int]:
    """Shares of the log [V], logits of the full softmax [V], and the row of the target's own item."""
    share = 1 / np.arange(1, items + 1)
    share /= share.sum()
    place = items // 2
    likely = share * np.exp(np.random.default_rng(0).normal(size=items))
    likely[place] = 0
    likely *= (1 - own) / likely.sum()
    likely[place] = own
    return share, np.log(likely), place


def full_gradient(logits: Floats, own: int) -> Floats:
    """[V] of the full softmax's loss."""
    gradient = np.exp(logits - np.logaddexp.reduce(logits))
    gradient[own] -= 1
    return gradient


def mean_gradient(share: Floats, logits: Floats, own: int, targets: int, correction: Correction) -> Floats:
    """[V] of the sampled softmax's loss for one target, in the mean over what the other targets of its batch are."""
    config, others = NegativesConfig(kind="in-batch", correction=correction), targets - 1
    counts = torch.from_numpy(share)
    lowered = logits.copy()
    if correction != "none":
        lowered -= log_inclusion(config, counts, targets if correction == "all" else others).double().numpy()
    if correction != "all":
        lowered[own] = logits[own]
    weight = np.exp(lowered - lowered.max())
    positive, weight[own] = weight[own], 0.0
    gradient = _mean_shares(share, weight, positive, others)
    gradient[own] = -gradient.sum()
    return gradient


def _mean_shares(share: Floats, weight: Floats, positive: float, draws: int) -> Floats:
    """[V] E[w_v I_v / (A + Σ w I)], I_v: whether `draws` draws hit item v at least once."""
    angle = np.linspace(0, min(np.pi, 9 / np.sqrt(draws)), ANGLES + 1)
    z = draws * np.exp(1j * angle)
    grown = np.expm1(share[:, None] * z)  # [V, angles]
    # n! / n^n e^(-inθ) / 2π; θ and -θ are conjugates, so the sum is twice the real part
    log_scale = lgamma(draws + 1) - draws * np.log(draws) - 1j * draws * angle
    step = angle[1] * np.where((angle == 0) | (angle == angle[-1]), 0.5, 1.0) / np.pi
    x, width = np.linspace(-36, 5, TIMES, retstep=True)  # t = e^x / A: the integrand vanishes at both ends
    found = np.zeros(len(share))
    for t in np.exp(x) / positive:
        kept = np.exp(-t * weight)[:, None]
        factor = 1 + grown * kept
        log_product = np.log(factor).sum(axis=0) + log_scale - t * positive
        chance = np.exp(log_product) * step
        found += (width * t) * ((grown * kept / factor) @ chance).real * weight
    return found


def bias(share: Floats, logits: Floats, own: int, targets: int, correction: Correction) -> float:
    exact = full_gradient(logits, own)
    return float(np.abs(mean_gradient(share, logits, own, targets, correction) - exact).sum() / np.abs(exact).sum())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--targets", type=int, default=4096)
    args = parser.parse_args()
    committed()
    for correction in ("negatives", "all", "none"):
        values = [bias(*world(args.items, own), args.targets, correction) for own in OWN]
        note = ", ".join(f"P(own) {own}: {value:.4g}" for own, value in zip(OWN, values, strict=True))
        print(correction, note)
        if correction != "none":
            record(f"logq_bias_{correction}", max(values), raw=values, note=note)


if __name__ == "__main__":
    main()
