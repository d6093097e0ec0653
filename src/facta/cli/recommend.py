"""`facta recommend`: the best items for a stored user or for a history given on the spot."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from facta.cli import console
from facta.data.histories import Dataset
from facta.errors import ConfigError
from facta.infer.engine import Answer, Artifact, Exclude
from facta.infer.request import History, Time, from_text, history_of

SHOWN_EVENTS = 10


def recommend(
    artifact: Annotated[Path, typer.Argument(help="An artifact (`facta train`).")],
    user: Annotated[str | None, typer.Option(help="A user of the dataset --data.")] = None,
    data: Annotated[Path | None, typer.Option(help="The prepared dataset that holds the user's history.")] = None,
    history: Annotated[str | None, typer.Option(metavar="ID,ID…", help="Item ids, oldest first.")] = None,
    times: Annotated[str | None, typer.Option(metavar="TIME,TIME…", help="When, for each item of --history.")] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When the request is made: ISO time, milliseconds since 1970, now."),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="How many items.")] = 10,
    exclude: Annotated[
        str, typer.Option(metavar="history|nothing|ID,ID…", help="What is not recommended.")
    ] = "history",
    as_json: console.JsonFlag = False,
) -> None:
    """Recommend items to a stored user (--user, --data) or for a history given on the spot (--history)."""
    loaded = Artifact.load(artifact)
    moment = _moment(at)
    events, seen = _history(loaded, user, data, history, times, moment)
    answer = loaded.recommend(events, k, at=moment, exclude=_exclude(loaded, exclude))
    if as_json:
        console.emit(_values(loaded, answer, moment, seen))
    else:
        _show(answer, user, seen)


def _moment(at: str | None) -> Time | None:
    if at is None:
        return None
    return datetime.now(UTC) if at == "now" else int(at) if at.lstrip("-").isdigit() else at


def _history(
    artifact: Artifact, user: str | None, data: Path | None, history: str | None, times: str | None, at: Time | None
) -> tuple[History, list[dict[str, Any]]]:
    """What the model is shown, and the newest of it with titles for people."""
    if history is not None and user is None and data is None:
        given = History(
            [artifact.id_from_text(part) for part in _parts(history)],
            None if times is None else [_moment(part) or 0 for part in _parts(times)],
        )
        return given, _titled(artifact, given)
    if user is None or data is None or history is not None or times is not None:
        raise ConfigError("Give either --user and --data, or --history (and --times), to say whose history to use.")
    dataset = Dataset.open(data)
    given = history_of(dataset, from_text(dataset.users["user_id"], user, "user"), until=at)
    return given, _titled(artifact, given)


def _exclude(artifact: Artifact, exclude: str) -> Exclude:
    if exclude == "history" or exclude == "nothing":
        return exclude
    return [artifact.id_from_text(part) for part in _parts(exclude)]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _titled(artifact: Artifact, history: History) -> list[dict[str, Any]]:
    """The newest events first."""
    newest = list(history.items[-SHOWN_EVENTS:])
    entries = [{"id": id_, "title": title} for id_, title in zip(newest, artifact.titles(newest), strict=True)]
    return entries[::-1]


def _values(artifact: Artifact, answer: Answer, at: Time | None, seen: list[dict[str, Any]]) -> dict[str, Any]:
    items = zip(answer.ids[0], answer.titles[0], answer.scores[0], strict=True)
    return {
        "artifact": artifact.fingerprint,
        "at": at if at is None or isinstance(at, (int, str)) else at.isoformat(),
        "source": answer.source[0],
        "unknown": answer.unknown[0],
        "items": [{"id": id_, "title": title, "score": score} for id_, title, score in items],
        "history": seen,
    }


def _show(answer: Answer, user: str | None, seen: list[dict[str, Any]]) -> None:
    if answer.unknown[0]:
        console.note(
            f"{answer.unknown[0]} events were left out: their items are not in the catalogue of this artifact."
        )
    if answer.source[0] == "popularity":
        console.note("The history has no item that this artifact knows; these are the most popular items.")
    whose = "this history" if user is None else f"user {user}"
    console.table(f"Newest events of {whose}", ["item", "title"], [[one["id"], one["title"]] for one in seen])
    rows: list[list[object]] = []
    for place, (id_, title, score) in enumerate(zip(answer.ids[0], answer.titles[0], answer.scores[0], strict=True), 1):
        rows.append([place, id_, title, f"{score:.3f}"])
    console.table(f"Recommended to {whose}", ["", "item", "title", "score"], rows, numbers=["", "score"])
