"""The best model of a data set beside pairwise rules, with and without a refit: SASRec or HSTU with rules as its prior.

    python -m benchmarks.best [beauty|ml1m] [--refit no|yes] [--seeds 1]

Three seeds each, unless said otherwise. NDCG@10 is compared user by user: the mean of the seeds against the rules,
which have no seed and are chosen on the same validation. The figure is the worse end of the paired 95 % interval over
users. On a quiet core a
seed takes about 10 minutes (Beauty) or 15 (ML-1M), and twice that with a refit. A run that was killed goes on.
"""

from __future__ import annotations

import argparse

import facta
from benchmarks.figures import RECONSTRUCTED, committed, record
from benchmarks.runs import SEEDS, Seeds, count, dataset, least_gain, train

ARMS = {"beauty": ("amazon-beauty", "sasrec-rules"), "ml1m": ("movielens-1m", "hstu-rules")}
REFIT = {"no": [], "yes": ["protocol.refit=yes"]}


def weights(runs: Seeds) -> str:
    """What validation chose, seed by seed."""
    return ", ".join(f"{artifact.config['model']['prior']['weight']:g}" for artifact in runs.artifacts)


def measure(name: str, refit: str, seeds: tuple[int, ...]) -> None:
    """Record the four figures of a data set under one protocol."""
    folder, system = ARMS[name]
    data, changes, middle = dataset(folder), REFIT[refit], "_refit" if refit == "yes" else ""
    runs, (rules, _) = train(f"{folder}/{system}", data, changes, seeds), count(f"{folder}/rules", data, changes)
    note = f"{folder}/{system}; {runs.test[0].protocol}; weights of the rules {weights(runs)}"
    note += f"; {RECONSTRUCTED}" if name == "ml1m" else ""
    for metric in ("HR@10", "NDCG@10"):
        figure = f"{name}_best{middle}_{metric.replace('@', '').lower()}"
        record(figure, runs.mean(metric), raw=runs.values(metric), seeds=seeds, note=note)
    found = facta.compare(runs.averaged, rules, "NDCG@10")
    said = f"{found.difference:+.4f} [{found.interval.low:+.4f}, {found.interval.high:+.4f}] over users; rules alone "
    said += f"{rules.means['HR@10']:.4f} / {rules.means['NDCG@10']:.4f}"
    record(
        f"{name}_best_minus_rules{middle}_ndcg10",
        least_gain("NDCG@10", found.interval),
        raw=[found.difference, *found.interval],
        seeds=seeds,
        note=f"{said}; {note}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The best model of a data set beside pairwise rules.")
    parser.add_argument("arm", nargs="?", choices=ARMS, help="default: both")
    parser.add_argument("--refit", choices=REFIT, help="default: both")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    given = parser.parse_args()
    committed()
    for name in [given.arm] if given.arm else ARMS:
        for refit in [given.refit] if given.refit else REFIT:
            measure(name, refit, SEEDS[: given.seeds])


if __name__ == "__main__":
    main()
