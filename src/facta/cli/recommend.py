"""`facta recommend`: the best items for a stored user or a given history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from facta.cli import console, histories, many
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.ids import ItemId
from facta.data.dataset.schema import plain
from facta.data.dataset.times import Time, moment
from facta.infer.artifact import Answer, Artifact, Exclude
from facta.infer.history import History
from facta.infer.parts import Progress

SHOWN_EVENTS = 10
NEWEST = "newest first"


class Event(NamedTuple):
    """An item of the history, and the user's feedback on it."""

    item: ItemId
    value: float | None = None  # of the displayed field; None: missing


class Beside(NamedTuple):
    """The part of the history shown beside the recommendations for comparison."""

    whose: str
    order: str
    events: list[Event]
    field: str | None = None  # name of the displayed field


def recommend(
    artifact: Annotated[Path, typer.Argument(help="An artifact (`facta train`).")],
    user: histories.UserOption = None,
    data: histories.DataOption = None,
    history: histories.HistoryOption = None,
    times: histories.TimesOption = None,
    at: histories.AtOption = None,
    context: histories.ContextOption = None,
    all_users: histories.AllUsersFlag = False,
    users_file: histories.UsersFileOption = None,
    out: histories.OutOption = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="How many items.")] = 10,
    exclude: Annotated[
        str | None,
        typer.Option(
            metavar="history|nothing|ID,ID…",
            help="Items that are not recommended (default: as the artifact's protocol).",
        ),
    ] = None,
    shortlist: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="For a mixture of logits: score only the first N items of a rough search (default: all).",
        ),
    ] = None,
    stride: histories.StrideOption = 1,
    overwrite: console.OverwriteFlag = False,
    as_json: console.JsonFlag = False,
) -> None:
    """Recommend items to a stored user (--user, --data) or for a given history (--history), or to many users
    (--all-users or --users-file, with --data) into a Parquet file (--out).
    """
    if many.asked(all_users, users_file, out):
        stored = many.checked(all_users, users_file, data, out, user=user, history=history, times=times)
        loaded = Artifact.load(artifact)
        said = histories.context_of(loaded, context)
        _many(
            loaded, stored, users_file, out, k, at, said, exclude, shortlist, stride, overwrite=overwrite,
            as_json=as_json,
        )  # fmt: skip
        return
    loaded, asked = Artifact.load(artifact), histories.moment(at)
    said = histories.context_of(loaded, context)
    given, dataset = histories.chosen(loaded, user, data, history, times, asked)
    beside = _given(given) if dataset is None else _stored(given, dataset, f"history of user {user}")
    hidden = _exclude(loaded, exclude)
    answer = loaded.recommend(given, k, at=asked, context=said, exclude=hidden, shortlist=shortlist, stride=stride)
    if as_json:
        console.emit(_values(loaded, answer, asked, beside, context or []))
    else:
        histories.note_unread(loaded, given, answer.unknown[0], stored=dataset is not None)
        if unsaid := [name for name in loaded.model.inputs.told if name not in said]:
            console.note(
                f"This model recommends for a context, and {', '.join(unsaid)} is not given (--context NAME=VALUE)."
            )
        _show(loaded, answer, beside)


def _many(
    artifact: Artifact, dataset: Dataset, users: Path | None, out: Path | None, k: int, at: str | None,
    context: dict[str, Any], exclude: str | None, shortlist: int | None, stride: int, *, overwrite: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Write the lists of many users to a file."""
    assert out is not None
    histories.note_another(artifact, dataset)
    chosen, hidden = many.users(users, dataset), _exclude(artifact, exclude)

    def run(moment: Time | None, progress: Progress) -> None:
        artifact.recommend_users(
            dataset, k, users=chosen, at=moment, context=context, exclude=hidden, shortlist=shortlist,
            stride=stride, out=out,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip

    values = many.write(artifact, dataset, out, at, k, run)
    if as_json:
        console.emit(values)


def _given(history: History) -> Beside:
    """The history of the command line."""
    events = [Event(item) for item in history.items]
    moments = [moment(time) for time in history.times or []]
    if len(moments) == len(events):  # the request refuses other numbers
        events = [event for _, event in sorted(zip(moments, events, strict=True), key=lambda pair: pair[0])]
    return Beside("history", NEWEST, _last(events))


def _stored(history: History, dataset: Dataset, whose: str) -> Beside:
    """The history of a user of the dataset; with ratings, highest rated first.

    The displayed values are of the dataset's numeric feedback, if there is exactly one.
    """
    numbers = [one for one in dataset.manifest.fields if one.role == "feedback" and one.kind in ("numeric", "ordinal")]
    field = numbers[0].name if len(numbers) == 1 else None
    values = [None] * len(history.items) if field is None else history.fields[field]
    events, order = list(map(Event, history.items, values)), NEWEST
    if field is not None and plain(field) == "rating" and any(value is not None for value in values):
        events.sort(key=lambda event: -math.inf if event.value is None else event.value)
        order = "rated highest first"
    return Beside(whose, order, _last(events), field)


def _last(events: list[Event]) -> list[Event]:
    """The last `count`, in reverse order; of equal ones the newer comes first."""
    return events[: -SHOWN_EVENTS - 1 : -1]


def _exclude(artifact: Artifact, exclude: str | None) -> Exclude | None:
    if exclude is None or exclude == "history" or exclude == "nothing":
        return exclude
    return [artifact.id_from_text(part) for part in histories.parts(exclude)]


def _values(
    artifact: Artifact, answer: Answer, at: Time | None, beside: Beside, context: Sequence[str]
) -> dict[str, Any]:
    items = zip(answer.ids[0], answer.titles[0], answer.scores[0], strict=True)
    titles = artifact.titles([event.item for event in beside.events])
    return {
        "artifact": artifact.fingerprint,
        "at": at.isoformat() if isinstance(at, datetime) else at,
        "source": answer.source[0],
        "unknown": answer.unknown[0],
        **({"context": dict(one.split("=", 1) for one in context)} if context else {}),
        "items": [{"id": id_, "title": title, "score": score} for id_, title, score in items],
        "history_order": beside.order,
        "history": [
            {"id": id_, "title": title, "values": {} if value is None else {beside.field: value}}
            for (id_, value), title in zip(beside.events, titles, strict=True)
        ],
    }


def _show(artifact: Artifact, answer: Answer, beside: Beside) -> None:
    if answer.source[0] == "popularity":
        console.note(
            "No event before the request is of an item with training events; these are the most popular items."
        )
    headings = ["", "recommended", "score", f"{beside.whose}, {beside.order}"]
    columns = [
        [str(place) for place in range(1, len(answer.ids[0]) + 1)],
        [histories.name(id_, title) for id_, title in zip(answer.ids[0], answer.titles[0], strict=True)],
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
    return [histories.name(id_, title) for id_, title in zip(items, artifact.titles(items), strict=True)]
