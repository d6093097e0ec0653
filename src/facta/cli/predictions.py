"""`facta evaluate` of predicted feedback: a line for each field, and differences between artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from facta import api, durable
from facta.cli import console, tables
from facta.data.histories import Dataset
from facta.errors import ConfigError
from facta.eval.feedback_report import write_feedback_report
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
    compared = COMPARED if metric is None else (metric,)
    found = {}
    for name, one in artifacts.items():
        with console.counting(f"predicting with {name}") as progress:
            found[name] = api.predict(one, dataset, protocol, stage=stage, other_data=other_data, progress=progress)
    if out is not None:
        _save(out, found)
    pairs = _pairs(found, compared)
    if report is not None:
        write_feedback_report(report, dataset, found, metrics=compared)
        console.note(f"The report lies in '{report}'.")
    if as_json:
        results = [{"name": name, **one.summary()} for name, one in found.items()]
        console.emit({"results": results, "comparisons": pairs})
        return
    tables.predictions([(name, one.summary()) for name, one in found.items()])
    for text in dataset.manifest.notes:
        console.note(f"Note on the data: {text}")
    for pair in pairs:
        console.out.print(
            f"{pair['name']} against {pair['against']}, {pair['metric']}({pair['field']}): {pair['difference']:+.4f} "
            f"[{pair['low']:+.4f}, {pair['high']:+.4f}]",
            markup=False,
            highlight=False,
        )


def _save(folder: Path, found: Mapping[str, Predictions]) -> None:
    with durable.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, one in found.items():
        one.save(folder / f"{name.replace('/', '-')}.json")


def _pairs(found: Mapping[str, Predictions], compared: tuple[str, ...]) -> list[dict[str, object]]:
    (first, base), *others = found.items()
    pairs: list[dict[str, object]] = []
    for name, one in others:
        for field in base.p:
            moved = differences([one], [base], field)
            for metric in compared:
                if metric not in moved:
                    raise ConfigError(f"Found --metric {metric}; feedback is compared in one of: {', '.join(moved)}.")
                value, (low, high) = moved[metric]
                pairs.append(
                    {
                        "name": name,
                        "against": first,
                        "field": field,
                        "metric": metric,
                        "difference": value,
                        "low": low,
                        "high": high,
                    }
                )
    return pairs
