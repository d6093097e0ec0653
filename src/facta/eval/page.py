"""The page of a report: the table with its intervals, the facts behind it, and the frame for the pictures."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facta.data.histories import Dataset
from facta.eval.bootstrap import Interval
from facta.eval.comparison import Comparison, compare
from facta.eval.prediction import METRICS
from facta.eval.predictions import Predictions, differences
from facta.eval.result import Result

COLOURS = ("#0b6e99", "#d95f02", "#1b9e77", "#7b4fa3", "#c2185b", "#8c6d1f", "#4c4c4c", "#5aa9e6")
"""Of the entries, in the table and in every picture."""


@dataclass(frozen=True)
class Entry:
    """One line of the table."""

    name: str
    result: Result
    lines: Sequence[Mapping[str, Any]] = ()  # of the metrics.jsonl of its training; none: nothing was trained


def page(title: str, facts: str, table: str, pictures: Sequence[tuple[str, str]]) -> str:
    """The whole document; a picture without content is left out."""
    drawn = "".join(f"<h2>{html.escape(name)}</h2>{picture}" for name, picture in pictures if picture)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{html.escape(title)}</h1>{facts}<div class='wide'>{table}</div>{drawn}</body></html>\n"
    )


def table(entries: Sequence[Entry], metric: str) -> str:
    """A line for each entry: means, 95 % intervals, and the paired difference to the first."""
    k = metric.partition("@")[2] or "10"
    first = entries[0].result
    columns = [name for name in (f"HR@{k}", f"NDCG@{k}", f"MRR@{k}") if name in first.values]
    columns += [metric] if metric not in columns else []
    top = {name: max(entry.result.means[name] for entry in entries) for name in columns}
    coverage = f"Coverage@{k}"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    rows = []
    for place, entry in enumerate(entries):
        cells = "".join(_cell(entry.result, name, top[name]) for name in columns)
        share = f"{entry.result.coverage[coverage]:.1%}" if coverage in entry.result.coverage else "–"
        against = "" if place == 0 else _difference(entry, entries[0], metric)
        name = _named(entry.name, place, entry.result.runs)
        rows.append(f"<tr><td>{name}</td>{cells}<td>{share}</td><td>{against}</td></tr>")
    return (
        f"<table><thead><tr><th></th>{head}<th>{coverage}</th>"
        f"<th>{html.escape(metric)} against {html.escape(entries[0].name)}</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _named(name: str, place: int, runs: int) -> str:
    swatch = f'<span class="swatch" style="background:{COLOURS[place % len(COLOURS)]}"></span>'
    seeds = f" <small>mean of {runs} runs</small>" if runs > 1 else ""
    return f"{swatch}{html.escape(name)}{seeds}"


def _cell(result: Result, name: str, top: float) -> str:
    best = ' class="best"' if result.means[name] == top else ""
    return f"<td{best}>{result.means[name]:.4f}{_small(result.intervals[name])}</td>"


def _small(bounds: Interval | None, form: str = ".4f") -> str:
    """Nothing where an interval is not known."""
    if bounds is None or np.isnan(bounds.low):
        return ""
    return f"<small>{bounds.low:{form}} – {bounds.high:{form}}</small>"


def _difference(entry: Entry, first: Entry, metric: str) -> str:
    found = compare(entry.result, first.result, metric)
    return f"{found.difference:+.4f} <b>{found.verdict}</b>{_small(found.interval, '+.4f')}"


def facts(dataset: Dataset, result: Result) -> str:
    """What the numbers are of."""
    return _facts(
        {
            "protocol": f"<code>{html.escape(result.protocol)}</code>",
            "stage": f"{result.stage}: {result.requests:,} requests of {len(result.user):,} users, all of them",
            "ranked": f"{result.ranked:,} items, none sampled; ties count against the target",
            "masked targets": f"{result.unreachable:.2%} of all: nobody may recommend them, so everybody misses them",
            "dataset": _dataset(dataset, result.dataset),
            "intervals": "95 %, bootstrap over users; differences are paired, user by user",
        }
    )


def _dataset(dataset: Dataset, content: str) -> str:
    return (
        f"{dataset.num_users:,} users, {dataset.num_items:,} items, {dataset.num_events:,} events; "
        f"content <code>{content[:16]}</code>"
    )


def _facts(lines: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in lines.items()) + "</dl>"


def prediction_table(found: Mapping[str, Predictions], metrics: Sequence[str]) -> str:
    """A line for each field of each model: base rate, means, 95 % intervals, and paired differences to the first."""
    (base, first), *_ = found.items()
    against = "".join(f"<th>{html.escape(metric)} against {html.escape(base)}</th>" for metric in metrics)
    head = "".join(f"<th>{metric}</th>" for metric in METRICS)
    rows = []
    for field in first.p:
        for place, (name, one) in enumerate(found.items()):
            cells = "".join(_predicted(one, f"{metric}({field})") for metric in METRICS)
            moved = {} if one is first else differences([one], [first], field)
            shown = "".join(f"<td>{_moved(metric, *moved[metric]) if moved else ''}</td>" for metric in metrics)
            count = int((one.y[field] >= 0).sum())
            rate = f"{f'{one.base_rates[field]:.4f}' if count else '–'}<small>of {count:,}</small>"
            rows.append(f"<tr><td>{_named(name, place, one.runs)}</td><td>{html.escape(field)}</td>")
            rows.append(f"<td>{rate}</td>{cells}{shown}</tr>")
    return (
        f"<table><thead><tr><th></th><th>feedback</th><th>base rate</th>{head}{against}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _predicted(one: Predictions, name: str) -> str:
    if np.isnan(one.means[name]):
        return "<td>–</td>"
    return f"<td>{one.means[name]:.4f}{_small(one.intervals.get(name))}</td>"


def _moved(metric: str, difference: float, bounds: Interval) -> str:
    if np.isnan(difference):
        return "–"
    verdict = Comparison(metric, difference, bounds).verdict
    return f"{difference:+.4f} <b>{verdict}</b>{_small(bounds, '+.4f')}"


def prediction_facts(dataset: Dataset, found: Predictions) -> str:
    """What the numbers are of."""
    return _facts(
        {
            "protocol": f"<code>{html.escape(found.protocol)}</code>",
            "stage": f"{found.stage}: {len(found.user):,} events of {len(np.unique(found.user)):,} users, all of them",
            "NE": "log loss over that of always saying the base rate of the same events: lower is better, 1 is no use",
            "GAUC": "mean AUC of the users who have both outcomes, weighted by their events",
            "dataset": _dataset(dataset, found.dataset),
            "intervals": "95 %, bootstrap over users; differences are paired, user by user",
        }
    )


_STYLE = """
body { font: 15px/1.55 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem; }
body { margin: 2.5rem auto; padding: 0 1.2rem }
h1 { font-size: 1.7rem; margin: 0 0 .3rem }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 1rem 0 1.6rem; font-size: .9rem }
dt { color: #777 }
dd { margin: 0 }
code { font-size: .86em; background: #f4f4f2; padding: .1em .3em; border-radius: 3px }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th { font-weight: 600; font-size: .85rem; color: #555; text-align: right; border-bottom: 2px solid #222 }
td { text-align: right; border-bottom: 1px solid #e6e6e6; white-space: nowrap }
th, td { padding: .4rem .6rem }
td:first-child, th:first-child { text-align: left; padding-left: 0 }
td small { display: block; color: #888; font-size: .75rem }
td:first-child small { padding-left: 1.2rem }
td.best { font-weight: 700 }
td.best small { font-weight: 400 }
.swatch { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px; margin-right: .5rem }
img { width: 100%; height: auto }
.caption { color: #777; font-size: .85rem; margin: .1rem 0 0 }
"""
