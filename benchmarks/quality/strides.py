"""What a live engine's stride costs in quality: HSTU on MovieLens 1M, asked with windows that move many events at once.

    python -m benchmarks.quality.strides            measure and record
    python -m benchmarks.quality.strides --look     measure and print only

The three seeds of `benchmarks.quality.ml1m hstu-refit`, trained if they are not there (an hour and a half of one core),
are evaluated with stride 1, the newest 200 events, and with strides of 25 to 200. A window of stride s holds 201 - s to
200 events. The figure is of the engine's default, an eighth of the window: NDCG@10 of stride 1 minus that of stride 25,
user by user, the mean over seeds; the upper end of its interval.
"""

from __future__ import annotations

import numpy as np

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.runs import SEEDS, dataset, train
from facta.eval.bootstrap import Interval, bootstrap_means, interval
from facta.eval.protocol import ProtocolConfig

FIGURES: dict[str, Figure] = {
    "stride_ndcg_loss": Figure(
        "<= 0.002",
        "NDCG@10",
        module("strides"),
        "ML-1M, HSTU: what windows that move 25 events at a time cost, at most",
    ),
}
METRIC, DEFAULT, STRIDES = "NDCG@10", 25, (25, 50, 100, 200)


def measured(artifacts: list[facta.Artifact], stride: int) -> facta.Result:
    """The mean over seeds, user by user."""
    protocol = ProtocolConfig(refit="yes", stride=stride)
    return facta.average([facta.evaluate(one, dataset("movielens-1m"), protocol) for one in artifacts])


def loss(one: facta.Result, other: facta.Result) -> tuple[float, Interval]:
    """How much lower the other one's metric is, and its interval over users."""
    values = (one.values[METRIC] - other.values[METRIC])[:, None]
    return float(values.mean()), interval(bootstrap_means(values)[:, 0])


def main() -> None:
    look = looking(__doc__)
    runs = train("movielens-1m/hstu", dataset("movielens-1m"), ["protocol.refit=yes"], SEEDS)
    plain = measured(runs.artifacts, 1)
    moved = int(np.sum(plain.history > 200))
    print(f"stride 1: {plain.means[METRIC]:.4f}; {moved:,} of {len(plain.user):,} histories are longer than 200 events")
    said, upper = [], 0.0
    for stride in STRIDES:
        mean, found = loss(plain, measured(runs.artifacts, stride))
        said.append(f"stride {stride} {mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]")
        print(said[-1])
        upper = found.high if stride == DEFAULT else upper
    if not look:
        record("stride_ndcg_loss", upper, seeds=SEEDS, note="; ".join(said))


if __name__ == "__main__":
    main()
