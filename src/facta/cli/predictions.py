"""`facta evaluate` of predicted feedback: a line for each field, and differences between artifacts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from facta import api, durable
from facta.cli import console, pages, tables
from facta.data.dataset.conditional import resolved
from facta.data.dataset.dataset import Dataset
from facta.errors import ConfigError
from facta.eval import frames
from facta.eval.comparison import Comparison
from facta.eval.feedback_metrics import RESAMPLED
from facta.eval.feedback_report import write_feedback_report
from facta.eval.predictions import Predictions, differences
from facta.eval.protocol import ProtocolConfig, Stage
from facta.eval.value_metrics import COMPARED_VALUES
from facta.infer.artifact import Artifact
from facta.recipes.recipe import RecipeConfig

RAW_SUFFIX = " (raw)"  # suffix of an artifact's name for scores before calibration
COMPARED = ("NE", "GAUC", "NMAE", "Spearman")


def held_out(
    artifacts: Mapping[str, Artifact], dataset: Dataset, protocol: ProtocolConfig, stage: Stage, *, other_data: bool
) -> dict[str, Predictions]:
    """Predictions of the held-out events by every artifact."""
    found = {}
    for name, one in artifacts.items():
        with console.counting(f"predicting with {name}") as progress:
            found[name] = api.predict(one, dataset, protocol, stage=stage, other_data=other_data, progress=progress)
        if one.calibration:
            raw = api.predict(one, dataset, protocol, stage=stage, other_data=other_data, calibrated=False)
            found[f"{name}{RAW_SUFFIX}"] = raw
    return found


def days(
    artifacts: Mapping[str, Artifact],
    paths: Sequence[Path],
    dataset: Dataset,
    protocol: ProtocolConfig,
    *,
    days: int,
    since: str | None,
    out: Path | None,
) -> dict[str, Predictions]:
    """Predictions of each day by every artifact's recipe, trained up to it, stored in a folder beside the artifact."""
    found = {}
    for path, (name, one) in zip(paths, artifacts.items(), strict=True):
        recipe = RecipeConfig.parse(one.config).change(protocol=protocol, calibration=None)
        if one.calibration:
            console.note(f"{name} is measured without calibration: calibrators are not fitted again for each day.")
        folder = path.with_name(f"{path.name}.days") if out is None else out / f"{name.replace('/', '-')}.days"
        console.note(f"Day by day: {name}, kept in '{folder}'.")
        found[name] = api.by_day(dataset, recipe, folder, days=days, since=since)
    return found


def show(
    artifacts: Mapping[str, Artifact],
    found: dict[str, Predictions],
    dataset: Dataset,
    *,
    out: Path | None,
    report: Path | None,
    rows: Path | None,
    metric: str | None,
    as_json: bool,
) -> None:
    """Print and save the metrics of every artifact, and the differences to the first."""
    if out is not None:
        _save(out, found)
    if rows is not None:
        frames.save(rows, [frames.predictions(one, dataset, name) for name, one in found.items()])
        console.note(f"The predictions lie in '{rows}'.")
    found = _common(found)
    first = next(iter(found.values()))
    compared = _compared(metric, first.p, first.expected)
    pairs = _pairs(found, compared)
    if report is not None:
        write_feedback_report(
            report,
            dataset,
            found,
            metrics=list(dict.fromkeys(name for name, _ in compared)),
            title=pages.title(list(found), dataset.path),
            provenance=pages.provenance(artifacts),
        )
        console.note(f"The report lies in '{report}'.")
    if as_json:
        results = [
            {"name": name, "artifact": artifacts[_artifact_of(name)].fingerprint, **one.summary()}
            for name, one in found.items()
        ]
        console.emit({"results": results, "comparisons": [_values(*pair, next(iter(found))) for pair in pairs]})
        return
    console.out.print(f"data: {dataset.path}", markup=False, highlight=False, soft_wrap=True)
    tables.predictions([(name, one.summary()) for name, one in found.items()])
    for text in dataset.manifest.notes:
        console.note(f"Note on the data: {text}")
    for name, _, pair in pairs:
        said = f"{pair.metric} is undefined" if math.isnan(pair.difference) else str(pair)
        console.out.print(f"{name} against {next(iter(found))}: {said}", markup=False, highlight=False)


def _artifact_of(name: str) -> str:
    return name.removesuffix(RAW_SUFFIX)


def _common(found: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """The predictions of the fields that all artifacts predict."""
    every = list(dict.fromkeys(field for one in found.values() for field in (*one.p, *one.expected)))
    common = [field for field in every if all(field in (*one.p, *one.expected) for one in found.values())]
    if len(common) == len(every):
        return dict(found)
    if not common:
        raise ConfigError(f"Found {', '.join(every)}, and no field that all artifacts predict; evaluate them apart.")
    console.note(f"Shown is {', '.join(common)}, which all artifacts predict.")
    return {name: _of(one, common) for name, one in found.items()}


def _of(one: Predictions, fields: Sequence[str]) -> Predictions:
    """The predictions of some fields."""
    return replace(
        one,
        p={field: p for field, p in one.p.items() if field in fields},
        y={field: y for field, y in one.y.items() if field in fields},
        expected={field: value for field, value in one.expected.items() if field in fields},
        observed={field: value for field, value in one.observed.items() if field in fields},
    )


def _save(folder: Path, found: Mapping[str, Predictions]) -> None:
    with durable.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, one in found.items():
        one.save(folder / f"{name.replace('/', '-')}.json")


def _pairs(found: Mapping[str, Predictions], compared: Sequence[tuple[str, str]]) -> list[tuple[str, str, Comparison]]:
    """(name, field, comparison with the first)."""
    base, *_ = found.values()
    pairs = []
    for name, one in list(found.items())[1:]:
        for field in (*base.p, *base.expected):
            known = COMPARED_VALUES if field in base.expected else RESAMPLED
            wanted = [metric for metric, of in compared if of in ("", field) and metric in known]
            moved = differences([one], [base], field) if wanted else {}
            pairs += [(name, field, Comparison(f"{metric}({field})", *moved[metric])) for metric in wanted]
    return pairs


def _compared(metric: str | None, successes: Collection[str], values: Collection[str]) -> list[tuple[str, str]]:
    """(metric, field; "": all fields) of an option such as NE or NE(click). Raises ConfigError."""
    if metric is None:
        return [(name, "") for name in COMPARED]
    known = [*(RESAMPLED if successes else ()), *(COMPARED_VALUES if values else ())]
    fields = [*successes, *values]
    name, _, of = metric.removesuffix(")").partition("(")
    of = resolved(of, fields)
    right = name in known and of in ("", *(values if name in COMPARED_VALUES else successes))
    if not right:
        raise ConfigError(
            f"Found --metric {metric}; feedback is compared in one of: {', '.join(known)}, or in one of them of a "
            f"field, as in {known[0]}({fields[0]})."
        )
    return [(name, of)]


def _values(name: str, field: str, pair: Comparison, against: str) -> dict[str, object]:
    return {
        "name": name,
        "against": against,
        "field": field,
        "metric": pair.metric.partition("(")[0],
        "difference": pair.difference,
        "low": pair.interval.low,
        "high": pair.interval.high,
        "verdict": pair.verdict,
    }
