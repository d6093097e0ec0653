"""Conditional feedback, defined only after other feedback: a like after a click, a rating after watching.

A model learns such a field where it is defined, so its score is a conditional probability, P(like | click), and is
named after the condition ("like if click"). The unconditional probability follows by the chain rule if the condition is
the success of another predicted field: P(like) = P(click) · P(like | click).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import polars as pl

from facta.data.dataset.codes import bound, values_of
from facta.data.dataset.columns import condition
from facta.data.dataset.schema import Field
from facta.errors import ConfigError, DataError

_NUMERIC = re.compile(r"""\s*["`]?(?P<name>\w+)["`]?\s*(?P<sign>>=|<)\s*(?P<number>[-+.\deE]+)\s*""")
_UNLESS = {">=": "<", "<": ">="}  # a condition for "undefined", and its opposite, a condition of success


def condition_of(field: Field, fields: Sequence[Field]) -> Field | None:
    """The feedback field whose success is the condition under which `field` is defined.

    None: `field` is always defined, or its condition is not the failure of one feedback field of the dataset, such as a
    condition on several columns or on some of the failures.
    """
    if field.undefined_when is None:
        return None
    roots = set(condition(field.name, field.undefined_when).meta.root_names())
    found = [one for one in fields if one.role == "feedback" and roots == {one.name} and one.name != field.name]
    return found[0] if found and _is_failure(found[0], field.undefined_when) else None


def score_name(field: Field, fields: Sequence[Field]) -> str:
    """What a model's score of a field is called: "like", "like if click", or "like unless (tab = 3)"."""
    if field.undefined_when is None:
        return field.name
    after = condition_of(field, fields)
    return f"{field.name} unless ({field.undefined_when})" if after is None else f"{field.name} if {after.name}"


def score_names(fields: Sequence[Field]) -> dict[str, str]:
    """All feedback fields -> the names of their scores."""
    return {field.name: score_name(field, fields) for field in fields if field.role == "feedback"}


def factors(name: str, fields: Sequence[Field], predicted: Collection[str]) -> list[str]:
    """The fields whose scores multiply to the unconditional score of a field, the field itself first.

    `like` alone if it is always defined; `like`, `click`, `shown` if likes are defined after clicks, and clicks after
    being shown. An expected value counts undefined as 0. Raises ConfigError where the chain rule does not apply: the
    condition is not the success of one field, or the artifact does not predict that field.
    """
    known = {field.name: field for field in fields}
    found = [name]
    while (field := known[found[-1]]).undefined_when is not None:
        after = condition_of(field, fields)
        if after is None or after.name not in predicted or after.name in found:
            why = (
                "which is not the failure of one feedback field with success"
                if after is None
                else f"and this artifact does not predict {after.name}"
                if after.name not in predicted
                else "which leads back to itself"
            )
            raise ConfigError(
                f"'{field.name}' is learned where it is defined, not where {field.undefined_when}, {why}: its share of "
                f"all events is unknown. Order by '{score_name(known[name], fields)}' to take the score as it stands."
            )
        found.append(after.name)
    return found


def resolved(name: str, known: Collection[str]) -> str:
    """The full name of a score, or of a metric such as NE(like), that is given by its field's name.

    The name itself if it is known, else the only known name that extends it by a condition.
    """
    if name in known:
        return name
    stem = name.removesuffix(")")
    longer = [one for one in known if one.startswith((f"{stem} if ", f"{stem} unless "))]
    return longer[0] if len(longer) == 1 else name


def _is_failure(after: Field, text: str) -> bool:
    """Whether a condition holds for exactly the failures of a field."""
    if not after.positives:
        return False
    if after.kind == "numeric":
        return _is_below(after, text)
    for values in _readings(after):
        failed = _held(after.name, text, values)
        if failed is not None:
            return [code for code, held in enumerate(failed, start=1) if not held] == list(after.positives)
    return False


def _is_below(after: Field, text: str) -> bool:
    """Buckets hold no exact values, so a condition must name the number that divides success from failure."""
    found = _NUMERIC.fullmatch(text)
    if found is None or found["name"] != after.name or after.positive_when is None:
        return False
    try:
        number, divides = float(found["number"]), bound(after.name, after.positive_when)
    except (ValueError, ConfigError):
        return False
    return number == divides and after.positive_when.strip().startswith(_UNLESS[found["sign"]])


def _readings(field: Field) -> Iterator[list[Any]]:
    """The values of a field in the forms that a column of the log may have."""
    values = values_of(field)
    yield values
    if field.kind == "binary":
        yield [bool(value) for value in values]
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        return
    yield numbers


def _held(name: str, text: str, values: list[Any]) -> list[bool] | None:
    """Whether a condition holds for each value; None if it does not apply to values of this type."""
    try:
        held = pl.DataFrame({name: values}).select(condition(name, text)).to_series()
    except (pl.exceptions.PolarsError, DataError, ConfigError):
        return None
    return held.fill_null(False).to_list() if held.dtype == pl.Boolean and len(held) == len(values) else None
