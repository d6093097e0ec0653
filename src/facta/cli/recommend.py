"""`facta recommend`: the best items for a stored user or for a history given on the spot."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from facta.cli import console
from facta.data.histories import Dataset
from facta.data.schema import plain
from facta.data.times import Time, moment
from facta.errors import ConfigError, counted
from facta.infer.engine import Answer, Artifact, Exclude
from facta.infer.request import History, ItemId, from_text, history_of

SHOWN_EVENTS = 10
NEWEST = "newest first"
_PART = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*|((?!")[^,]*))(?:,|\Z)')  # of a list: quoted, or up to the next comma


class Event(NamedTuple):
    """An item of the history, and what the user said of it."""

    item: ItemId
    value: float | None = None  # of the field that stands beside; None: missing


class Beside(NamedTuple):
    """The part of the history that stands beside the recommendations, for people to compare."""

    whose: str
    order: str
    events: list[Event]
    field: str | None = None  # what the values are of


def recommend(
    artifact: Annotated[Path, typer.Argument(help="An artifact (`facta train`).")],
    user: Annotated[str | None, typer.Option(help="A user of the dataset --data.")] = None,
    data: Annotated[Path | None, typer.Option(help="The prepared dataset that holds the user's history.")] = None,
    history: Annotated[
        str | None,
        typer.Option(metavar="ID,ID…", help="Item ids, oldest first; those with a comma in quotes, as in '\"a,b\",c'."),
    ] = None,
    times: Annotated[str | None, typer.Option(metavar="TIME,TIME…", help="When, for each item of --history.")] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When the request is made: ISO time, milliseconds since 1970, now."),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="How many items.")] = 10,
    exclude: Annotated[
        str | None,
        typer.Option(
            metavar="history|nothing|ID,ID…",
            help="What is not recommended; what the artifact's protocol masks, when not given.",
        ),
    ] = None,
    as_json: console.JsonFlag = False,
) -> None:
    """Recommend items to a stored user (--user, --data) or for a history given on the spot (--history)."""
    loaded = Artifact.load(artifact)
    moment = _moment(at)
    if history is not None and user is None and data is None:
        events, beside = _given(loaded, history, times)
    elif user is not None and data is not None and history is None and times is None:
        events, beside = _stored(data, user, moment)
    else:
        raise ConfigError("Give either --user and --data, or --history (and --times), to say whose history to use.")
    answer = loaded.recommend(events, k, at=moment, exclude=_exclude(loaded, exclude))
    if as_json:
        console.emit(_values(loaded, answer, moment, beside))
    else:
        _show(loaded, answer, beside)


def _moment(at: str | None) -> Time | None:
    if at is None:
        return None
    return datetime.now(UTC) if at == "now" else int(at) if at.lstrip("-").isdigit() else at


def _given(artifact: Artifact, history: str, times: str | None) -> tuple[History, Beside]:
    """The history of the command line."""
    given = History(
        [artifact.id_from_text(part) for part in _parts(history)],
        None if times is None else [_moment(part) or 0 for part in _parts(times)],
    )
    events = [Event(item) for item in given.items]
    moments = [moment(time) for time in given.times or []]
    if len(moments) == len(events):  # any other number is refused with the request
        events = [event for _, event in sorted(zip(moments, events, strict=True), key=lambda pair: pair[0])]
    return given, Beside("history", NEWEST, _last(events))


def _stored(data: Path, user: str, at: Time | None) -> tuple[History, Beside]:
    """The history of a user of the dataset; where the user rated, what was rated highest stands first."""
    dataset = Dataset.open(data)
    id_ = from_text(dataset.users["user_id"], user, "user")
    history = history_of(dataset, id_, until=at)
    field, values = _feedback(dataset, id_, len(history.items))
    events, order = list(map(Event, history.items, values)), NEWEST
    if field is not None and plain(field) == "rating" and any(value is not None for value in values):
        events.sort(key=lambda event: -math.inf if event.value is None else event.value)
        order = "rated highest first"
    return history, Beside(f"history of user {user}", order, _last(events), field)


def _last(events: list[Event]) -> list[Event]:
    """The last of them, last first; of equals the newer stays before the older."""
    return events[: -SHOWN_EVENTS - 1 : -1]


def _feedback(dataset: Dataset, user: ItemId, events: int) -> tuple[str | None, list[float | None]]:
    """The feedback of a dataset that is a number, where it has exactly one, and its values for a user's first events.

    A value is None where it is missing; all are, without such a field.
    """
    numbers = [one for one in dataset.manifest.fields if one.role == "feedback" and one.kind in ("numeric", "ordinal")]
    if len(numbers) != 1:
        return None, [None] * events
    start, field = int(dataset.offsets[int(dataset.user_rows([user])[0])]), numbers[0]
    stored = dataset.fields[field.name][start : start + events].tolist()
    return field.name, [None if value == field.undefined or math.isnan(value) else value for value in stored]


def _exclude(artifact: Artifact, exclude: str | None) -> Exclude | None:
    if exclude is None or exclude == "history" or exclude == "nothing":
        return exclude
    return [artifact.id_from_text(part) for part in _parts(exclude)]


def _parts(text: str) -> list[str]:
    """What stands between commas, without the spaces around it; what is quoted, as in CSV, keeps both."""
    parts, place = [], 0
    while place < len(text):
        part = _PART.match(text, place)
        if part is None:
            raise ConfigError(
                f"Found {text[place:]} in a list; expected ids divided by commas, those with commas in quotes, "
                "as in '\"a,b\",c'; a quote inside of quotes is written twice."
            )
        quoted, bare = part.groups()
        parts.append(bare.strip() if quoted is None else quoted.replace('""', '"'))
        place = part.end()
    return [part for part in parts if part]


def _values(artifact: Artifact, answer: Answer, at: Time | None, beside: Beside) -> dict[str, Any]:
    items = zip(answer.ids[0], answer.titles[0], answer.scores[0], strict=True)
    titles = artifact.titles([event.item for event in beside.events])
    return {
        "artifact": artifact.fingerprint,
        "at": at.isoformat() if isinstance(at, datetime) else at,
        "source": answer.source[0],
        "unknown": answer.unknown[0],
        "items": [{"id": id_, "title": title, "score": score} for id_, title, score in items],
        "history_order": beside.order,
        "history": [
            {"id": id_, "title": title, "values": {} if value is None else {beside.field: value}}
            for (id_, value), title in zip(beside.events, titles, strict=True)
        ],
    }


def _show(artifact: Artifact, answer: Answer, beside: Beside) -> None:
    if answer.unknown[0]:
        console.note(
            f"Left out {counted(answer.unknown[0], 'event')}: their items are not in the catalogue of this artifact."
        )
    if answer.source[0] == "popularity":
        console.note("No event before the request is of an item that was trained on; these are the most popular items.")
    headings = ["", "recommended", "score", f"{beside.whose}, {beside.order}"]
    columns = [
        [str(place) for place in range(1, len(answer.ids[0]) + 1)],
        [name(id_, title) for id_, title in zip(answer.ids[0], answer.titles[0], strict=True)],
        [f"{score:.3f}" for score in answer.scores[0]],
        _names(artifact, beside.events),
    ]
    if any(event.value is not None for event in beside.events):
        headings.append(beside.field or "")
        columns.append(["" if event.value is None else f"{event.value:g}" for event in beside.events])
    rows = list(zip_longest(*columns, fillvalue=""))
    console.table("", headings, rows, numbers=["", "score", beside.field or ""])


def _names(artifact: Artifact, events: list[Event]) -> list[str]:
    items = [event.item for event in events]
    return [name(id_, title) for id_, title in zip(items, artifact.titles(items), strict=True)]


def name(id_: ItemId, title: str | None) -> str:
    """How an item is shown to people."""
    return str(id_) if title is None else f"{title} ({id_})"
