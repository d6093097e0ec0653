"""`facta rank`: order given candidates by predicted feedback."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from facta.cli import console, histories, many
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.ids import ItemId, clean_ids
from facta.data.dataset.times import Time
from facta.errors import ConfigError, counted
from facta.infer.artifact import Artifact
from facta.infer.parts import Progress
from facta.infer.ranking import Ranking


def rank(
    artifact: Annotated[Path, typer.Argument(help="An artifact that has learned feedback (`facta train`).")],
    user: histories.UserOption = None,
    data: histories.DataOption = None,
    history: histories.HistoryOption = None,
    times: histories.TimesOption = None,
    candidates: Annotated[
        str | None, typer.Option(metavar="ID,ID…", help="The items to rank, written as --history.")
    ] = None,
    candidates_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Candidates from a text file, one id a line; for many users also a table with user_id and item_id.",
        ),
    ] = None,
    all_users: histories.AllUsersFlag = False,
    users_file: histories.UsersFileOption = None,
    out: histories.OutOption = None,
    k: Annotated[int | None, typer.Option("-k", "--k", min=1, help="Keep the best of the candidates.")] = None,
    at: histories.AtOption = None,
    context: histories.ContextOption = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD|FIELD=WEIGHT,…", help="The feedback that orders them (default: the first predicted)."
        ),
    ] = None,
    stride: histories.StrideOption = 1,
    overwrite: console.OverwriteFlag = False,
    as_json: console.JsonFlag = False,
) -> None:
    """Rank candidates for a stored user (--user, --data) or a given history (--history), or for many users (--all-users
    or --users-file, with --data) into a Parquet file (--out).
    """
    if many.asked(all_users, users_file, out):
        stored = many.checked(all_users, users_file, data, out, user=user, history=history, times=times)
        assert out is not None
        loaded = Artifact.load(artifact)
        histories.note_another(loaded, stored)
        chosen, listed = many.users(users_file, stored), _candidates(loaded, stored, candidates, candidates_file)
        told = histories.context_of(loaded, context)

        def run(moment: Time | None, progress: Progress) -> None:
            loaded.rank_users(
                stored, listed, k, users=chosen, at=moment, context=told, by=_by(by), stride=stride, out=out,
                overwrite=overwrite, progress=progress,
            )  # fmt: skip

        values = many.write(loaded, stored, out, at, k, run)
        if as_json:
            console.emit(values)
        return
    if k is not None:
        raise ConfigError(
            "Found -k, which is for lists of many users (--out); all candidates of one history are shown: leave it out."
        )
    loaded, asked = Artifact.load(artifact), histories.moment(at)
    given, dataset = histories.chosen(loaded, user, data, history, times, asked)
    ids = [loaded.id_from_text(text) for text in _texts(candidates, candidates_file)]
    told = histories.context_of(loaded, context)
    found = loaded.rank(given, ids, at=asked, context=told, by=_by(by), stride=stride)
    if as_json:
        moment = asked.isoformat() if isinstance(asked, datetime) else asked
        console.emit({"artifact": loaded.fingerprint, "at": moment, **_values(found)})
    else:
        histories.note_unread(loaded, given, found.unknown[0], stored=dataset is not None)
        _show(found)


def _texts(candidates: str | None, file: Path | None) -> list[str]:
    """Ids as texts."""
    if (candidates is None) == (file is None):
        raise ConfigError("Give either --candidates or --candidates-file, to say which items to rank.")
    if file is None:
        return histories.parts(candidates or "")
    return many.lines_of(file)


def _candidates(
    artifact: Artifact, dataset: Dataset, candidates: str | None, file: Path | None
) -> list[ItemId] | pl.DataFrame:
    """Item ids for all users, or pairs of a user and an item."""
    table = None if file is None or candidates is not None else many.table_of(file, "user", "item")
    if table is None:
        if file is not None and candidates is None:
            return many.ids_of(file, "item", artifact.catalogue["item_id"]).to_list()
        return [artifact.id_from_text(text) for text in _texts(candidates, file)]
    kinds = {"user": dataset.users["user_id"].dtype, "item": artifact.catalogue["item_id"].dtype}
    text = file is not None and many.is_text(file)
    columns = [clean_ids(table[f"{what}_id"], what, text=text, like=kind) for what, kind in kinds.items()]
    return pl.DataFrame(columns).drop_nulls()


def _by(text: str | None) -> str | dict[str, float] | None:
    if text is None or "=" not in text:
        return text
    weights = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            raise ConfigError(f"Found --by {text}; expected a field, or weights, as in click=1,like=0.5.") from None
    return weights


def _values(found: Ranking) -> Mapping[str, Any]:
    scores = zip(*(lists[0] for lists in found.scores.values()), strict=True)
    return {
        "by": found.by,
        "products": found.products,
        "left_out": found.left_out[0],
        "untrained": found.untrained[0],
        "unknown": found.unknown[0],
        "items": [
            {"id": id_, "title": title, "scores": dict(zip(found.scores, one, strict=True))}
            for id_, title, one in zip(found.ids[0], found.titles[0], scores, strict=True)
        ],
    }


def _show(found: Ranking) -> None:
    if found.left_out[0]:
        console.note(f"Left out {counted(found.left_out[0], 'candidate')} that the catalogue of this artifact lacks.")
    if found.untrained[0]:
        console.note(
            f"{counted(found.untrained[0], 'candidate')} without a training event: known by features alone, where the "
            "model reads any (embedding.features)."
        )
    for name, parts in found.products.items():
        console.note(
            f"{name} = {' · '.join(parts)}: how probable it is of any candidate, not only after its condition."
        )
    rows = [
        [place, histories.name(id_, title), *(f"{lists[0][place - 1]:.4f}" for lists in found.scores.values())]
        for place, (id_, title) in enumerate(zip(found.ids[0], found.titles[0], strict=True), start=1)
    ]
    console.table("", ["", "candidate", *found.scores], rows, numbers=["", *found.scores])
