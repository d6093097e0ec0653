"""The history for `recommend` and `rank`: that of a stored user, or one from the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from facta.artifact.files import described
from facta.cli import console
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.ids import ItemId, id_from_text
from facta.data.dataset.raw import from_text
from facta.data.dataset.times import Time
from facta.errors import ConfigError, counted
from facta.infer.artifact import Artifact
from facta.infer.history import History
from facta.infer.history_of import history_of

UserOption = Annotated[str | None, typer.Option(help="A user of the dataset --data.")]
DataOption = Annotated[Path | None, typer.Option(help="The prepared dataset that holds the user's history.")]
StrideOption = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Events that a full window moves at a time, as in a live engine; 1: the newest events.",
    ),
]
HistoryOption = Annotated[
    str | None,
    typer.Option(metavar="ID,ID…", help="Item ids, oldest first; those with a comma in quotes, as in '\"a,b\",c'."),
]
TimesOption = Annotated[str | None, typer.Option(metavar="TIME,TIME…", help="Time of each item of --history.")]
AtOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Time of the request: ISO time, milliseconds since 1970, or now.")
]
ContextOption = Annotated[
    list[str] | None,
    typer.Option("--context", metavar="NAME=VALUE", help="Context, known before the item, as in tab=1."),
]
AllUsersFlag = Annotated[bool, typer.Option("--all-users", help="Lists for every user of --data, into --out.")]
UsersFileOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Lists for these users: text, one id a line, or a table with user_id."),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.parquet", help="File for the lists of many users.")
]
_PART = re.compile(
    r'\s*(?:"((?:[^"]|"")*)"\s*|((?!")[^,]*))(?:,|\Z)'
)  # a part of a list: quoted, or up to the next comma


def chosen(
    artifact: Artifact, user: str | None, data: Path | None, history: str | None, times: str | None, at: Time | None
) -> tuple[History, Dataset | None]:
    """The history of the options, and the dataset that it is stored in. Raises ConfigError."""
    if history is not None and user is None and data is None:
        items = [artifact.id_from_text(part) for part in parts(history)]
        return History(items, None if times is None else [moment(part) or 0 for part in parts(times)]), None
    if user is None or data is None or history is not None or times is not None:
        raise ConfigError("Give either --user and --data, or --history (and --times), to say whose history to use.")
    dataset = Dataset.open(data)
    note_another(artifact, dataset)
    return history_of(dataset, id_from_text(dataset.users["user_id"], user, "user"), until=at), dataset


def note_another(artifact: Artifact, dataset: Dataset) -> None:
    """Note that the dataset is not the artifact's: a newer log of the same service is normal, another service's log is
    not.
    """
    if dataset.content_hash == artifact.schema["content_hash"]:
        return
    known = int((artifact.rows_of(dataset.items["item_id"].to_list()) >= 0).sum())
    console.note(
        f"'{dataset.path}' is not the dataset that this artifact was trained on; {known:,} of its "
        f"{dataset.num_items:,} items are in the artifact's catalogue, by their ids."
    )


def moment(at: str | None) -> Time | None:
    """The moment of a command-line text."""
    if at is None:
        return None
    return datetime.now(UTC) if at == "now" else int(at) if at.lstrip("-").isdigit() else at


def parts(text: str) -> list[str]:
    """The parts between commas, without spaces around them; parts in quotes, as in CSV, keep commas and spaces."""
    found, place = [], 0
    while place < len(text):
        part = _PART.match(text, place)
        if part is None:
            raise ConfigError(
                f"Found {text[place:]} in a list; expected ids divided by commas, those with commas in quotes, "
                "as in '\"a,b\",c'; a quote inside of quotes is written twice."
            )
        quoted, bare = part.groups()
        found.append(bare.strip() if quoted is None else quoted.replace('""', '"'))
        place = part.end()
    return [part for part in found if part]


def context_of(artifact: Artifact, assignments: Sequence[str] | None) -> dict[str, Any]:
    """The context of --context, in values of the artifact's fields. Raises ConfigError."""
    fields = {field.name: field for field in described(artifact.schema).fields}
    found: dict[str, Any] = {}
    for assignment in assignments or []:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"Found --context {assignment}; expected NAME=VALUE, as in tab=1.")
        found[name] = (
            from_text(fields[name], text) if name in fields else text
        )  # the artifact's error lists the known fields
    return found


def name(id_: ItemId, title: str | None) -> str:
    """The displayed name of an item."""
    return str(id_) if title is None else f"{title} ({id_})"


def note_unread(artifact: Artifact, history: History, unknown: int, *, stored: bool) -> None:
    """Notes on events that were not read, and on fields that a history lacks if it is not `stored` in a dataset."""
    if unknown:
        console.note(f"Left out {counted(unknown, 'event')}: their items are not in the catalogue of this artifact.")
    spec = artifact.model.inputs
    read = [*(spec.fields if history.items else ()), *(artifact.changing if spec.series else ())]
    if read and not stored:
        console.note(
            f"This model reads {', '.join(read)}; a --history has only items and times. Use --user and --data for all "
            "fields."
        )
