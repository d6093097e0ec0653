"""`facta recommend`: the best items for a stored user or for a history given on the spot."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from facta.cli import console
from facta.data.histories import Dataset
from facta.data.times import Time
from facta.errors import ConfigError, counted
from facta.infer.engine import Answer, Artifact, Exclude
from facta.infer.request import History, ItemId, from_text, history_of

SHOWN_EVENTS = 10


class Liked(NamedTuple):
    """What stands beside the recommendations, for people to compare."""

    whose: str
    items: list[ItemId]


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
    if history is not None and user is None and data is None:
        events, liked = _given(loaded, history, times)
    elif user is not None and data is not None and history is None and times is None:
        events, liked = _stored(data, user, moment)
    else:
        raise ConfigError("Give either --user and --data, or --history (and --times), to say whose history to use.")
    answer = loaded.recommend(events, k, at=moment, exclude=_exclude(loaded, exclude))
    if as_json:
        console.emit(_values(loaded, answer, moment, liked))
    else:
        _show(loaded, answer, liked)


def _moment(at: str | None) -> Time | None:
    if at is None:
        return None
    return datetime.now(UTC) if at == "now" else int(at) if at.lstrip("-").isdigit() else at


def _given(artifact: Artifact, history: str, times: str | None) -> tuple[History, Liked]:
    """The history of the command line; all of it counts as liked."""
    given = History(
        [artifact.id_from_text(part) for part in _parts(history)],
        None if times is None else [_moment(part) or 0 for part in _parts(times)],
    )
    return given, Liked("this history, newest first", list(given.items[: -SHOWN_EVENTS - 1 : -1]))


def _stored(data: Path, user: str, at: Time | None) -> tuple[History, Liked]:
    """The history of a user of the dataset, and what this user liked last."""
    dataset = Dataset.open(data)
    id_ = from_text(dataset.users["user_id"], user, "user")
    history = history_of(dataset, id_, until=at)
    start = int(dataset.offsets[int(dataset.user_rows([id_])[0])])
    field = next((one for one in dataset.manifest.fields if (one.role, one.kind) == ("feedback", "numeric")), None)
    if field is None or not history.items:
        return history, Liked(f"user {user}, newest first", list(history.items[: -SHOWN_EVENTS - 1 : -1]))
    values = np.asarray(dataset.fields[field.name][start : start + len(history.items)], dtype=np.float64)
    mean = float(np.nanmean(values))
    liked = [item for item, value in zip(history.items, values, strict=True) if value >= mean]
    return history, Liked(
        f"user {user} liked ({field.name} >= {mean:.2g}), newest first", liked[: -SHOWN_EVENTS - 1 : -1]
    )


def _exclude(artifact: Artifact, exclude: str) -> Exclude:
    if exclude == "history" or exclude == "nothing":
        return exclude
    return [artifact.id_from_text(part) for part in _parts(exclude)]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _values(artifact: Artifact, answer: Answer, at: Time | None, liked: Liked) -> dict[str, Any]:
    items = zip(answer.ids[0], answer.titles[0], answer.scores[0], strict=True)
    beside = zip(liked.items, artifact.titles(liked.items), strict=True)
    return {
        "artifact": artifact.fingerprint,
        "at": at.isoformat() if isinstance(at, datetime) else at,
        "source": answer.source[0],
        "unknown": answer.unknown[0],
        "items": [{"id": id_, "title": title, "score": score} for id_, title, score in items],
        "liked": [{"id": id_, "title": title} for id_, title in beside],
    }


def _show(artifact: Artifact, answer: Answer, liked: Liked) -> None:
    if answer.unknown[0]:
        console.note(
            f"Left out {counted(answer.unknown[0], 'event')}: their items are not in the catalogue of this artifact."
        )
    if answer.source[0] == "popularity":
        console.note("There is no event before the request that this artifact knows; these are the most popular items.")
    best = [name(id_, title) for id_, title in zip(answer.ids[0], answer.titles[0], strict=True)]
    beside = [name(id_, title) for id_, title in zip(liked.items, artifact.titles(liked.items), strict=True)]
    scores = [f"{score:.3f}" for score in answer.scores[0]]
    places = [str(place) for place in range(1, len(best) + 1)]
    rows = list(zip_longest(places, best, scores, beside, fillvalue=""))
    console.table("", ["", "recommended", "score", liked.whose], rows, numbers=["", "score"])


def name(id_: ItemId, title: str | None) -> str:
    """How an item is shown to people."""
    return str(id_) if title is None else f"{title} ({id_})"
