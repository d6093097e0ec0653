"""The model card: what the artifact is, what it was trained on, how good it is under which protocol, how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any

from facta.artifact.model import Task, parameters_of, tasks

if TYPE_CHECKING:
    from facta.artifact.files import Contents


def version() -> str:
    """The version of facta that writes."""
    return installed("facta")


def text(contents: Contents) -> str:
    """The card as Markdown."""
    parts = [_head(contents), _numbers(contents), _use(tasks(contents.model)), _limits()]
    return "\n\n".join(parts) + "\n"


def _head(contents: Contents) -> str:
    data, model = contents.schema, contents.config["model"]
    parameters = parameters_of(contents.model)
    return "\n".join(
        [
            f"# {contents.config['name']}",
            "",
            f"A recommender of kind `{model['kind']}` with {parameters:,} numbers, trained by facta {version()}.",
            "",
            f"- catalogue: {contents.catalogue.height:,} items, "
            f"{int((contents.catalogue['training_events'] > 0).sum()):,} of them with training events",
            f"- data: {data['events']:,} events of {data['users']:,} users; content hash `{data['content_hash']}`",
            f"- order of events: {data['order']}",
        ]
    )


def _numbers(contents: Contents) -> str:
    if not contents.metrics:
        return "## Numbers\n\nNone were measured."
    lines = ["## Numbers", "", "Numbers under different protocols must not be compared.", ""]
    for result in contents.metrics:
        lines += [f"Protocol `{result['protocol']}`, {result['stage']}, {result['users']:,} users:", ""]
        lines += ["| metric | mean | 95 % interval over users |", "|---|---|---|"]
        lines += [_line(name, value) for name, value in result["metrics"].items()]
        lines.append("")
    return "\n".join(lines).rstrip()


def _line(name: str, value: Mapping[str, Any]) -> str:
    mean = "undefined" if value["mean"] is None else f"{value['mean']:.4f}"
    between = "" if value["low"] is None else f"{value['low']:.4f} to {value['high']:.4f}"
    return f"| {name} | {mean} | {between} |"


def _use(learned: Sequence[Task]) -> str:
    verbs: dict[Task, str] = {
        "next_item": "artifact.recommend(history, k=10, at='2030-01-01T12:00')\n",
        "feedback": "artifact.rank(history, candidates=[...], at='2030-01-01T12:00')\n",
    }
    return (
        "## Use\n\n```python\nimport facta\n\nartifact = facta.load('THIS_DIRECTORY')\n"
        f"history = facta.History(items=[...], times=[...])\n{''.join(verbs[task] for task in learned)}```\n\n"
        "Loading runs no code from this directory and needs no dataset; altered files are refused."
    )


def _limits() -> str:
    return (
        "## Limits\n\nItems without a training event are never recommended. A history that shows no other items is "
        "answered with the most popular items, and the answer says so. The numbers above describe the people and the "
        "period of the data, not yours."
    )
