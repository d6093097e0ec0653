"""The figures of feedback: the synthetic task, KuaiRand-Pure, and the simulated service."""

from __future__ import annotations

from itertools import pairwise

from benchmarks.figure import Figure, module

SYNTHETIC = ("hstu", "hstu_softmax", "transformer")
"""The arms of benchmarks.synthetic, in the order that Zhai et al. (2024, table 2) found, the best first."""


def _synthetic() -> dict[str, Figure]:
    """Hit rates of every arm; the bars are the published order."""
    behind = dict(pairwise(SYNTHETIC))
    return {
        f"synthetic_{arm}_hr{k}_of_oracle": Figure(
            f"> synthetic_{behind[arm]}_hr{k}_of_oracle" if arm in behind else "",
            "",
            module(f"synthetic {arm.replace('_', '-')}"),
            f"synthetic streaming task: {arm.replace('_', ' ')}, HR@{k} over the Bayes oracle's",
        )
        for arm in SYNTHETIC
        for k in (10, 50)
    }


KUAIRAND = (
    *("gr_ranking", "gr_interleaved", "gr_no_rates", "gr_interactions"),
    *("dlrm", "dlrm_one_expert", "dlrm_gr_features", "dlrm_no_history", "bst", "rates"),
)


DAYS = {
    "gr": "python -m benchmarks.kuairand days",
    "interleaved": "python -m benchmarks.kuairand days gr-interleaved",
    "dlrm": "python -m benchmarks.kuairand days",
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


SIMULATED = {
    "simulate_events_per_second": Figure(
        ">= 50000", "events/s", module("floors"), "`facta data simulate`, a million events, written as Parquet"
    ),
    "simulator_floor_ne_least": Figure(
        ">= 0.8", "NE", module("floors"), "the simulated service: NE of the best prediction, the lower of both fields"
    ),
    "simulator_floor_ne_most": Figure("<= 0.9", "NE", module("floors"), "the same, the higher one"),
    "simulator_without_history_way_up": Figure(
        ">= 0.4", "", module("floors"), "how far from the floor to the base rate one stays who knows no history"
    ),
    "simulator_item_floor_nats": Figure("", "nats", module("floors"), "loss of the floor on the next item chosen"),
    "simulator_item_oracle_nats": Figure("", "nats", module("floors"), "the same of one who knows the taste"),
}


def _long() -> dict[str, Figure]:
    """GR against the DLRM on the simulated service, where histories are long."""
    found, command = {}, module("long_histories")
    for metric in ("NE", "GAUC"):
        name, what = f"simulator_long_{metric.lower()}", f"simulator, 1,600 events a user, mean {metric} of both fields"
        found |= {f"{name}_{side}": Figure("", metric, command, f"{what}: {side}") for side in ("gr", "dlrm")}
        better = f"{what}: by how much GR is better, the worse end of 95 % of the worse field"
        found[f"{name}_gain"] = Figure("> 0", metric, command, better)
    return found


READERS = {
    "din": "DIN over 50 events",
    "sim": "SIM, same category among 1,000 events",
    "sim_soft": "SIM, soft search",
    "twin": "TWIN, 100 of 1,000 events",
    "transact": "TransAct over 50 events",
    "gr": "GR over 1,408 events",
    "fuxi_linear": "the same with FuXi-Linear",
}
"""The arms of benchmarks.long_readers."""


def _readers() -> dict[str, Figure]:
    """What reads long histories, and what it costs."""
    said = {
        "ne": ("NE", "mean NE of both fields"),
        "gauc": ("GAUC", "mean GAUC of both fields"),
        "mflop": ("MFLOP", "one prediction, nothing kept"),
        "seconds": ("s", "training"),
    }
    return {
        f"simulator_readers_{name}_{system}": Figure(
            "", unit, module(f"long_readers {system}"), f"simulator, 1,600 events a user, {what}: {reader}"
        )
        for system, reader in READERS.items()
        for name, (unit, what) in said.items()
    }


FEEDBACK: dict[str, Figure] = {**_kuairand(), **_long(), **_readers(), **SIMULATED, **_synthetic()}
