"""What the columns of an event log mean: recognised names, and the declarations of fields."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, field_validator, model_validator
from pydantic import Field as Field_

from facta.config import Config
from facta.errors import DataError

Role = Literal["context", "feedback", "item", "user", "series"]
Kind = Literal["binary", "categorical", "ordinal", "numeric", "multi", "vector", "items"]
"""multi: several categories; vector: numbers of one width (both of items); items: of the catalogue (of users)."""

ALIASES: dict[str, tuple[str, ...]] = {
    "user_id": (
        *("user_id", "user", "uid", "customer_id", "customer", "visitor_id", "member_id", "account_id"),
        *("reviewer_id", "user_idx", "session_id"),
    ),
    "item_id": (
        *("item_id", "item", "iid", "movie_id", "video_id", "product_id", "article_id", "track_id", "song_id"),
        *("book_id", "content_id", "business_id", "asin", "sku", "item_idx", "movie", "video", "product"),
    ),
    "timestamp": (
        *("timestamp", "timestamp_ms", "time_ms", "unix_timestamp", "unix_review_time", "event_time"),
        *("event_timestamp", "ts", "datetime", "date_time", "time", "unix_time", "created_at", "date"),
    ),
}
"""Names recognised per column, best first; case, punctuation and RecBole's `:token` suffix do not count."""

ACTIONS = ("eventtype", "event", "action", "actiontype", "behavior", "behaviour", "behaviortype", "interaction")
"""Text columns that are kept by default, as categorical feedback."""


def _ascending(boundaries: tuple[float, ...] | None) -> tuple[float, ...] | None:
    if boundaries is not None and (not boundaries or any(not a < b for a, b in pairwise(boundaries))):
        raise ValueError("expected at least one boundary, each above the one before")
    return boundaries


Boundaries = Annotated[tuple[float, ...] | None, AfterValidator(_ascending)]


class FieldConfig(Config):
    """What a column of the log means; the values tell what is not declared."""

    role: Literal["context", "feedback"] = "feedback"  # the safe default: known last, so nothing can leak from it
    kind: Literal["binary", "categorical", "ordinal", "numeric"] | None = None
    boundaries: Boundaries = None  # numeric: ascending; None: quantiles of the training part
    positive: str | None = None  # condition on the value: ">= 4", "= 'like'", "in (3, 4)"
    undefined: str | None = None  # condition on the columns of the log: "click = 0"
    time: str | None = None  # the column with the time when this feedback was given; models see it from then on

    @model_validator(mode="after")
    def _only_feedback_succeeds_or_comes_late(self) -> Self:
        if self.role == "context" and (self.positive or self.time):
            raise ValueError("`positive` and `time` are of feedback; context is known before the item")
        return self


class FeatureConfig(Config):
    """What a column of the item or user table, or a series of users, means."""

    kind: Kind | None = None  # None: by the values
    boundaries: Boundaries = None  # numeric: ascending; None: quantiles of the training part
    separator: str | None = Field_(None, min_length=1)  # multi and items, as text: between values; None: detected

    @model_validator(mode="after")
    def _only_lists_are_parted(self) -> Self:
        if self.separator is not None and self.kind not in ("multi", "items"):
            raise ValueError('`separator` is of lists; declare the kind "multi" or "items" with it')
        return self


Declared = Sequence[str] | Mapping[str, Any]
"""Columns and what they mean: {name: config}, {name: role of a field, or kind of a feature}, or a list of names."""


class SchemaConfig(Config):
    """Declarations for the columns of all tables, for `prepare`; each mapping in any form of `Declared`."""

    fields: Mapping[str, FieldConfig] | None = None  # of the log; None: all numeric ones, as feedback
    items: Mapping[str, FeatureConfig] = {}
    users: Mapping[str, FeatureConfig] = {}
    series: Mapping[str, FeatureConfig] = {}

    @field_validator("fields", mode="before")
    @classmethod
    def _fields(cls, declared: Any) -> Any:
        return _expanded(declared, "role")

    @field_validator("items", "users", "series", mode="before")
    @classmethod
    def _features(cls, declared: Any) -> Any:
        return _expanded(declared, "kind")


def _expanded(declared: Any, key: str) -> Any:
    if isinstance(declared, Sequence) and not isinstance(declared, str):
        return {name: {} for name in declared}
    if isinstance(declared, Mapping):
        return {name: {key: value} if isinstance(value, str) else value or {} for name, value in declared.items()}
    return declared


