"""The best model of a data set beside pairwise rules, with and without a refit: SASRec or HSTU with rules as its prior.

    python -m benchmarks.quality.best [beauty|ml100k|ml1m] [--seeds 1]

Three seeds each, unless said otherwise. The refit begins with the trained models of the figures without refit. NDCG@10
is compared user by user: the mean of the seeds against the rules, which have no seed and are chosen on the same
validation. The figure is the worse end of the paired 95 % interval over users. Hours on one core; a run that was killed
goes on.
"""

from __future__ import annotations

import argparse

import facta
from benchmarks.figure import Figure, module
from benchmarks.quality.ml1m import RECONSTRUCTED
from benchmarks.record import committed, record
from benchmarks.runs import SEEDS, Seeds, count, dataset, least_gain, train, train_again


def _best() -> dict[str, Figure]:
    """A trained model with rules as its prior, and how far it lies above the rules alone, at the worse end of 95 %."""
    found = {}
    told = {"beauty": "Amazon Beauty, SASRec", "ml100k": "ML-100K, HSTU", "ml1m": f"ML-1M, HSTU, {RECONSTRUCTED},"}
    for name, what in told.items():
        for middle, protocol in (("", "refit=no"), ("_refit", "refit=yes")):
            said = f"{what} with rules as its prior, {protocol}"
            for metric in ("HR@10", "NDCG@10"):
                short = metric.replace("@", "").lower()
                found[f"{name}_best{middle}_{short}"] = Figure("", metric, module("best"), said)
            less = f"{said}: minus the rules alone, worse end of 95 %"
            found[f"{name}_best_minus_rules{middle}_ndcg10"] = Figure("> 0", "NDCG@10", module("best"), less)
    return found


FIGURES: dict[str, Figure] = _best()

ARMS = {
    "beauty": ("amazon-beauty", "sasrec-rules"),
    "ml100k": ("movielens-100k", "hstu-rules"),
    "ml1m": ("movielens-1m", "hstu-rules"),
}


def weights(runs: Seeds) -> str:
    """What validation chose, seed by seed."""
    return ", ".join(f"{artifact.config['model']['prior']['weight']:g}" for artifact in runs.artifacts)


def measure(name: str, seeds: tuple[int, ...]) -> None:
    """Record all figures of a data set."""
    folder, system = ARMS[name]
    data, recipe = dataset(folder), f"{folder}/{system}"
    runs = train(recipe, data, seeds=seeds)
    keep(name, runs, count(f"{folder}/rules", data)[0], seeds)
    rules, _ = count(f"{folder}/rules", data, ["protocol.refit=yes"])
    keep(f"{name}_refit", train_again(recipe, data, runs, seeds), rules, seeds)


def keep(name: str, runs: Seeds, rules: facta.Result, seeds: tuple[int, ...]) -> None:
    """Record the figures of one protocol."""
    name, middle = name.removesuffix("_refit"), "_refit" if name.endswith("_refit") else ""
    note = f"{runs.name}; {runs.test[0].protocol}; weights of the rules {weights(runs)}"
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
    parser.add_argument("arm", nargs="?", choices=ARMS, help="default: all")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    given = parser.parse_args()
    committed()
    for name in [given.arm] if given.arm else ARMS:
        measure(name, SEEDS[: given.seeds])


if __name__ == "__main__":
    main()
