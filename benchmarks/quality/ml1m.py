"""MovieLens 1M, leave-one-out in a stable order: HSTU, HSTU-large and SASRec under both protocols, and HSTU's biases.

    python -m benchmarks.quality.ml1m [ARM...] [--protocol loo-val|loo-paper] [--seeds 1]

`rules` are the pairwise rules, `ease` is EASE and `bpr-mf` BPR-MF, without refit and with it, in minutes; `hstu-refit`
is HSTU chosen on n-1 and then trained again on all but the last event. All of these are of `loo-val` alone. Three seeds
of every trained arm. `loo-val` trains on targets up to n-2, chooses the epoch on n-1 and tests on n; `loo-paper` trains
up to n-1 for 101 epochs and takes the last, whatever the test says. The 3,706 rated films are ranked and the whole
history is masked; each note has the numbers with the window masked (200) and with all titles ranked beside it. A seed
takes about 8 minutes of one core for HSTU, 9 for sasrec-ss, 25 for HSTU-large and 45 for sasrec-ce; killed and started
again with the same code it goes on.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any

import facta
from benchmarks.figure import Figure, module, pair
from benchmarks.record import committed, record, seeds_of, spreads
from benchmarks.runs import SEEDS, Seeds, dataset, record_counted, train
from facta.eval.protocol import ProtocolConfig
from facta.eval.result import average

ML1M = {
    "hstu": "HSTU .3097 / .1720; RecTools .3227 / .1879",
    "hstu_large": "HSTU .3294 / .1893; RecTools .3642 / .2164",
    "hstu_mol": "",
    "hstu_large_mol": "RAILS .3412 / .1979, notes of two runs .3460 / .2010",
    "sasrec_ss": "HSTU's SASRec .2853 / .1603",
    "sasrec_ce": "",
    "hstu_bias_none": "RecTools .2980 / .1686",
    "hstu_bias_position": "RecTools .3023 / .1718",
    "hstu_bias_time": "RecTools .3205 / .1865",
}
"""The arms of `ml1m.py`, and what others have published for them under a stable order."""

RECONSTRUCTED = "17.7 % of timestamps reconstructed"

NOTED = {"mask 200": "window(200) masked", "all titles": "all titles ranked"}
"""What stands in a note of ML-1M beside the number itself, by its column."""

LEGEND = f"""\\* This model uses time: {RECONSTRUCTED}, which are those that the file in use has put together
again. *mask 200*: the 200 newest events of a history are left out of the ranking, not all of them. *all titles*: 3,883
titles are ranked, not the 3,706 that somebody rated. Published numbers are of `loo-val`, in a stable order."""


def timed(arm: str) -> bool:
    """Whether an arm of benchmarks.quality.ml1m uses time."""
    return arm.startswith("hstu") and not arm.endswith(("none", "position"))


def _ml1m() -> dict[str, Figure]:
    """Both metrics of every arm under both protocols; bars stand on loo-val."""
    bars: dict[str, tuple[float, float | None]] = {
        "hstu": (0.3097, 0.1720),
        "hstu_large": (0.3294, 0.1893),
        "sasrec_ss": (0.2853, 0.1603),
    }
    bars |= {"hstu_mol": (0.32, None), "hstu_large_mol": (0.346, 0.201)}
    return {
        f"ml1m_{arm}{middle}_{metric.replace('@', '').lower()}": Figure(
            f">= {bars[arm][place]}" if arm in bars and bars[arm][place] and not middle else "",
            metric,
            module("ml1m"),
            f"ML-1M, {protocol}: {arm.replace('_', ' ')}{', ' + RECONSTRUCTED if timed(arm) else ''}",
        )
        for arm in ML1M
        for middle, protocol in (("", "loo-val"), ("_paper", "loo-paper"))
        for place, metric in enumerate(("HR@10", "NDCG@10"))
    }


def ml1m_table(lines: Mapping[str, Mapping[str, Any]]) -> str:
    """HR@10 / NDCG@10 on MovieLens 1M: a protocol of an arm a row, and the variants that its note tells."""
    head = ["ML-1M", "protocol", "HR@10 / NDCG@10, mean ± deviation over seeds", *NOTED, "published", "time"]
    rows = [head, ["---"] * len(head)]
    for arm, published in ML1M.items():
        for middle, protocol in (("", "loo-val"), ("_paper", "loo-paper")):
            found = [lines.get(f"ml1m_{arm}{middle}_{metric}") for metric in ("hr10", "ndcg10")]
            said = ", ".join(dict.fromkeys(seeds_of(one).removeprefix("mean of ") for one in found if one))
            means = " / ".join(map(_ml1m_value, found)) + (f" ({said})" if said else "")
            others = [_variant(found[0], name) for name in NOTED.values()]
            name = arm.replace("_", " ") + (" \\*" if timed(arm) else "")
            time = RECONSTRUCTED if timed(arm) else "not used"
            rows.append([name, protocol, means, *others, "" if middle else published, time])
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", LEGEND])


def _variant(line: Mapping[str, Any] | None, name: str) -> str:
    """HR@10 / NDCG@10 of a variant, as the note of a line tells them."""
    told = re.search(rf"{re.escape(name)} (\d\.\d+ / \d\.\d+)", "" if line is None else line.get("note", ""))
    return "–" if told is None else told[1]


def _ml1m_value(line: Mapping[str, Any] | None) -> str:
    if line is None:
        return "–"
    return f"{line['value']:.4f}" + (f" ± {line['spread']:.4f}" if spreads(line) else "")


FIGURES: dict[str, Figure] = {
    **pair("ml1m_rules", "", "ml1m rules", "ML-1M, loo-val: pairwise rules, untrained"),
    **pair("ml1m_rules_refit", "", "ml1m rules", "ML-1M, loo-val, refit: pairwise rules, untrained"),
    **pair("ml1m_ease", "", "ml1m ease", "ML-1M, loo-val: EASE"),
    **pair("ml1m_ease_refit", "", "ml1m ease", "ML-1M, loo-val, refit: EASE"),
    **pair("ml1m_bprmf", "", "ml1m bpr-mf", "ML-1M, loo-val: BPR-MF"),
    **pair("ml1m_bprmf_refit", "", "ml1m bpr-mf", "ML-1M, loo-val, refit: BPR-MF"),
    **pair("ml1m_hstu_refit", "", "ml1m hstu-refit", f"ML-1M, loo-val, refit: HSTU, {RECONSTRUCTED}"),
    **_ml1m(),
}


ARMS: dict[str, list[str]] = {
    "hstu": ["hstu"],
    "hstu-large": ["hstu-large"],
    "hstu-mol": ["hstu-mol"],
    "hstu-large-mol": ["hstu-large-mol"],
    "sasrec-ss": ["sasrec-ss"],
    "sasrec-ce": ["sasrec-ce"],
    "hstu-bias-none": ["hstu", "model.encoder.bias=none"],
    "hstu-bias-position": ["hstu", "model.encoder.bias=position"],
    "hstu-bias-time": ["hstu", "model.encoder.bias=time"],
}
PROTOCOLS = {"loo-val": [], "loo-paper": ["protocol.split=loo-paper", "training.patience=null"]}
COUNTED = ("rules", "ease", "bpr-mf")
KS = (1, 5, 10, 20, 50, 200)
VARIANTS = {"window(200) masked": {"mask": "window(200)"}, "all titles ranked": {"rank": "all"}}


def arm(name: str, protocol: str, seeds: tuple[int, ...] = SEEDS) -> Seeds:
    """The trained seeds of one arm."""
    recipe, *changes = ARMS[name]
    return train(f"movielens-1m/{recipe}", dataset("movielens-1m"), [*changes, *PROTOCOLS[protocol]], seeds, ks=KS)


def variant(runs: Seeds, protocol: str, changes: dict[str, str]) -> str:
    """HR@10 and NDCG@10 of the same runs under another mask or catalogue."""
    data, other = dataset("movielens-1m"), ProtocolConfig(split=protocol).change(**changes)  # type: ignore[arg-type]
    found = average([facta.evaluate(artifact, data, other) for artifact in runs.artifacts]).means
    return f"{found['HR@10']:.4f} / {found['NDCG@10']:.4f}"


def note(name: str, protocol: str, runs: Seeds) -> str:
    """What a reader must know beside the number."""
    said = [runs.test[0].protocol]
    if timed(name):
        said.append(RECONSTRUCTED)
    said += [f"{what} {variant(runs, protocol, changes)}" for what, changes in VARIANTS.items()]
    said += [f"{metric}@{k} {runs.mean(f'{metric}@{k}'):.4f}" for metric in ("HR", "NDCG") for k in (50, 200)]
    said.append(f"epochs run {', '.join(map(str, runs.epochs))}")
    return "; ".join(said)


def counted(name: str) -> None:
    figure = f"ml1m_{name.replace('-', '')}"
    record_counted(figure, f"movielens-1m/{name}", dataset("movielens-1m"), "no")
    record_counted(f"{figure}_refit", f"movielens-1m/{name}", dataset("movielens-1m"), "yes")


def hstu_refit(seeds: tuple[int, ...]) -> None:
    runs = train("movielens-1m/hstu", dataset("movielens-1m"), ["protocol.refit=yes"], seeds)
    said = f"{runs.test[0].protocol}; {RECONSTRUCTED}; epochs of the first training {', '.join(map(str, runs.epochs))}"
    for metric in ("HR@10", "NDCG@10"):
        figure = f"ml1m_hstu_refit_{metric.replace('@', '').lower()}"
        record(figure, runs.mean(metric), raw=runs.values(metric), seeds=seeds, note=said)


def main() -> None:
    parser = argparse.ArgumentParser(description="Quality on MovieLens 1M.")
    arms = [*COUNTED, *ARMS, "hstu-refit"]
    parser.add_argument("arms", nargs="*", metavar="ARM", help=f"of {', '.join(arms)}; default: all")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="default: both")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    given = parser.parse_args()
    unknown = set(given.arms) - set(arms)
    if unknown:
        parser.error(f"found {', '.join(sorted(unknown))}; expected of {', '.join(arms)}")
    committed()
    asked = given.arms or arms
    for name in (name for name in asked if name in COUNTED):
        counted(name)
    if "hstu-refit" in asked:
        hstu_refit(SEEDS[: given.seeds])
    for name in (name for name in asked if name in ARMS):
        for protocol in [given.protocol] if given.protocol else PROTOCOLS:
            seeds = SEEDS[: given.seeds]
            runs = arm(name, protocol, seeds)
            said = note(name, protocol, runs)
            middle = "" if protocol == "loo-val" else "_paper"
            for metric in ("HR@10", "NDCG@10"):
                figure = f"ml1m_{name.replace('-', '_')}{middle}_{metric.replace('@', '').lower()}"
                record(figure, runs.mean(metric), raw=runs.values(metric), seeds=seeds, note=said)


if __name__ == "__main__":
    main()
