"""`facta similar`: the most similar items of an item."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from facta.cli import console, histories
from facta.infer.artifact import Artifact
from facta.infer.similar import SimilarItems


def similar(
    artifact: Annotated[Path, typer.Argument(help="An artifact (`facta train`).")],
    items: Annotated[list[str], typer.Argument(metavar="ITEM…", help="Item ids.")],
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="How many items.")] = 10,
    as_json: console.JsonFlag = False,
) -> None:
    """Show the most similar items of an item, by the learned vectors or the counted pairs of the model. The line above
    the table says which.
    """
    loaded = Artifact.load(artifact)
    found = loaded.similar_items([loaded.id_from_text(text) for text in items], k)
    titles = loaded.titles(found.items)
    if as_json:
        console.emit({"artifact": loaded.fingerprint, "by": found.by, "items": _values(found, titles)})
        return
    for place, (id_, title) in enumerate(zip(found.items, titles, strict=True)):
        _show(found, place, histories.name(id_, title), known=loaded.model.knows_new_items)


def _values(found: SimilarItems, titles: list[str | None]) -> list[Mapping[str, Any]]:
    lists = zip(found.items, titles, found.untrained, found.ids, found.titles, found.scores, strict=True)
    return [
        {
            "id": id_,
            "title": title,
            "untrained": untrained,
            "similar": [
                {"id": other, "title": name, "score": score} for other, name, score in zip(*similar, strict=True)
            ],
        }
        for id_, title, untrained, *similar in lists
    ]


def _show(found: SimilarItems, place: int, name: str, *, known: bool) -> None:
    if found.untrained[place]:
        told = "similarity is by its features alone" if known else "no similar items are known"
        console.note(f"{name} has no training event: {told}.")
    rows = [
        [rank, histories.name(id_, title), f"{score:.3f}"]
        for rank, (id_, title, score) in enumerate(
            zip(found.ids[place], found.titles[place], found.scores[place], strict=True), start=1
        )
    ]
    console.table(f"By the {found.by}", ["", f"similar to {name}", "score"], rows, numbers=["", "score"])
