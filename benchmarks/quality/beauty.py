"""Amazon Beauty in the S3-Rec cut: SASRec with a sampled softmax at two widths, HSTU without time bias, pairwise rules.

    python -m benchmarks.quality.beauty [rules|sasrec-ss|sasrec-ss-refit|hstu]

`rules` is measured without refit and with it, in minutes. Of the trained systems three seeds each; the width of the bar
is the one with the higher mean NDCG@10 on validation. Hours on two cores; killed and started again
with the same code it goes on.
"""

from __future__ import annotations

import argparse

import torch

import facta
from benchmarks.figure import Figure, module, pair
from benchmarks.record import committed, record
from benchmarks.runs import SEEDS, Seeds, chosen_by, dataset, record_counted, train

FIGURES: dict[str, Figure] = {
    "beauty_sasrec_ss_hr10": Figure(
        ">= 0.0921", "HR@10", module("beauty"), "Amazon Beauty (S3-Rec cut): SASRec, sampled softmax"
    ),
    "beauty_sasrec_ss_ndcg10": Figure(">= 0.0531", "NDCG@10", module("beauty"), "the same runs"),
    **{
        f"beauty_sasrec_ss_width{width}_{name}": Figure("", unit, module("beauty"), f"the same at width {width}")
        for width in (64, 256)
        for name, unit in (("hr10", "HR@10"), ("ndcg10", "NDCG@10"), ("seconds_per_epoch", "s"))
    },
    "beauty_hstu_hr10": Figure("", "HR@10", module("beauty"), "Amazon Beauty: HSTU without time bias"),
    "beauty_hstu_ndcg10": Figure("", "NDCG@10", module("beauty"), "the same runs"),
    **pair("beauty_rules", ">= 0.054", "beauty rules", "Amazon Beauty: pairwise rules, untrained"),
    **pair("beauty_rules_refit", ">= 0.062", "beauty rules", "Amazon Beauty, refit: pairwise rules, untrained"),
    **pair("beauty_sasrec_ss_refit", "", "beauty sasrec-ss-refit", "Amazon Beauty, refit: SASRec, sampled softmax"),
}

WIDTHS = (64, 256)
REFIT = ["protocol.refit=yes"]


def keep(figure: str, runs: Seeds, metric: str, note: str) -> None:
    record(figure, runs.mean(metric), raw=runs.values(metric), seeds=SEEDS, note=note)


def validated(runs: Seeds) -> float:
    """Mean NDCG@10 on validation."""
    return sum(result.means["NDCG@10"] for result in runs.validation) / len(runs.validation)


def sasrec_ss(data: facta.Dataset) -> None:
    widths = {width: train("amazon-beauty/sasrec-ss", data, [f"model.width={width}"]) for width in WIDTHS}
    best = max(WIDTHS, key=lambda width: validated(widths[width]))
    protocol = widths[best].test[0].protocol
    for width, runs in widths.items():
        note = f"{protocol}; NDCG@10 on validation {validated(runs):.4f}"
        for metric in ("HR@10", "NDCG@10"):
            short = metric.replace("@", "").lower()
            keep(f"beauty_sasrec_ss_width{width}_{short}", runs, metric, note)
            if width == best:
                keep(f"beauty_sasrec_ss_{short}", runs, metric, f"width {width}, chosen on validation; {note}")
        seconds = runs.seconds_per_epoch
        figure = f"beauty_sasrec_ss_width{width}_seconds_per_epoch"
        threads = f"training steps alone, {torch.get_num_threads()} threads"
        record(figure, sum(seconds) / len(seconds), raw=seconds, seeds=SEEDS, note=threads)


def hstu(data: facta.Dataset) -> None:
    runs = train("amazon-beauty/hstu", data)
    for metric in ("HR@10", "NDCG@10"):
        note = f"position bias only; {runs.test[0].protocol}; NDCG@10 on validation {validated(runs):.4f}"
        keep(f"beauty_hstu_{metric.replace('@', '').lower()}", runs, metric, note)


def rules(data: facta.Dataset) -> None:
    record_counted("beauty_rules", "amazon-beauty/rules", data, "no")
    record_counted("beauty_rules_refit", "amazon-beauty/rules", data, "yes")


def sasrec_ss_refit(data: facta.Dataset) -> None:
    """The recipe, whose width was chosen on validation as above, then trained again on all but the last event."""
    runs = train("amazon-beauty/sasrec-ss", data, REFIT)
    reached = sum(map(chosen_by, runs.artifacts)) / len(SEEDS)
    said = f"width 64, chosen by `sasrec-ss`; {runs.test[0].protocol}; NDCG@10 on validation {reached:.4f}"
    for metric in ("HR@10", "NDCG@10"):
        keep(f"beauty_sasrec_ss_refit_{metric.replace('@', '').lower()}", runs, metric, said)


def main() -> None:
    arms = {"rules": rules, "sasrec-ss": sasrec_ss, "sasrec-ss-refit": sasrec_ss_refit, "hstu": hstu}
    parser = argparse.ArgumentParser(description="Quality on Amazon Beauty.")
    parser.add_argument("arm", nargs="?", choices=arms, help="default: all")
    given = parser.parse_args().arm
    committed()
    data = dataset("amazon-beauty")
    for arm in [given] if given else arms:
        arms[arm](data)


if __name__ == "__main__":
    main()
