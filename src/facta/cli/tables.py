"""Tables of results, each under its protocol id."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from facta.cli import console
from facta.eval.feedback_metrics import SHOWN
from facta.eval.metrics import shown as shown_metrics
from facta.eval.population import context_told, population
from facta.eval.value_metrics import VALUE_METRICS


def results(named: Sequence[tuple[str, Mapping[str, Any]]], ks: Sequence[int] = (10,)) -> None:
    """One table of summaries (`Result.summary`) that share a protocol: means with their 95 % intervals over users."""
    first = named[0][1]
    means = [{name: one["mean"] for name, one in summary["metrics"].items()} for _, summary in named]
    metrics = [name for k in ks for name in shown_metrics(means, k)]
    rows = [
        [name, *(cell(summary["metrics"][metric]) + _seeds(summary, metric) for metric in metrics)]
        for name, summary in named
    ]
    console.table(
        f"{_stage(first)}, {first['users']:,} users, {first['ranked_items']:,} items ranked, "
        f"mean [95 % interval over users]\n{first['protocol']}",
        ["", *metrics],
        rows,
        numbers=metrics,
    )
    _population([summary for _, summary in named])
    for name, summary in named:
        if told := context_told(name, summary.get("told", ())):
            console.out.print(told, markup=False, highlight=False)
    masked = first["unreachable_targets"]
    if masked > 0.01:
        console.out.print(
            f"{masked:.1%} of the targets are masked, because the user had the item before: no score can exceed "
            f"{1 - masked:.2f}. Where people repeat, train with protocol.mask=nothing and evaluate with mask=nothing."
        )


def seeds(name: str, results: Mapping[int, Mapping[str, Any]], over: Mapping[str, Mapping[str, float | None]]) -> None:
    """A line for each metric: mean and deviation over seeds, and the value for each seed."""
    first = next(iter(results.values()))
    shown = [metric for metric in over if "@" not in metric or metric.endswith("@10")]
    rows = [
        [
            metric,
            *("–" if value is None else f"{value:.4f}" for value in (over[metric]["mean"], over[metric]["deviation"])),
            *("–" if (mean := one["metrics"][metric]["mean"]) is None else f"{mean:.4f}" for one in results.values()),
        ]
        for metric in shown
    ]
    columns = ["", "mean", "deviation", *(f"seed {seed}" for seed in results)]
    title = f"{name}, {_stage(first)}, mean and deviation over {len(results)} seeds\n{first['protocol']}"
    console.table(title, columns, rows, numbers=columns[1:])


def shown(named: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """The table of a result of either task."""
    predictions(named) if "base_rates" in named[0][1] else results(named)


def predictions(named: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """A table of summaries (`Predictions.summary`) that share a protocol; a line for each field of each summary."""
    first = named[0][1]
    rows = [
        [
            *(name, field, "–" if rate is None else f"{rate:.3f}"),
            *(cell(summary["metrics"][f"{metric}({field})"]) for metric in SHOWN),
        ]
        for name, summary in named
        for field, rate in summary["base_rates"].items()
    ]
    title = (
        f"{_stage(first)}, {first['requests']:,} events of {first['users']:,} users, mean [95 % interval over users]\n"
        f"{first['protocol']}"
    )
    if rows:
        console.table(title, ["", "feedback", "base rate", *SHOWN], rows, numbers=["base rate", *SHOWN])
    _values(named, "" if rows else title)
    _population([summary for _, summary in named])
    for name, summary in named:
        for text in summary.get("alarms", ()):
            console.out.print(f"ALARM: {name}, {text}", markup=False, highlight=False)


def _population(summaries: Sequence[Mapping[str, Any]]) -> None:
    """A line on the population of the numbers; further lines if artifacts have different catalogues."""
    said = [population(summary.get("asked") or {}, summary["stage"]) for summary in summaries]
    for text in dict.fromkeys(filter(None, said)):
        console.out.print(f"Asked: {text}", markup=False, highlight=False)


def _seeds(summary: Mapping[str, Any], metric: str) -> str:
    """The deviation of several runs over their seeds, which the interval over users does not cover."""
    means = summary.get("seed_means", {}).get(metric, ())
    return f" ±{statistics.stdev(means):.4f} over {len(means)} seeds" if len(means) > 1 else ""


def _values(named: Sequence[tuple[str, Mapping[str, Any]]], title: str) -> None:
    """The table of numeric feedback without success."""
    rows = [
        [name, field, *(cell(summary["metrics"][f"{metric}({field})"]) for metric in VALUE_METRICS[:-1])]
        for name, summary in named
        for field in summary.get("values", ())
    ]
    if rows:
        console.table(title, ["", "feedback", *VALUE_METRICS[:-1]], rows, numbers=VALUE_METRICS[:-1])


def _stage(summary: Mapping[str, Any]) -> str:
    calibrated = f", scores after {summary['calibrator']} calibration" if summary.get("calibrator") else ""
    return f"{summary['stage']}{' before refit' if summary.get('before_refit') else ''}{calibrated}"


def cell(value: Mapping[str, float | None]) -> str:
    """A mean with its interval, if defined."""
    if value["mean"] is None:
        return "–"
    if value["low"] is None:
        return f"{value['mean']:.4f}"
    return f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
