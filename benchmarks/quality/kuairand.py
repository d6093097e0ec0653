"""Feedback on KuaiRand-Pure's part (CC BY-SA 4.0): GR ranking against the DLRM and the classical rankers.

    python -m benchmarks.quality.kuairand test [SYSTEM...] [--seeds 3]    the last two days, all systems
    python -m benchmarks.quality.kuairand days [SYSTEM...]                each of the last seven days, pooled
    python -m benchmarks.quality.kuairand like                            GR and the DLRM with a third field

`test`: trained up to May 5th, 2022 (China time), epoch chosen on the 6th, tested on the 7th and 8th. `days`: trained
up to each day as long as the recipe says (no validation), tested on that day; the seven days are pooled, three seeds,
and the difference of a GR (`gr-ranking`; or `gr-interleaved`, the paper's tokens) and the DLRM has a 95 % interval over
users, the same resamples for both. `*_gain` is the end of it that is worse for GR: above 0, GR is better. The state is
frozen at midnight; `kuairand_rolling_*` are the same models told all before each event (decision 009).
`like`: as in `test`, of models that learn `like` as well; reported and never compared: 507 positives in the test days.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import committed, record
from benchmarks.runs import SEEDS, artifact, dataset, least_gain
from facta.data.split.splits import State
from facta.eval.predictions import Predictions, differences, pool
from facta.eval.protocol import ProtocolConfig

KUAIRAND = (
    *("gr_ranking", "gr_interleaved", "gr_no_rates", "gr_interactions"),
    *("dlrm", "dlrm_one_expert", "dlrm_gr_features", "dlrm_no_history", "bst", "rates"),
)

DAYS = {
    "gr": "python -m benchmarks.quality.kuairand days",
    "interleaved": "python -m benchmarks.quality.kuairand days gr-interleaved",
    "dlrm": "python -m benchmarks.quality.kuairand days",
}
"""Who is judged day by day, and by which command; gr: gr-ranking (paired tokens), interleaved: the paper's."""


def _kuairand() -> dict[str, Figure]:
    """The verdict day by day, and every system on the last two days; GR is to be better than the DLRM."""
    found = {}
    for field in ("click", "long_view"):
        for metric, sign in (("NE", "<"), ("GAUC", ">")):
            name = f"{field}_{metric.lower()}"
            for state, prefix in (("frozen at midnight", ""), ("rolling", "rolling_")):
                days = f"KuaiRand-Pure, {field}, last seven days, trained up to each, {state}"
                for side, command in DAYS.items():
                    whole = f"kuairand_{prefix}{name}_{side}"
                    found[whole] = Figure("", metric, command, f"{days}: {side}")
                    if side != "dlrm":
                        what = f"{days}: by how much {side} is better than the DLRM, the worse end of 95 %"
                        found[f"{whole}_gain"] = Figure("> 0", metric, command, what)
            for system in KUAIRAND:
                bar = f"{sign} kuairand_test_{name}_rates" if system in ("gr_ranking", "dlrm") else ""
                what = f"KuaiRand-Pure, {field}, last two days: {system.replace('_', ' ')}"
                found[f"kuairand_test_{name}_{system}"] = Figure(bar, metric, module("kuairand test"), what)
    for metric in ("NE", "GAUC"):
        for side in ("gr", "dlrm"):
            what = f"KuaiRand-Pure, like, last two days: {side.upper()} (507 likes: not to be compared)"
            found[f"kuairand_like_{metric.lower()}_{side}"] = Figure("", metric, module("kuairand like"), what)
    return found


FIGURES: dict[str, Figure] = _kuairand()

SYSTEMS = (
    *("gr-ranking", "gr-interleaved", "gr-no-rates", "gr-interactions"),
    *("dlrm", "dlrm-one-expert", "dlrm-gr-features", "dlrm-no-history", "bst", "rates"),
)
STATES: dict[State, str] = {"frozen": "", "rolling": "rolling_"}
SIDES = {"gr-ranking": "gr", "gr-interleaved": "interleaved", "dlrm": "dlrm"}
"""In the names of figures."""
FIELDS, METRICS = ("click", "long_view"), ("NE", "GAUC")
DAYS = [f"2022-05-{day:02d}T00:00:00+08:00" for day in range(2, 10)]
LAST = ["training.keep=last", "training.patience=null", "training.validate_every=99"]


def figure(field: str, metric: str, system: str) -> str:
    return f"{field}_{metric.lower()}_{system.replace('-', '_')}"


