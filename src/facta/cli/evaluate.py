"""`facta evaluate`: one table under a printed protocol id; two artifacts or more are compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from facta import api, durable
from facta.artifact.model import tasks
from facta.cli import console, predictions, tables
from facta.data.histories import Dataset
from facta.errors import ConfigError
from facta.eval.comparison import Comparison, compare
from facta.eval.protocol import ProtocolConfig
from facta.eval.report import Entry, write_report
from facta.eval.result import Result
from facta.infer.engine import Artifact
from facta.training import journal


def evaluate(
    entries: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]ARTIFACT…", help="One artifact, or several to compare with the first, named if you like."
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
    k: Annotated[list[int] | None, typer.Option("-k", "--k", min=1, help="List lengths; 10 when not given.")] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="What artifacts are compared in; NDCG at the first -k, or NE and GAUC, when not given."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for results with the values of every user.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="A page with the table and pictures of what is behind it.")
    ] = None,
    task: Annotated[
        Literal["next_item", "feedback"] | None,
        typer.Option(help="Rank the catalogue, or predict feedback; what the first artifact has learned, else."),
    ] = None,
    other_data: Annotated[
        bool, typer.Option("--other-data", help="Allow a dataset that an artifact was not trained on.")
    ] = False,
    as_json: console.JsonFlag = False,
) -> None:
    """Measure artifacts on a dataset; every number carries the id of its protocol."""
    given, artifacts = [_entry(text)[0] for text in entries], [_entry(text)[1] for text in entries]
    if metric is not None and len(artifacts) == 1 and report is None:
        raise ConfigError("--metric says what artifacts are compared in, and there is one; -k chooses what is shown.")
    ks = tuple(k or [10])
    dataset = Dataset.open(data)
    loaded = [Artifact.load(path) for path in artifacts]
    own = [ProtocolConfig.parse(one.config["protocol"]) for one in loaded]
    protocol = own[0].override([change.removeprefix("protocol.") for change in changes or []])
    named = _names(given, artifacts, loaded)
    if not as_json:
        console.out.print(f"data: {data}", markup=False, highlight=False, soft_wrap=True)
    if (task or tasks(loaded[0].model)[0]) == "feedback":
        if k:
            raise ConfigError("-k is of ranked lists, and feedback is predicted here: leave it out.")
        asked = dict(zip(named, loaded, strict=True))
        predictions.evaluate(
            asked, dataset, protocol, stage, other_data=other_data, out=out, report=report, metric=metric,
            as_json=as_json,
        )  # fmt: skip
        return
    results = []
    for name, one, trained in zip(named, loaded, own, strict=True):
        with console.counting(f"evaluating {name}") as progress:
            result = api.evaluate(one, dataset, protocol, stage=stage, ks=ks, other_data=other_data, progress=progress)
        if trained != protocol:
            console.note(f"{name} was trained under {trained.id} and is measured under the protocol of the table.")
        results.append(result)
    compared = metric or f"NDCG@{max(ks)}"
    pairs = [compare(other, results[0], compared) for other in results[1:]]
    if out is not None:
        _save(out, named, results)
    if report is not None:
        _report(report, dataset, artifacts, named, results, compared)
    if as_json:
        console.emit({"data": data, **_values(named, loaded, results, pairs)})
        return
    recipes = [str(one.config["name"]) for one in loaded]
    shown = [name if name == recipe else f"{name} ({recipe})" for name, recipe in zip(named, recipes, strict=True)]
    tables.results([(name, result.summary()) for name, result in zip(shown, results, strict=True)], ks)
    for text in dataset.manifest.notes:
        console.note(f"Note on the data: {text}")
    for name, pair in zip(named[1:], pairs, strict=True):
        console.out.print(f"{name} against {named[0]}: {pair}", markup=False, highlight=False)


def _entry(text: str) -> tuple[str | None, Path]:
    """NAME=PATH, or a path alone; a path that exists is believed before a name is."""
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        return None, Path(text)
    if not name.strip() or not path:
        raise ConfigError(
            f"Found the entry '{text}'; expected an artifact or NAME=ARTIFACT, as in tuned=artifacts/shop."
        )
    return name.strip(), Path(path)


def _names(given: Sequence[str | None], paths: Sequence[Path], artifacts: Sequence[Artifact]) -> list[str]:
    """The names given; else recipe names, or paths where recipes repeat. Raises ConfigError for one name twice."""
    recipes = [str(artifact.config["name"]) for artifact in artifacts]
    unnamed = [recipe for name, recipe in zip(given, recipes, strict=True) if name is None]
    found = [
        name if name is not None else str(path) if unnamed.count(recipe) > 1 else recipe
        for name, path, recipe in zip(given, paths, recipes, strict=True)
    ]
    for name in found:
        if found.count(name) > 1 and any(given):
            raise ConfigError(f"Two entries are named '{name}'; give each a name of its own.")
    return found


def _save(folder: Path, named: Sequence[str], results: Sequence[Result]) -> None:
    with durable.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, result in zip(named, results, strict=True):
        result.save(folder / f"{name.replace('/', '-')}.json")


def _report(
    path: Path,
    dataset: Dataset,
    artifacts: Sequence[Path],
    named: Sequence[str],
    results: Sequence[Result],
    metric: str,
) -> None:
    runs = [api.run_folder(artifact) for artifact in artifacts]
    entries = [
        Entry(name, result, journal.read(run) if (run / "metrics.jsonl").is_file() else [])
        for name, result, run in zip(named, results, runs, strict=True)
    ]
    write_report(path, dataset, entries, metric=metric)
    console.note(f"The report lies in '{path}'.")


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
