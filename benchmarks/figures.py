"""Every published figure of facta: its bar, the command that measures it, and the record of its measurements.

A measuring command calls `record`, which appends one JSON line to `figures.jsonl` and renews the table of
docs/results.md: never written by hand, never from a tree that holds more than its commit. `make figures` prints the
latest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.feedback_figures import FEEDBACK
from benchmarks.figure import Figure, module
from benchmarks.retrieval_figures import RETRIEVAL
from benchmarks.rules_figures import RULES

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "benchmarks" / "figures.jsonl"
RESULTS = ROOT / "docs" / "results.md"
WRITTEN = ("benchmarks/figures.jsonl", "docs/results.md")  # by `record` itself, between two measurements
BEGIN, END = "<!-- figures: written by `make figures ARGS=--write` -->", "<!-- end of figures -->"


ML1M = {
    "hstu": "HSTU .3097 / .1720; RecTools .3227 / .1879",
    "hstu_large": "HSTU .3294 / .1893; RecTools .3642 / .2164",
    "sasrec_ss": "HSTU's SASRec .2853 / .1603",
    "sasrec_ce": "",
    "hstu_bias_none": "RecTools .2980 / .1686",
    "hstu_bias_position": "RecTools .3023 / .1718",
    "hstu_bias_time": "RecTools .3205 / .1865",
}
"""The arms of benchmarks.ml1m, and what others have published for them under a stable order."""
RECONSTRUCTED = "17.7 % of timestamps reconstructed"
VARIANTS = {"mask 200": "window(200) masked", "all titles": "all titles ranked"}
"""What stands in a note of ML-1M beside the number itself, by its column."""
LEGEND = f"""\\* This model uses time: {RECONSTRUCTED}, which are those that the file in use has put together
again. *mask 200*: the 200 newest events of a history are left out of the ranking, not all of them. *all titles*: 3,883
titles are ranked, not the 3,706 that somebody rated. Published numbers are of `loo-val`, in a stable order."""


def timed(arm: str) -> bool:
    """Whether an arm of benchmarks.ml1m uses time."""
    return arm.startswith("hstu") and not arm.endswith(("none", "position"))


def _ml1m() -> dict[str, Figure]:
    """Both metrics of every arm under both protocols; bars stand on loo-val."""
    bars = {"hstu": (0.3097, 0.1720), "hstu_large": (0.3294, 0.1893), "sasrec_ss": (0.2853, 0.1603)}
    return {
        f"ml1m_{arm}{middle}_{metric.replace('@', '').lower()}": Figure(
            f">= {bars[arm][place]}" if arm in bars and not middle else "",
            metric,
            module("ml1m"),
            f"ML-1M, {protocol}: {arm.replace('_', ' ')}{', ' + RECONSTRUCTED if timed(arm) else ''}",
        )
        for arm in ML1M
        for middle, protocol in (("", "loo-val"), ("_paper", "loo-paper"))
        for place, metric in enumerate(("HR@10", "NDCG@10"))
    }


def _best() -> dict[str, Figure]:
    """A trained model with rules as its prior, and how far it lies above the rules alone, at the worse end of 95 %."""
    found = {}
    for name, what in (("beauty", "Amazon Beauty, SASRec"), ("ml1m", f"ML-1M, HSTU, {RECONSTRUCTED},")):
        for middle, protocol in (("", "refit=no"), ("_refit", "refit=yes")):
            said = f"{what} with rules as its prior, {protocol}"
            for metric in ("HR@10", "NDCG@10"):
                short = metric.replace("@", "").lower()
                found[f"{name}_best{middle}_{short}"] = Figure("", metric, module("best"), said)
            less = f"{said}: minus the rules alone, worse end of 95 %"
            found[f"{name}_best_minus_rules{middle}_ndcg10"] = Figure("> 0", "NDCG@10", module("best"), less)
    return found


FIGURES: dict[str, Figure] = {
    "quickstart_seconds": Figure("<= 600", "s", module("quickstart"), "clean clone to finished `make quickstart`"),
    "test_seconds": Figure("<= 600", "s", module("quickstart"), "`make test` after set-up"),
    "ml100k_hstu_ndcg10": Figure(
        "> ml100k_best_baseline_ndcg10", "NDCG@10", module("ml100k"), "ML-100K, leave-one-out: HSTU"
    ),
    "ml100k_sasrec_ss_ndcg10": Figure(
        "> ml100k_best_baseline_ndcg10", "NDCG@10", module("ml100k"), "ML-100K: SASRec, sampled softmax"
    ),
    "ml100k_best_baseline_ndcg10": Figure("", "NDCG@10", module("ml100k"), "ML-100K: the best tuned baseline"),
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
    **RULES,
    **RETRIEVAL,
    **_best(),
    "prepare_10m_vs_polars": Figure(
        "<= 1.3", "x", module("prepare"), "preparing 10 million events, our time over bare polars'"
    ),
    "prepare_10m_bytes_per_event": Figure("<= 100", "B", module("prepare"), "peak memory of the same"),
    "evaluate_vs_gemm": Figure(
        ">= 0.5", "x", module("evaluate"), "bare product's time over ranking's, 100,000 users x 100,000 items"
    ),
    "recommend_all_vs_encode": Figure(
        ">= 0.5", "x", module("lists"), "encoding alone over the 100 best items of all 6,040 users of ML-1M, to Parquet"
    ),
    "history_of_1m_users_ms": Figure(
        "<= 1", "ms", module("lists"), "one user's history from a log of 1,000,000 users and 10,000,000 events"
    ),
    "logq_bias_negatives": Figure(
        "<= 0.02", "", module("logq"), "logQ on the negatives: largest relative bias of the mean gradient, 5,000 items"
    ),
    "logq_bias_all": Figure("", "", module("logq"), "the same, the positive corrected as well (Yi et al. 2019)"),
    "attention_forward_vs_gemm": Figure(
        ">= 0.65", "x", module("attention"), "HSTU attention, N 8192, with bias: rate over the best matrix product's"
    ),
    "attention_forward_vs_peak": Figure(
        "", "", module("attention"), "the same: rate over the processor's peak of fused multiply-adds"
    ),
    "peak_fma_one": Figure("", "GFLOP/s", module("peak"), "peak of fused multiply-adds, one thread"),
    "peak_fma_all": Figure("", "GFLOP/s", module("peak"), "the same, all threads"),
    "attention_fwdbwd_vs_sdpa": Figure(
        ">= 1", "x", module("attention"), "the same forward and backward: time of causal SDPA without bias over ours"
    ),
    "train_step_vs_eager": Figure(
        ">= 28", "x", module("epoch eager"), "HSTU's ML-1M step: time of the published, eager step over ours"
    ),
    "train_step_vs_eager_kept": Figure(
        "", "x", module("epoch eager"), "the same, the eager step's memory kept between steps as our trainer keeps it"
    ),
    "train_epoch_vs_rectools": Figure(
        ">= 16", "x", module("epoch rectools"), "HSTU's ML-1M epoch: time of RecTools' HSTUModel over ours"
    ),
    **{
        f"block_step_{size}_vs_transformer": Figure(
            bar, "x", module("block"), f"one layer's step, D 512, N {length}: time of a Transformer block over ours"
        )
        for size, length, bar in (("1k", 1024, ">= 1.7"), ("8k", 8192, ">= 1.25"))
    },
    "block_step_8k_vs_peak": Figure(
        "", "", module("block"), "the step of N 8192: rate over the processor's peak of fused multiply-adds"
    ),
    "block_memory_vs_transformer": Figure(
        "<= 0.5", "x", module("block"), "bytes kept for the backward, ours over the Transformer block's"
    ),
    "sl_step_vs_transformer": Figure(
        ">= 15",
        "x",
        module("stochastic_length"),
        "Stochastic Length, α 1.6, N 8192, forward and backward: time of a Transformer block on full rows over ours",
    ),
    "sl_time_vs_flops": Figure(
        "<= 0.15", "", module("stochastic_length"), "the same, α 1.6 … 2: how far time is from the FLOP model at most"
    ),
    "sl_ne_loss": Figure(
        "<= 0.003",
        "NE",
        module("shortened"),
        "Stochastic Length, α 1.63, simulator, 1,000 events a user: NE shortened minus whole, upper end of 95 %",
    ),
    "softmax_1m_peak_gib": Figure(
        "< 3", "GiB", module("catalogue"), "peak memory of a step over 1,000,000 items, largest of those noted"
    ),
    "token_cost_batch": Figure(
        "<= 1.1", "x", module("lengths"), "time a token in rows of 1,024: 128 of them over 2 of them"
    ),
    "token_cost_longest_row": Figure(
        "<= 1.1", "x", module("lengths"), "time of 64 rows of 256 beside one of 8,192, over both alone"
    ),
    "token_cost_long_window": Figure(
        "<= 1.1", "x", module("lengths"), "time a token in 256 rows of 256: window of 16,384 over one of 256"
    ),
    "token_memory_growth": Figure("<= 1.1", "x", module("lengths"), "peak bytes a token: 131,072 tokens over 16,384"),
    "generative_cost_slope_flops": Figure(
        ">= 0.8", "", module("generative"), "cost per event seen, impressions over users, log-log slope in N: FLOPs"
    ),
    "generative_cost_slope_seconds": Figure(
        ">= 0.8", "", module("generative"), "the same in seconds of training steps, N 16 … 128"
    ),
    "generative_ne_apart": Figure(
        "", "NE", module("generative"), "impression-level against generative training at equal events seen"
    ),
    **{
        f"simulator_feedback_gap_{size}": Figure(
            bar,
            "",
            module(f"simulator --events {size}"),
            f"simulator, {events} events: the way to the floor that NE has left",
        )
        for size, events, bar in (("1m", "1 million", "<= 0.15"), ("10m", "10 million", "<= 0.1"))
    },
    **{
        f"simulator_{name}_ne": Figure(
            bar, "NE", module("simulator --events 1m"), f"simulator, 1 million events, mean of both tasks: {what}"
        )
        for name, bar, what in (
            ("gr_ranking", "<= simulator_gr_fused_ne", "an action's token shows its item too"),
            ("gr_interleaved", "<= simulator_gr_fused_ne", "interleaved, an action's token shows the action alone"),
            ("gr_fused", "< simulator_gr_unconditioned_ne", "fused"),
            ("gr_unconditioned", "", "fused, the item hidden from the head"),
            ("dlrm", "", "DIN, DCN-v2 and MMoE over all features"),
            ("rates", "", "logistic regression on rates"),
        )
    },
    "late_feedback_ne_cart": Figure(
        ">= 0.98",
        "NE",
        module("late_feedback"),
        "own-log/gr-ranking, a log whose carts are coins and whose purchases tell them 70 minutes later; right is 1",
    ),
    "stream_10m_peak_gib": Figure(
        "", "GiB", module("stream"), "one pass over 10 million simulated events, interrupted and resumed: peak memory"
    ),
    **{
        f"exposure_spearman_{name}": Figure(
            bar, "", module("exposure"), f"simulator, a list of next clicked items: its correlation with {what}"
        )
        for name, bar, what in (
            ("product", "> exposure_spearman_exposure", "exposure x liking"),
            ("exposure", "> exposure_spearman_liking", "exposure alone"),
            ("liking", "", "liking alone"),
        )
    },
    **FEEDBACK,
    **_ml1m(),
    "ml1m_loss_curve_apart": Figure(
        "<= 1e-05", "", module("curve"), "ML-1M, HSTU: loss by kernels against the reference's, first 50 steps"
    ),
    "broken_inputs_handled": Figure(
        ">= 40", "cases", module("broken_inputs"), "bad input that gives a sentence or a stated repair, and no debris"
    ),
}


def record(
    name: str,
    value: float,
    *,
    raw: Sequence[float] = (),
    spread: float | None = None,
    seeds: Sequence[int] = (),
    note: str = "",
    log: Path = LOG,
) -> dict[str, Any]:
    """Append a measurement of `name` to the log and return its line; `raw` holds every single value behind `value`.

    `spread` defaults to the sample standard deviation of `raw`. Unit, bar and command come from `FIGURES`.
    Raises RuntimeError on a dirty tree and KeyError for a figure that FIGURES does not list.
    """
    if name not in FIGURES:
        raise KeyError(f"No figure '{name}'; add it to FIGURES in benchmarks/figures.py beside {', '.join(FIGURES)}.")
    figure = FIGURES[name]
    values = [float(v) for v in raw] or [float(value)]
    line = {
        "name": name,
        "value": float(value),
        "spread": _deviation(values) if spread is None else float(spread),
        "raw": values,
        "unit": figure.unit,
        "bar": figure.bar,
        "command": figure.command,
        "seeds": list(seeds),
        "note": note,
        "hardware": hardware(),
        "versions": versions(),
        "commit": committed(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with log.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
    if log == LOG:
        write(tables(latest()))
    return line


def committed(root: Path = ROOT) -> str:
    """The commit that is being measured; RuntimeError when the tree holds anything else but new lines of the record.

    Long measurements call this first, so that a refusal comes before the work.
    """
    changes = _git(root, "status", "--porcelain", "--", ".", *(f":!{path}" for path in WRITTEN))
    if changes:
        raise RuntimeError(f"The tree has uncommitted changes, commit them before measuring:\n{changes}")
    return _git(root, "rev-parse", "HEAD")


def code(root: Path = ROOT) -> str:
    """Git's hash of the tree src/ in the measured commit, and of nothing else: what was trained with it may be used
    while src/ stays, also after benchmarks/, docs/ or the versions of other packages have changed.
    """
    committed(root)
    return _git(root, "rev-parse", "HEAD:src")


def _git(root: Path, *arguments: str) -> str:
    run = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"Figures are recorded for a commit, but git said: {run.stderr.strip()}")
    return run.stdout.strip()


def hardware() -> dict[str, Any]:
    """Processor with family, model and vector width, cores that this process may use, memory, and the accelerator if
    there is one. Cloud machines often hide the generation in the name; family and model tell it."""
    described: dict[str, Any] = {"cpu": _cpu(), **_generation(), "cores": len(os.sched_getaffinity(0))}
    described["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    import torch

    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
    return described


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _generation() -> dict[str, Any]:
    """Family, model and the widest vectors of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    found: dict[str, Any] = {
        name: int(told[key])
        for name, key in (("family", "cpu family"), ("model", "model"))
        if told.get(key, "").isdigit()
    }
    flags = told.get("flags", told.get("Features", "")).split()
    widths = {"avx512f": "AVX-512, 512 bits", "avx2": "AVX2, 256 bits", "asimd": "NEON, 128 bits"}
    vectors = [name for flag, name in widths.items() if flag in flags]
    return found | ({"vectors": vectors[0]} if vectors else {})


