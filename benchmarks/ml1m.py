"""MovieLens 1M, leave-one-out in a stable order: HSTU, HSTU-large and SASRec under both protocols, and HSTU's biases.

    python -m benchmarks.ml1m [ARM...] [--protocol loo-val|loo-paper] [--seeds 1]

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

import facta
from benchmarks.figures import RECONSTRUCTED, committed, record, timed
from benchmarks.runs import SEEDS, Seeds, dataset, record_counted, train
from facta.eval.protocol import ProtocolConfig
from facta.eval.result import average

ARMS: dict[str, list[str]] = {
    "hstu": ["hstu"],
    "hstu-large": ["hstu-large"],
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