def test(system: str, seeds: Sequence[int]) -> None:
    """One system on the last two days."""
    data = dataset("kuairand-pure")
    found = [facta.predict(artifact(f"kuairand-pure/{system}", data, [], seed), data) for seed in seeds]
    for one in found:
        print(system, one, flush=True)
    for field in FIELDS:
        for metric in METRICS:
            values = [one.means[f"{metric}({field})"] for one in found]
            note = f"{found[0].protocol}; {_others(found, field)}"
            name = f"kuairand_test_{figure(field, metric, system)}"
            record(name, float(np.mean(values)), raw=values, seeds=seeds, note=note)


def _others(found: Sequence[Predictions], field: str) -> str:
    """Everything else that was measured, means over seeds."""
    names = [name for name in found[0].means if f"({field})" in name]
    return ", ".join(f"{name} {np.mean([one.means[name] for one in found]):.4f}" for name in names)


def by_day(system: str, seed: int, state: State) -> Predictions:
    """What models trained up to each of the seven days say of that day, pooled; it decides nothing of the training."""
    data, parts = dataset("kuairand-pure"), []
    for day, end in pairwise(DAYS):
        cuts = [f"protocol.train_end={day}", f"protocol.validation_end={end}"]
        trained = artifact(f"kuairand-pure/{system}", data, [*cuts, *LAST], seed)
        protocol = ProtocolConfig.parse(trained.config["protocol"]).change(state=state)
        parts.append(facta.predict(trained, data, protocol, stage="validation"))
    return pool(parts, f"feedback/day by day, 2022-05-02 to 2022-05-08, trained up to each day/state={state}")


def days(system: str, seeds: Sequence[int], state: State) -> None:
    """The verdict on one GR."""
    ours, theirs = ([by_day(one, seed, state) for seed in seeds] for one in (system, "dlrm"))
    for field in FIELDS:
        apart = differences(ours, theirs, field)
        for metric in METRICS:
            by, interval = apart[metric]
            low, high = interval
            said = f"GR minus DLRM {by:+.4f} [{low:+.4f}, {high:+.4f}]"
            note = f"{ours[0].protocol}; {len(ours[0].user):,} impressions; {said}"
            for side, runs in ((SIDES[system], ours), ("dlrm", theirs)):
                values = [one.means[f"{metric}({field})"] for one in runs]
                name = f"kuairand_{STATES[state]}{figure(field, metric, side)}"
                record(name, float(np.mean(values)), raw=values, seeds=seeds, note=f"{note}; {_others(runs, field)}")
            name = f"kuairand_{STATES[state]}{figure(field, metric, SIDES[system])}_gain"
            record(name, least_gain(metric, interval), seeds=seeds, note=note)


def like(seeds: Sequence[int]) -> None:
    """A third field, too rare to compare."""
    data, change = dataset("kuairand-pure"), f"model.feedback.fields={json.dumps([*FIELDS, 'like'])}"
    for system in ("gr-ranking", "dlrm"):
        found = [facta.predict(artifact(f"kuairand-pure/{system}", data, [change], seed), data) for seed in seeds]
        for metric in METRICS:
            values = [one.means[f"{metric}(like)"] for one in found]
            low, high = found[0].intervals[f"{metric}(like)"]
            others = "; ".join(_others(found, field) for field in (*FIELDS, "like"))
            note = f"{found[0].protocol}; seed {seeds[0]} [{low:.4f}, {high:.4f}]; {others}"
            name = f"kuairand_{figure('like', metric, SIDES[system])}"
            record(name, float(np.mean(values)), raw=values, seeds=seeds, note=note)


def main() -> None:
    parser = argparse.ArgumentParser(description="Feedback on KuaiRand-Pure.")
    parser.add_argument("what", choices=("test", "days", "like"))
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"of {', '.join(SYSTEMS)}; default: all")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    given = parser.parse_args()
    unknown = set(given.systems) - set(SYSTEMS)
    if unknown:
        parser.error(f"found {', '.join(sorted(unknown))}; expected of {', '.join(SYSTEMS)}")
    committed()
    if given.what == "days":
        for state in STATES:
            for system in given.systems or ["gr-ranking"]:
                days(system, SEEDS[: given.seeds], state)
        return
    if given.what == "like":
        like(SEEDS[: given.seeds])
        return
    for system in given.systems or SYSTEMS:
        test(system, SEEDS[: given.seeds])


if __name__ == "__main__":
    main()
