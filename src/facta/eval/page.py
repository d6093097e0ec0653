"""The page of a report: tables with intervals, facts about the numbers, and the frame of the pictures.

The template is `page.html` beside this file (jinja2, with autoescape).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from facta.data.dataset.dataset import Dataset
from facta.eval.bootstrap import Interval
from facta.eval.comparison import Comparison, compare
from facta.eval.draw import Picture, mark
from facta.eval.feedback_metrics import SHOWN
from facta.eval.metrics import shown
from facta.eval.population import context_told, population
from facta.eval.predictions import Predictions, differences
from facta.eval.result import Result
from facta.eval.value_metrics import COMPARED_VALUES, VALUE_METRICS


@dataclass(frozen=True)
class Entry:
    """One line of the table."""

    name: str
    result: Result
    lines: Sequence[Mapping[str, Any]] = ()  # of the metrics.jsonl of its training; empty: not trained


@dataclass(frozen=True)
class Provenance:
    """Facts for reproducing the numbers of a page."""

    command: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)  # entry -> fingerprint of its artifact
    seeds: Mapping[str, str] = field(default_factory=dict)  # entry -> the seed or seeds of its training
    when: datetime | None = None  # None: now


@dataclass(frozen=True)
class Cell:
    """A cell of a table: a number with its interval, a verdict, or the mark of an entry."""

    text: str
    small: str = ""
    best: bool = False
    verdict: str = ""
    mark: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Table:
    """A table; its first columns, name and verdict, are visible on any screen."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


Fact = tuple[str, str, bool]
"""A fact: name, text, and whether the text is code."""


def page(
    title: str,
    facts: Sequence[Fact],
    tables: Sequence[Table],
    pictures: Sequence[Picture | None],
    provenance: Provenance,
    alarms: Sequence[str] = (),
) -> str:
    """The whole document, without empty tables and pictures."""
    at = provenance.when or datetime.now(UTC)
    return str(
        _template().render(
            title=title,
            when=f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, facta {version('facta')}",
            facts=[*facts, *_made(provenance)],
            tables=[table for table in tables if table.rows],
            pictures=[picture for picture in pictures if picture is not None],
            alarms=alarms,
        )
    )


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    text = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text)


def _made(provenance: Provenance) -> list[Fact]:
    """The command, and the artifact and seed of each entry."""
    facts: list[Fact] = [("command", provenance.command, True)] if provenance.command else []
    for name, fingerprint in provenance.fingerprints.items():
        seed = provenance.seeds.get(name)
        facts.append((name, f"artifact {fingerprint}" + (f", seed {seed}" if seed else ", no seed"), False))
    return facts


def table(entries: Sequence[Entry], metric: str, ks: Sequence[int] = ()) -> Table:
    """A line for each entry: the paired difference to the first, means and 95 % intervals."""
    first = entries[0].result
    k = metric.partition("@")[2]
    lengths = [k for k in ks if f"HR@{k}" in first.values] or [int(k) if k.isdecimal() else 10]
    means = [entry.result.means for entry in entries]
    columns = [name for k in lengths if f"HR@{k}" in first.values for name in shown(means, k)]
    columns += [metric] if metric not in columns else []
    top = {name: max(each[name] for each in means) for name in columns}
    coverage = [f"Coverage@{k}" for k in lengths if f"Coverage@{k}" in first.coverage]
    against = [f"{metric} against {entries[0].name}"] if len(entries) > 1 else []
    rows = []
    for place, entry in enumerate(entries):
        verdict = [_verdict(compare(entry.result, first, metric)) if place else Cell("")] if against else []
        cells = [_cell(entry.result, name, top[name]) for name in columns]
        shares = [Cell(f"{entry.result.coverage[name]:.1%}") for name in coverage]
        rows.append([_named(entry.name, place, entry.result.runs), *verdict, *cells, *shares])
    return Table(["", *against, *columns, *coverage], rows)


def _named(name: str, place: int, runs: int) -> Cell:
    character, colour = mark(place)
    return Cell(name, f"mean of {runs} runs" if runs > 1 else "", mark=character, colour=colour)


def _cell(result: Result, name: str, top: float) -> Cell:
    deviation = result.seed_deviation.get(name)
    seeds = "" if deviation is None else f", ± {deviation:.4f} over seeds"
    span = f"{_span(result.intervals[name])}{seeds}"
    return Cell(f"{result.means[name]:.4f}", span, best=result.means[name] == top)


def _span(bounds: Interval | None, form: str = ".4f") -> str:
    """An interval as text; empty if it is unknown."""
    return "" if bounds is None or np.isnan(bounds.low) else f"{bounds.low:{form}} – {bounds.high:{form}}"


