"""`facta evaluate` of predicted feedback: a line for each field, and differences between artifacts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from facta import api, durable
from facta.cli import console, tables
from facta.data.histories import Dataset
from facta.errors import ConfigError
from facta.eval.comparison import Comparison
from facta.eval.feedback_report import write_feedback_report
from facta.eval.prediction import RESAMPLED
from facta.eval.predictions import Predictions, differences
from facta.eval.protocol import ProtocolConfig, Stage
from facta.infer.engine import Artifact

COMPARED = ("NE", "GAUC")


def evaluate(
    artifacts: Mapping[str, Artifact],
    dataset: Dataset,
    protocol: ProtocolConfig,
    stage: Stage,
    *,
    other_data: bool,
    out: Path | None,
    report: Path | None,
    metric: str | None,
    as_json: bool,
) -> None:
    """Print what every artifact says of the held-out events, and how far the others lie from the first."""
    found = {}
    for name, one in artifacts.items():
        with console.counting(f"predicting with {name}") as progress:
            found[name] = api.predict(one, dataset, protocol, stage=stage, other_data=other_data, progress=progress)
    if out is not None:
        _save(out, found)
    found = _common(found)
    compared = _compared(metric, next(iter(found.values())).p)
    pairs = _pairs(found, compared)
    if report is not None:
        write_feedback_report(report, dataset, found, metrics=[name for name, _ in compared])
        console.note(f"The report lies in '{report}'.")
    if as_json:
        results = [
            {"name": name, "artifact": artifacts[name].fingerprint, **one.summary()} for name, one in found.items()
        ]
        console.emit({"results": results, "comparisons": [_values(*pair, next(iter(found))) for pair in pairs]})
        return
    tables.predictions([(name, one.summary()) for name, one in found.items()])
    for text in dataset.manifest.notes:
        console.note(f"Note on the data: {text}")
    for name, field, pair in pairs:
        metric = f"{pair.metric}({field})"
        said = f"{metric} is undefined" if math.isnan(pair.difference) else str(replace(pair, metric=metric))
        console.out.print(f"{name} against {next(iter(found))}: {said}", markup=False, highlight=False)


def _common(found: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Of the fields that all of them predict."""
    every = list(dict.fromkeys(field for one in found.values() for field in one.p))
    common = [field for field in every if all(field in one.p for one in found.values())]
    if len(common) == len(every):
        return dict(found)
    if not common:
        raise ConfigError(f"Found {', '.join(every)}, and no field that all artifacts predict; evaluate them apart.")
    console.note(f"Shown is {', '.join(common)}, which all artifacts predict.")
    return {name: replace(one, p={field: one.p[field] for field in common}) for name, one in found.items()}


def _save(folder: Path, found: Mapping[str, Predictions]) -> None:
    with durable.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, one in found.items():
        one.save(folder / f"{name.replace('/', '-')}.json")


def _pairs(found: Mapping[str, Predictions], compared: Sequence[tuple[str, str]]) -> list[tuple[str, str, Comparison]]:
    """(name, field, how far it lies from the first)."""
    base, *_ = found.values()
    pairs = []
    for name, one in list(found.items())[1:]:
        for field in base.p:
            wanted = [metric for metric, of in compared if of in ("", field)]
            moved = differences([one], [base], field) if wanted else {}
            pairs += [(name, field, Comparison(metric, *moved[metric])) for metric in wanted]
    return pairs


def _compared(metric: str | None, fields: Iterable[str]) -> list[tuple[str, str]]:
    """(metric, its field; "": every one) of an option such as NE or NE(click). Raises ConfigError."""
    if metric is None:
        return [(name, "") for name in COMPARED]
    name, _, of = metric.removesuffix(")").partition("(")
    if name not in RESAMPLED or (of and of not in fields):
        raise ConfigError(
            f"Found --metric {metric}; feedback is compared in one of: {', '.join(RESAMPLED)}, or in one of them of a "
            f"field, as in {RESAMPLED[0]}({next(iter(fields), 'FIELD')})."
        )
    return [(name, of)]


def _values(name: str, field: str, pair: Comparison, against: str) -> dict[str, object]:
    return {
        "name": name,
        "against": against,
        "field": field,
        "metric": pair.metric,
        "difference": pair.difference,
        "low": pair.interval.low,
        "high": pair.interval.high,
        "verdict": pair.verdict,
    }
