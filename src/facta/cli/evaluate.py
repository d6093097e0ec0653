"""`facta evaluate`: a table under a printed protocol id; several artifacts are compared with the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from facta import api, durable
from facta.cli import console, pages, predictions, tables
from facta.cli.histories import StrideOption
from facta.data.dataset.dataset import Dataset
from facta.errors import ConfigError
from facta.eval import frames
from facta.eval.comparison import Comparison, compare
from facta.eval.experiment import Experiment
from facta.eval.protocol import ProtocolConfig, Stage
from facta.eval.report import Entry, write_report
from facta.eval.result import Result
from facta.eval.unseen import unlike_targets
from facta.infer.artifact import Artifact
from facta.training import journal

ByDayFlag = Annotated[
    bool,
    typer.Option(
        "--by-day",
        help="Train the artifacts' recipes again up to each day, predict the day, pool the days.",
    ),
]
DaysOption = Annotated[int, typer.Option(min=1, help="Number of days, with --by-day.")]
SinceOption = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Beginning of the first day, with --by-day (default: the log's last days)."),
]
RowsOption = Annotated[
    Path | None,
    typer.Option("--predictions", metavar="FILE.parquet", help="Every prediction with ids, time and label."),
]
ListsOption = Annotated[
    Path | None, typer.Option("--lists", metavar="FILE.parquet", help="Every recommended list with ids.")
]


def evaluate(
    entries: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]ARTIFACT…", help="One artifact, or several to compare with the first; PATH or NAME=PATH."
        ),
    ],
    data: console.DataOption,
    stage: Annotated[Literal["validation", "test"], typer.Option(help="Which requests are asked.")] = "test",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change the protocol of the first artifact, as in mask=nothing."
        ),
    ] = None,
    k: Annotated[list[int] | None, typer.Option("-k", "--k", min=1, help="List lengths (default: 10).")] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Metric of the comparison (default: NDCG at the first -k, or NE and GAUC)."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for results with the values of every user.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="HTML page with the table and pictures.")
    ] = None,
    task: Annotated[
        Literal["next_item", "feedback"] | None,
        typer.Option(help="Rank the catalogue, or predict feedback (default: as the first artifact)."),
    ] = None,
    other_data: Annotated[
        bool, typer.Option("--other-data", help="Allow a dataset that an artifact was not trained on.")
    ] = False,
    stride: StrideOption = 1,
    by_day: ByDayFlag = False,
    days: DaysOption = 7,
    since: SinceOption = None,
    rows: RowsOption = None,
    lists: ListsOption = None,
    as_json: console.JsonFlag = False,
) -> None:
    """Measure artifacts on a dataset; every number has a protocol id."""
    given, artifacts = [_entry(text)[0] for text in entries], [_entry(text)[1] for text in entries]
    if metric is not None and len(artifacts) == 1 and report is None:
        raise ConfigError(
            "Found --metric, which compares artifacts, and a single artifact: leave it out; -k chooses the metrics "
            "to show."
        )
    ks = tuple(k or [10])
    dataset = Dataset.open(data)
    loaded = [Artifact.load(path) for path in artifacts]
    own = [ProtocolConfig.parse(one.config["protocol"]) for one in loaded]
    protocol = own[0].override([change.removeprefix("protocol.") for change in changes or []])
    protocol = protocol if stride == 1 else protocol.change(stride=stride)
    named = _names(given, artifacts, loaded)
    asked = dict(zip(named, loaded, strict=True))
    feedback = (task or loaded[0].model.tasks[0]) == "feedback"
    _check_options(feedback, k, lists, by_day or rows is not None)
    if feedback:
        if by_day:
            found = predictions.days(asked, artifacts, dataset, protocol, days=days, since=since, out=out)
        else:
            found = predictions.held_out(asked, dataset, protocol, stage, other_data=other_data)
        predictions.show(asked, found, dataset, out=out, report=report, rows=rows, metric=metric, as_json=as_json)
        return
    results = _results(asked, dataset, protocol, stage, ks, other_data=other_data)
    compared = metric or f"NDCG@{max(ks)}"
    if out is not None:
        _save(out, named, results)
    if lists is not None:
        _save_lists(lists, dataset, protocol, stage, named, results)
    if report is not None:
        _report(report, dataset, artifacts, asked, results, compared, ks=ks)
    _show(asked, dataset, results, compared, ks, as_json=as_json)


def _check_options(feedback: bool, k: Sequence[int] | None, lists: Path | None, of_feedback: bool) -> None:
    """Refuse options of the other task."""
    if feedback and k:
        raise ConfigError("Found -k, which is for ranked lists, with predicted feedback: leave it out.")
    if feedback and lists is not None:
        raise ConfigError("Found --lists, which is for ranked lists, with predicted feedback: use --predictions.")
    if not feedback and of_feedback:
        raise ConfigError(
            "Found --by-day or --predictions, which are for predicted feedback, with a ranked catalogue: leave them "
            "out."
        )


def _results(
    artifacts: Mapping[str, Artifact],
    dataset: Dataset,
    protocol: ProtocolConfig,
    stage: Stage,
    ks: Sequence[int],
    *,
    other_data: bool,
) -> list[Result]:
    results = []
    for name, one in artifacts.items():
        trained = ProtocolConfig.parse(one.config["protocol"])
        with console.counting(f"evaluating {name}") as progress:
            result = api.evaluate(one, dataset, protocol, stage=stage, ks=ks, other_data=other_data, progress=progress)
        if trained != protocol:
            console.note(f"{name} was trained under {trained.id} and is measured under the protocol of the table.")
        if (unlike := unlike_targets(one.config["model"], protocol)) is not None:
            console.note(f"{name}: {unlike}")
        results.append(result)
    return results


def _show(
    artifacts: Mapping[str, Artifact],
    dataset: Dataset,
    results: Sequence[Result],
    metric: str,
    ks: Sequence[int],
    *,
    as_json: bool,
) -> None:
    """The table, and the differences of the others to the first."""
    named, pairs = list(artifacts), [compare(other, results[0], metric) for other in results[1:]]
    if as_json:
        console.emit({"data": str(dataset.path), **_values(named, list(artifacts.values()), results, pairs)})
        return
    console.out.print(f"data: {dataset.path}", markup=False, highlight=False, soft_wrap=True)
    recipes = [str(one.config["name"]) for one in artifacts.values()]
    shown = [name if name == recipe else f"{name} ({recipe})" for name, recipe in zip(named, recipes, strict=True)]
    tables.results([(name, result.summary()) for name, result in zip(shown, results, strict=True)], ks)
    for text in dataset.manifest.notes:
        console.note(f"Note on the data: {text}")
    for name, pair in zip(named[1:], pairs, strict=True):
        console.out.print(f"{name} against {named[0]}: {pair}", markup=False, highlight=False)


def _save_lists(
    path: Path,
    dataset: Dataset,
    protocol: ProtocolConfig,
    stage: Stage,
    named: Sequence[str],
    results: Sequence[Result],
) -> None:
    requests = Experiment(dataset, protocol).requests(stage)
    frames.save(path, [frames.lists(one, dataset, requests, name) for name, one in zip(named, results, strict=True)])
    console.note(f"The lists lie in '{path}'.")


def _report(
    path: Path,
    dataset: Dataset,
    places: Sequence[Path],
    artifacts: Mapping[str, Artifact],
    results: Sequence[Result],
    metric: str,
    *,
    ks: Sequence[int],
) -> None:
    runs = [api.run_folder(place) for place in places]
    entries = [
        Entry(name, result, journal.read(run) if (run / "metrics.jsonl").is_file() else [])
        for name, result, run in zip(artifacts, results, runs, strict=True)
    ]
    title, about = pages.title(list(artifacts), dataset.path), pages.provenance(artifacts)
    write_report(path, dataset, entries, metric=metric, ks=ks, title=title, provenance=about)
    console.note(f"The report lies in '{path}'.")


def _entry(text: str) -> tuple[str | None, Path]:
    """NAME=PATH, or a path alone; an existing path wins over a name."""
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        return None, Path(text)
    if not name.strip() or not path:
        raise ConfigError(
            f"Found the entry '{text}'; expected an artifact or NAME=ARTIFACT, as in tuned=artifacts/shop."
        )
    return name.strip(), Path(path)


def _names(given: Sequence[str | None], paths: Sequence[Path], artifacts: Sequence[Artifact]) -> list[str]:
    """The given names; else recipe names, or paths if recipes repeat. Raises ConfigError for a name given twice."""
    recipes = [str(artifact.config["name"]) for artifact in artifacts]
    unnamed = [recipe for name, recipe in zip(given, recipes, strict=True) if name is None]
    repeated = len(set(unnamed)) < len(unnamed)
    found = [
        name if name is not None else str(path) if repeated else recipe
        for name, path, recipe in zip(given, paths, recipes, strict=True)
    ]
    for name in found:
        if found.count(name) > 1:
            raise ConfigError(f"Two entries are named '{name}'; give each its own name, as in NAME={paths[0]}.")
    return found


def _save(folder: Path, named: Sequence[str], results: Sequence[Result]) -> None:
    with durable.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, result in zip(named, results, strict=True):
        result.save(folder / f"{name.replace('/', '-')}.json")


def _values(
    named: Sequence[str], artifacts: Sequence[Artifact], results: Sequence[Result], pairs: Sequence[Comparison]
) -> dict[str, Any]:
    return {
        "results": [
            {"name": name, "recipe": artifact.config["name"], "artifact": artifact.fingerprint, **result.summary()}
            for name, artifact, result in zip(named, artifacts, results, strict=True)
        ],
        "comparisons": [
            {
                "name": name,
                "against": named[0],
                "metric": pair.metric,
                "difference": pair.difference,
                "low": pair.interval.low,
                "high": pair.interval.high,
                "verdict": pair.verdict,
            }
            for name, pair in zip(named[1:], pairs, strict=True)
        ],
    }
