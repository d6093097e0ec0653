"""Whether an artifact may be used with a dataset: rows and codes must have the same meaning."""

from __future__ import annotations

from facta.artifact.contents import ArtifactData
from facta.artifact.files import described
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.schema import Field
from facta.errors import DataError, ProtocolError


def check_match(artifact: ArtifactData, dataset: Dataset, *, other_data: bool) -> None:
    """Raises DataError for other items or values, ProtocolError for another log unless `other_data` allows it."""
    _same_items(artifact, dataset)
    _same_codes(artifact, dataset)
    if not other_data:
        _same_data(artifact, dataset)


def _same_items(artifact: ArtifactData, dataset: Dataset) -> None:
    """Rows must agree: the dataset's items begin with the artifact's; new ones may follow."""
    ours, theirs = artifact.catalogue["item_id"], dataset.items["item_id"]
    if ours.dtype != theirs.dtype or not ours.equals(theirs.head(len(ours))):
        raise DataError(
            f"The dataset '{dataset.path}' has other items ({len(theirs):,}) than the artifact ({len(ours):,}), or in "
            "another order: prepare it from the artifact's catalogue (prepare --catalogue ARTIFACT), or train again."
        )


def _same_codes(artifact: ArtifactData, dataset: Dataset) -> None:
    """Codes must agree: both have the same values of a field, in the same order."""
    spec, ours, theirs = artifact.model.inputs, described(artifact.schema), dataset.manifest
    facts = (*spec.users, *spec.lists)
    pairs = [
        ([one for one in ours.fields if one.name in spec.fields], theirs.fields),
        ([one for one in ours.user_fields if one.name in facts], theirs.user_fields),
        (list(ours.series_fields) if spec.series else [], theirs.series_fields),
    ]
    if spec.series and [one.name for one in ours.series_fields] != [one.name for one in theirs.series_fields]:
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


def _same_data(artifact: ArtifactData, dataset: Dataset) -> None:
    """Events held out of one log may be training events of another, so the logs must be equal."""
    trained = artifact.schema["content_hash"]
    if trained != dataset.content_hash:
        raise ProtocolError(
            f"The artifact was trained on the dataset {trained[:12]}, not on '{dataset.path}' "
            f"({dataset.content_hash[:12]}): its training may have seen the targets here. If you know that it did "
            "not, allow it with other_data=True (--other-data)."
        )
