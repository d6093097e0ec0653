"""The model card: description, training data, metrics with their protocols, and use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed
from typing import Any

from facta.artifact.contents import ArtifactData
from facta.models.model import Task

_NAMES: dict[Task, str] = {"next_item": "recommender", "feedback": "ranker"}
_LIMITS: dict[Task, str] = {
    "next_item": "Items without a training event are never recommended. A history without trained items gets the most "
    "popular items, and the answer says so.",
    "feedback": "A candidate without a training event is scored by its features alone, if the model reads any; one "
    "that the catalogue lacks is left out. The answer counts both.",
}


def version() -> str:
    """The version of this facta."""
    return installed("facta")


def text(contents: ArtifactData) -> str:
    """The card as Markdown."""
    parts = [_head(contents), _numbers(contents), _use(contents), _limits(contents.model.tasks)]
    return "\n\n".join(parts) + "\n"


def _head(contents: ArtifactData) -> str:
    data, model = contents.schema, contents.config["model"]
    parameters = sum(contents.model.parameter_counts().values())
    what = " and ".join(_NAMES[task] for task in contents.model.tasks)
    return "\n".join(
        [
            f"# {contents.config['name']}",
            "",
            f"A {what} of kind `{model['kind']}` with {parameters:,} numbers, trained by facta {version()}.",
            "",
            f"- catalogue: {contents.catalogue.height:,} items, "
            f"{int((contents.catalogue['training_events'] > 0).sum()):,} of them with training events",
            f"- data: {data['events']:,} events of {data['users']:,} users; content hash `{data['content_hash']}`",
            f"- order of events: {data['order']}",
            *_trained_on(contents.config),
        ]
    )


def _trained_on(config: Mapping[str, Any]) -> list[str]:
    protocol = config.get("protocol")
    if protocol is None:
        return []
    again = "twice, the second time on all events before the test (refit=yes), as validation had chosen"
    once = "on the training events alone (refit=no): it has not seen the validation events"
    return [f"- trained {again if protocol.get('refit') == 'yes' else once}"]


def _numbers(contents: ArtifactData) -> str:
    if not contents.metrics:
        return "## Numbers\n\nNone were measured."
    lines = ["## Numbers", "", "Numbers under different protocols must not be compared.", ""]
    for result in contents.metrics:
        which = " (the first training, before the second one on all events before the test)"
        whose = which if result.get("before_refit") else ""
        whose += f", scores after {result['calibrator']} calibration" if result.get("calibrator") else ""
        lines += [f"Protocol `{result['protocol']}`, {result['stage']}, {result['users']:,} users{whose}:", ""]
        lines += ["| metric | mean | 95 % interval over users |", "|---|---|---|"]
        lines += [_line(name, value) for name, value in result["metrics"].items()]
        lines += ["", *(f"- **Alarm:** {text}" for text in result["alarms"])] if result.get("alarms") else []
        lines.append("")
    return "\n".join(lines).rstrip()


def _line(name: str, value: Mapping[str, Any]) -> str:
    mean = "undefined" if value["mean"] is None else f"{value['mean']:.4f}"
    between = "" if value["low"] is None else f"{value['low']:.4f} to {value['high']:.4f}"
    return f"| {name} | {mean} | {between} |"


def _use(contents: ArtifactData) -> str:
    known = [one["name"] for one in contents.schema.get("fields", ()) if one["role"] == "context"]
    said = _values(contents.model.inputs.told, "...")
    context = _values([name for name in known if name in contents.model.inputs.fields], "...")
    at = "at='2030-01-01T12:00'"
    verbs: dict[Task, str] = {
        "next_item": f"artifact.recommend(history, k=10, {at}{said and f', context={said}'})\n",
        "feedback": f"artifact.rank(history, candidates=[...], {at}{context and f', context={context}'})\n",
    }
    return (
        "## Use\n\n```python\nimport facta\n\nartifact = facta.load('THIS_DIRECTORY')\n"
        f"{_history(contents)}{''.join(verbs[task] for task in contents.model.tasks)}```\n\n"
        "Loading runs no code from this directory and needs no dataset; altered files are refused."
    )


def _history(contents: ArtifactData) -> str:
    """A history with all fields that the model reads, as Python."""
    spec = contents.model.inputs
    changing = [one["name"] for one in contents.schema.get("series_fields", ())] if spec.series else []
    timed = [one["name"] for one in contents.schema.get("fields", ()) if one.get("given_when")]
    parts = {
        "fields": _values(spec.fields, "[...]"),
        "known_at": _values([name for name in timed if name in spec.fields], "[...]"),
        "user": _values([*spec.users, *spec.lists], "..."),
        "series": f"[{', '.join(f'(..., {name!r}, ...)' for name in changing)}]" if changing else "",
    }
    given = ["items=[...]", "times=[...]", *(f"{name}={value}" for name, value in parts.items() if value)]
    inner = ", ".join(given) if len(given) == 2 else "".join(f"\n    {one}," for one in given) + "\n"
    return f"history = facta.History({inner})\n"


def _values(names: Sequence[str], value: str) -> str:
    return f"{{{', '.join(f'{name!r}: {value}' for name in names)}}}" if names else ""


def _limits(learned: Sequence[Task]) -> str:
    return (
        f"## Limits\n\n{' '.join(_LIMITS[task] for task in learned)} The numbers above describe the people and the "
        "period of the data, not yours."
    )