def _verdict(found: Comparison) -> Cell:
    if np.isnan(found.difference):
        return Cell("–")
    return Cell(f"{found.difference:+.4f}", _span(found.interval, "+.4f"), verdict=found.verdict)


def facts(dataset: Dataset, entries: Sequence[Entry]) -> list[Fact]:
    """Facts about the numbers."""
    result = entries[0].result
    told = [context_told(entry.name, entry.result.told) for entry in entries]
    return [
        ("protocol", result.protocol, True),
        ("stage", f"{result.stage}: {result.requests:,} requests of {len(result.user):,} users", False),
        *_asked([entry.result for entry in entries]),
        *(("context", text, False) for text in told if text),
        ("ranked", f"{result.ranked:,} items, none sampled; ties count against the target", False),
        (
            "masked targets",
            f"{result.unreachable:.2%} of all: no ranker may recommend them, so all rankers miss them",
            False,
        ),
        *_dataset(dataset, result.dataset),
        ("intervals", "95 %, bootstrap over users; differences are paired, user by user", False),
    ]


def _asked(found: Sequence[Result | Predictions]) -> list[Fact]:
    """The population of the numbers; several lines if artifacts have different catalogues."""
    said = [population(one.asked, one.stage) for one in found]
    return [("asked", text, False) for text in dict.fromkeys(filter(None, said))]


def _dataset(dataset: Dataset, content: str) -> list[Fact]:
    size = f"{dataset.num_users:,} users, {dataset.num_items:,} items, {dataset.num_events:,} events"
    return [("dataset", size, False), ("content of the dataset", content[:16], True)]


def prediction_tables(found: Mapping[str, Predictions], metrics: Sequence[str]) -> list[Table]:
    """A table of the fields with success, and one of numeric fields: a line for each field of each model."""
    first = next(iter(found.values()))
    successes = _predicted(found, list(first.p), [name for name in metrics if name not in COMPARED_VALUES], SHOWN)
    values = [name for name in metrics if name in COMPARED_VALUES] or COMPARED_VALUES[:1]
    return [successes, _predicted(found, list(first.expected), values, VALUE_METRICS[:-1])]


def _predicted(
    found: Mapping[str, Predictions], fields: Sequence[str], compared: Sequence[str], metrics: Sequence[str]
) -> Table:
    (base, first), *others = found.items()
    compared = compared if others else []
    rows = []
    for name_of_field in fields:
        for place, (name, one) in enumerate(found.items()):
            moved = {} if one is first or not compared else differences([one], [first], name_of_field)
            named = [f"{metric}({name_of_field})" for metric in compared]
            verdicts = [
                _verdict(Comparison(full, *moved[metric])) if moved else Cell("")
                for metric, full in zip(compared, named, strict=True)
            ]
            cells = [_measured(one, f"{metric}({name_of_field})") for metric in metrics]
            rows.append(
                [_named(name, place, one.runs), Cell(name_of_field), *verdicts, _count(one, name_of_field), *cells]
            )
    against = [f"{metric} against {base}" for metric in compared]
    known = "base rate" if metrics is SHOWN else "events"
    return Table(["", "feedback", *against, known, *metrics], rows)


def _count(one: Predictions, name: str) -> Cell:
    """The base rate and its events, or the number of values."""
    if name in one.expected:
        return Cell(f"{int((~np.isnan(one.observed[name])).sum()):,}")
    count = int((one.y[name] >= 0).sum())
    return Cell(f"{one.base_rates[name]:.4f}" if count else "–", f"of {count:,}")


def _measured(one: Predictions, name: str) -> Cell:
    if np.isnan(one.means[name]):
        return Cell("–")
    return Cell(f"{one.means[name]:.4f}", _span(one.intervals.get(name)))


def prediction_facts(dataset: Dataset, every: Sequence[Predictions]) -> list[Fact]:
    """Facts about the numbers."""
    found = every[0]
    texts = {
        "stage": f"{found.stage}: {len(found.user):,} events of {len(np.unique(found.user)):,} users, all of them",
        "NE": "log loss relative to that of the base rate of the same events: lower is better, 1 is useless",
        "GAUC": "mean AUC of the users with both outcomes, weighted by their events",
        "Calibration": "mean prediction / share of successes: 1 is right",
        "NMAE": "mean absolute error relative to that of the median of the same events: NE for numbers",
    }
    names = [name for name in texts if name != "NMAE" or found.expected]
    return [
        ("protocol", found.protocol, True),
        *_asked(every),
        *((name, texts[name], False) for name in names),
        *_dataset(dataset, found.dataset),
        ("intervals", "95 %, bootstrap over users; differences are paired, user by user", False),
    ]