def versions() -> dict[str, str]:
    packages = ("facta", "torch", "numpy", "polars")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    return float((sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5)


def latest(log: Path = LOG) -> dict[str, dict[str, Any]]:
    """The newest line of each figure."""
    if not log.exists():
        return {}
    lines = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip())
    return {line["name"]: line for line in lines}


def met(bar: str, value: float, lines: Mapping[str, Mapping[str, Any]]) -> bool | None:
    """Whether `value` satisfies `bar`; None when there is no bar, or the figure that it names was not measured."""
    if not bar:
        return None
    sign, operand = bar.split()
    if operand in FIGURES:
        if operand not in lines:
            return None
        limit = float(lines[operand]["value"])
    else:
        limit = float(operand)
    return {"<=": value <= limit, "<": value < limit, ">=": value >= limit, ">": value > limit}[sign]


def table(lines: Mapping[str, Mapping[str, Any]], figures: Mapping[str, Figure] = FIGURES) -> str:
    """A Markdown table of all figures; bars are today's, so that an old line cannot hide behind an old bar."""
    rows = ["| figure | value | ± | bar | met | what | command | commit, date |", "|---|---|---|---|---|---|---|---|"]
    for name, figure in figures.items():
        line = lines.get(name)
        if line is None:
            cells = [name, "not measured", "", figure.bar, "", figure.what, f"`{figure.command}`", ""]
        else:
            answer = {True: "yes", False: "**no**", None: "–"}[met(figure.bar, line["value"], lines)]
            where = f"{line['commit'][:8]}, {line['date'][:10]}"
            value = f"{line['value']:.4g} {figure.unit}"
            cells = [
                name,
                value,
                f"{line['spread']:.2g}" if _spreads(line) else "",
                figure.bar,
                answer,
                ", ".join(filter(None, (figure.what, _seeds(line)))),
                f"`{figure.command}`",
                where,
            ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _spreads(line: Mapping[str, Any]) -> bool:
    """Whether there is a deviation to tell: one measurement has none."""
    return len(line["raw"]) > 1 or line["spread"] > 0


def _seeds(line: Mapping[str, Any]) -> str:
    """What the value is of, where every raw one is of a seed."""
    count = len(line["seeds"])
    if not count or len(line["raw"]) != count:
        return ""
    return "1 seed" if count == 1 else f"mean of {count} seeds"


def ml1m_table(lines: Mapping[str, Mapping[str, Any]]) -> str:
    """HR@10 / NDCG@10 on MovieLens 1M: a protocol of an arm a row, and the variants that its note tells."""
    head = ["ML-1M", "protocol", "HR@10 / NDCG@10, mean ± deviation over seeds", *VARIANTS, "published", "time"]
    rows = [head, ["---"] * len(head)]
    for arm, published in ML1M.items():
        for middle, protocol in (("", "loo-val"), ("_paper", "loo-paper")):
            found = [lines.get(f"ml1m_{arm}{middle}_{metric}") for metric in ("hr10", "ndcg10")]
            said = ", ".join(dict.fromkeys(_seeds(one).removeprefix("mean of ") for one in found if one))
            means = " / ".join(map(_ml1m_value, found)) + (f" ({said})" if said else "")
            others = [_variant(found[0], name) for name in VARIANTS.values()]
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
    return f"{line['value']:.4f}" + (f" ± {line['spread']:.4f}" if _spreads(line) else "")


def tables(lines: Mapping[str, Mapping[str, Any]]) -> str:
    """What stands on the results page: every figure in one of two tables."""
    arms = {name for name, figure in FIGURES.items() if figure.command == module("ml1m") and not figure.bar}
    return f"{table(lines, {name: FIGURES[name] for name in FIGURES if name not in arms})}\n\n{ml1m_table(lines)}"


def write(text: str, page: Path = RESULTS) -> None:
    """Replace what stands between the two markers of the results page."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise RuntimeError(f"{page} lacks the markers '{BEGIN}' and '{END}'.")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def commands(figures: Iterable[Figure] = FIGURES.values()) -> list[str]:
    """The measuring commands, each once."""
    return list(dict.fromkeys(figure.command for figure in figures))


def _plain(lines: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, figure in FIGURES.items():
        line = lines.get(name)
        if line is None:
            rows.append(f"{name:<43} {'not measured':>16}   {figure.bar:<30} {figure.command}")
            continue
        answer = {True: "met", False: "NOT MET", None: "–"}[met(figure.bar, line["value"], lines)]
        value = f"{line['value']:.4g} {figure.unit}"
        rows.append(
            f"{name:<43} {value:>16}   {figure.bar:<30} {answer:<8} ± {line['spread']:.2g}, {line['commit'][:8]}"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the latest value of every figure beside its bar.")
    parser.add_argument("--write", action="store_true", help="renew the table in docs/results.md")
    lines = latest()
    if parser.parse_args().write:
        write(tables(lines))
    print(_plain(lines))


if __name__ == "__main__":
    main()
