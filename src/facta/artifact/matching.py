"""Whether a dataset is one that an artifact may be asked about: rows and codes that mean the same, answers unseen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facta.artifact.files import Contents, described
from facta.data.histories import Dataset
from facta.data.schema import Field
from facta.errors import DataError, ProtocolError
from facta.eval.protocol import ProtocolConfig, Stage


def check_match(artifact: Contents, dataset: Dataset, *, other_data: bool) -> None:
    """Raises DataError for other items or values, ProtocolError for another log that is not allowed (`other_data`)."""
    _same_items(artifact, dataset)
    _same_codes(artifact, dataset)
    if not other_data:
        _same_data(artifact, dataset)


def check_unseen(own: ProtocolConfig, asked: ProtocolConfig, stage: Stage) -> None:
    """A model may be asked only for what its own protocol held out; its weights may know the rest.

    And its numbers carry the `refit` that it was trained with. Raises ProtocolError.
    """
    if own.held_out != asked.held_out:
        raise ProtocolError(
            f"The artifact was trained under {own.id} and may have seen what the {stage} stage of {asked.id} asks for: "
            "train it under that protocol (--set protocol.split=…; loo-paper needs training.patience=null)."
        )
    if own.refit == "yes" and stage == "validation":
        raise ProtocolError(
            "The artifact was trained again on the validation events (refit=yes), so it cannot be asked for them. Its "
            "metrics.json has the validation of the first training; else train with protocol.refit=no."
        )
    if own.refit != asked.refit:
        raise ProtocolError(
            f"The artifact was trained with refit={own.refit} and is asked under {asked.id}: one model saw the "
            f"validation events and the other did not. Train it with protocol.refit={asked.refit}."
        )


def unlike_targets(model: Mapping[str, Any], asked: ProtocolConfig) -> str | None:
    """A sentence where a model that has learned from some events is judged on others; None where it is not.

    `model`: the config of the model as plain values.
    """
    learned = (model.get("next_item") or model).get("positive")
    if learned is None or learned == asked.targets:
        return None
    what = "all events" if asked.targets == "all" else f"events with {asked.targets}"
    return (
        f"It has learned from events with {learned} and is asked for {what}: the protocol of the same question has "
        f"targets={learned}."
    )


def _same_items(artifact: Contents, dataset: Dataset) -> None:
    """Rows mean the same where the dataset's items begin with the artifact's; new ones may follow."""
    ours, theirs = artifact.catalogue["item_id"], dataset.items["item_id"]
    if ours.dtype != theirs.dtype or not ours.equals(theirs.head(len(ours))):
        raise DataError(
            f"The dataset '{dataset.path}' has other items ({len(theirs):,}) than the artifact ({len(ours):,}), or in "
            "another order: prepare it from the artifact's catalogue (prepare --catalogue ARTIFACT), or train again."
        )


def _same_codes(artifact: Contents, dataset: Dataset) -> None:
    """Codes mean the same only where both tell the same values of a field apart, in the same order."""
    wants, ours, theirs = artifact.model.wants, described(artifact.schema), dataset.manifest
    facts = (*wants.users, *wants.lists)
    pairs = [
        ([one for one in ours.fields if one.name in wants.fields], theirs.fields),
        ([one for one in ours.user_fields if one.name in facts], theirs.user_fields),
        (list(ours.series_fields) if wants.series else [], theirs.series_fields),
    ]
    if wants.series and [one.name for one in ours.series_fields] != [one.name for one in theirs.series_fields]:
        raise DataError(
            f"The dataset '{dataset.path}' has other facts of users that change "
            f"({', '.join(one.name for one in theirs.series_fields) or 'none'}) than the artifact "
            f"({', '.join(one.name for one in ours.series_fields)}): prepare it with the same ones, or train again."
        )
    for read, found in pairs:
        known = {one.name: one for one in found}
        for one in read:
            other = known.get(one.name)
            if other is None or other.coding != one.coding:
                raise DataError(
                    f"The artifact reads '{one.name}' as {_said(one)}; the dataset '{dataset.path}' has "
                    f"{'no such column' if other is None else _said(other)}. Prepare it with the same values, "
                    "boundaries and successes, or train again."
                )


def _said(field: Field) -> str:
    values = field.categories or field.levels or field.boundaries or ()
    shown = ", ".join(str(value) for value in values[:5]) + (", …" if len(values) > 5 else "")
    kind = f"{field.kind}, of {len(values):,} values or boundaries ({shown})" if values else field.kind
    waiting = [*([field.given_when] if field.given_when else []), *(field.waits_for or ())]
    return f"{kind}, known from '{waiting[0]}' on" if waiting else kind


def _same_data(artifact: Contents, dataset: Dataset) -> None:
    """What one log holds out may stand in the training events of another, for other users or at other places."""
    trained = artifact.schema["content_hash"]
    if trained != dataset.content_hash:
        raise ProtocolError(
            f"The artifact was trained on the dataset {trained[:12]}, not on '{dataset.path}' "
            f"({dataset.content_hash[:12]}): its training may have shown what is asked for here. Where you know that "
            "it did not, allow it with other_data=True (--other-data)."
        )
