"""MovieLens 100K, leave-one-out with validation: HSTU and SASRec-SS against the best of the tuned baselines.

    python -m benchmarks.quality.ml100k

Three seeds each, early stopping and all settings from validation. "Best" is the baseline with the highest NDCG@10 on
the test itself: the hardest to beat.
"""

from __future__ import annotations

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import committed, record
from benchmarks.runs import SEEDS, count, dataset, train

FIGURES: dict[str, Figure] = {
    "ml100k_hstu_ndcg10": Figure(
        "> ml100k_best_baseline_ndcg10", "NDCG@10", module("ml100k"), "ML-100K, leave-one-out: HSTU"
    ),
    "ml100k_sasrec_ss_ndcg10": Figure(
        "> ml100k_best_baseline_ndcg10", "NDCG@10", module("ml100k"), "ML-100K: SASRec, sampled softmax"
    ),
    "ml100k_best_baseline_ndcg10": Figure("", "NDCG@10", module("ml100k"), "ML-100K: the best tuned baseline"),
}

METRIC = "NDCG@10"
BASELINES = ("popularity", "decayed-popularity", "item-knn", "rules")
SYSTEMS = {"hstu": "ml100k_hstu_ndcg10", "sasrec-ss": "ml100k_sasrec_ss_ndcg10"}


def main() -> None:
    committed()
    data = dataset("movielens-100k")
    counted = {name: count(f"movielens-100k/{name}", data)[0] for name in BASELINES}
    best = max(counted, key=lambda name: counted[name].means[METRIC])
    protocol = counted[best].protocol
    others = ", ".join(f"{name} {result.means[METRIC]:.4f}" for name, result in counted.items())
    record("ml100k_best_baseline_ndcg10", counted[best].means[METRIC], note=f"{best} of {others}; {protocol}")
    for system, figure in SYSTEMS.items():
        trained = train(f"movielens-100k/{system}", data)
        paired = facta.compare(trained.averaged, counted[best], METRIC)
        note = f"against {best}: {paired}; {protocol}"
        print(f"{system}: {trained.mean(METRIC):.4f}, {note}")
        record(figure, trained.mean(METRIC), raw=trained.values(METRIC), seeds=SEEDS, note=note)


if __name__ == "__main__":
    main()