class Field(Config):
    """One column as it is stored. Its codes (`data/dataset/codes`) count 1 … `codes` - 1; 0 is undefined."""

    name: str
    role: Role = "feedback"
    kind: Kind
    dtype: str  # of the stored array or column
    file: str = ""  # histories/<file>.npy; "": a column of items.parquet or users.parquet, or a series
    undefined: int | None = None  # the code of a missing value; None: none is missing, or NaN in a float field
    categories: tuple[str, ...] | None = None  # categorical and multi: code -> text
    levels: tuple[float, ...] | None = None  # ordinal: its values, ascending
    boundaries: tuple[float, ...] | None = None  # numeric: ascending; a bucket holds its lower one
    quantiles: Literal[True] | None = None  # the boundaries are quantiles of the values; None: they were declared
    width: int | None = None  # vector: of each item's
    positive: tuple[int, ...] | None = None  # codes that count as success; None: the upper one of a binary field's
    positive_when: str | None = None  # as declared
    undefined_when: str | None = None
    late: float | None = None  # share of the values with a time that were given after the user's next event
    given_when: str | None = None  # the column with their times, as declared (data/split/late.py)
    before: float | None = None  # the stored value of an event until its own value is known; None: undefined
    waits_for: tuple[str, ...] | None = None  # fields with a time that the declared condition reads

    @property
    def declared(self) -> FieldConfig:
        """The declaration that makes this field again."""
        return FieldConfig.parse(
            {
                "role": self.role,
                "kind": self.kind,
                "boundaries": None if self.quantiles else self.boundaries,
                "positive": self.positive_when,
                "undefined": self.undefined_when,
                "time": self.given_when,
            }
        )

    @property
    def codes(self) -> int:
        """How many codes there are, "undefined" included."""
        match self.kind:
            case "binary":
                return 3
            case "ordinal":
                return len(self.levels or ()) + 1
            case "numeric":
                return len(self.boundaries or ()) + 2
            case _:
                return len(self.categories or ()) + 1

    @property
    def coding(self) -> tuple[object, ...]:
        """The meaning of codes and success; one model can read two datasets where it is equal."""
        later = (self.before, self.waits_for) if self.given_when is not None or self.waits_for else ()
        return self.kind, self.categories, self.levels, self.boundaries, self.positives, later

    @property
    def positives(self) -> tuple[int, ...]:
        """Codes that count as success; none if success is not declared."""
        return (2,) if self.positive is None and self.kind == "binary" else self.positive or ()


def plain(name: str) -> str:
    """`userId`, `User-ID` and `user_id:token` are all `userid`."""
    return re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower())


def is_known_name(name: str) -> bool:
    """Whether a name is recognised as that of a user, an item or a time."""
    return any(plain(name) == plain(alias) for aliases in ALIASES.values() for alias in aliases)


def recognise(
    columns: Sequence[str], given: Mapping[str, str] | None = None, needed: Sequence[str] = ("user_id", "item_id")
) -> dict[str, str]:
    """The columns of the user, the item and the time: {"user_id": "uid", …}. `given` wins over recognition;
    {"timestamp": ""}: no column holds the time.

    Raises DataError if a needed column is not recognised. A log without a time column has only an order.
    """
    given = dict(given or {})
    check_given(given, columns)
    mapping = {role: given[role] if role in given else _best(role, columns, set(given.values())) for role in ALIASES}
    missing = [role for role in needed if not mapping[role]]
    if missing:
        raise DataError(
            f"No column was recognised as {' or '.join(missing)} among: {', '.join(columns)}; "
            f"name it, as in columns={{'{missing[0]}': 'NAME'}} (--column {missing[0]}=NAME)."
        )
    return {role: column for role, column in mapping.items() if column}


def check_given(given: Mapping[str, str], columns: Sequence[str] | None = None) -> None:
    """Raise DataError for columns given for roles that do not exist, given twice or, where `columns` tells them, not
    there."""
    for role, column in given.items():
        if role not in ALIASES:
            raise DataError(f"Found the column role '{role}'; valid roles: {', '.join(ALIASES)}.")
        if columns is not None and column not in columns and (column or role != "timestamp"):
            raise DataError(f"There is no column '{column}' for {role}; the columns are: {', '.join(columns)}.")
    if len(set(given.values())) < len(given):
        raise DataError(f"One column cannot have two roles: {', '.join(f'{r}={c}' for r, c in given.items())}.")


def _best(role: str, columns: Sequence[str], taken: set[str]) -> str | None:
    """The best-ranked alias present. Raises DataError for two id columns, none of them named `user_id` or `item_id`."""
    names = candidates(role, [column for column in columns if column not in taken])
    if len(names) > 1 and role != "timestamp" and names[0] != role:
        raise DataError(
            f"Both '{names[0]}' and '{names[1]}' could be the {role}; "
            f"say which, as in columns={{'{role}': '{names[0]}'}} (--column {role}={names[0]})."
        )
    return names[0] if names else None


def candidates(role: str, columns: Sequence[str]) -> list[str]:
    """The columns whose names are aliases of a role, best first."""
    order = {plain(alias): place for place, alias in reversed(list(enumerate(ALIASES[role])))}
    return [name for _, name in sorted((order[plain(name)], name) for name in columns if plain(name) in order)]
