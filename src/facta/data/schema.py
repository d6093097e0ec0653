"""What the columns of an event log mean: the names recognised, and how extra columns become fields."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from facta.config import Config
from facta.errors import DataError

Role = Literal["feedback", "context"]
Kind = Literal["binary", "categorical", "numeric"]

ALIASES: dict[str, tuple[str, ...]] = {
    "user_id": (
        *("user_id", "user", "uid", "customer_id", "customer", "visitor_id", "member_id", "account_id"),
        *("reviewer_id", "session_id", "user_idx"),
    ),
    "item_id": (
        *("item_id", "item", "iid", "movie_id", "video_id", "product_id", "article_id", "track_id", "song_id"),
        *(
            "book_id",
            "asin",
            "sku",
            "parent_asin",
            "content_id",
            "business_id",
            "item_idx",
            "movie",
            "video",
            "product",
        ),
    ),
    "timestamp": (
        *("timestamp", "timestamp_ms", "time_ms", "unix_timestamp", "unix_review_time", "event_time"),
        *("event_timestamp", "ts", "datetime", "date_time", "time", "unix_time", "created_at", "date"),
    ),
}
"""Names recognised for each column, most specific first; case, punctuation and RecBole's `:token` suffix do not count."""


class Field(Config):
    """One context or feedback column as it is stored: `histories/<name>.npy`."""

    name: str
    role: Role = "feedback"  # the safe guess: feedback is known last, so nothing can leak from it
    kind: Kind = "numeric"
    dtype: str  # of the stored array
    undefined: int | None = None  # the code of a missing value; None: there is none, or NaN in a float column
    categories: tuple[str, ...] | None = None  # of a categorical field: code -> text


def plain(name: str) -> str:
    """`userId`, `User-ID` and `user_id:token` are all `userid`."""
    return re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower())


def recognise(columns: Sequence[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Which column holds the user, the item and the time: {"user_id": "uid", …}; `given` wins over recognition.

    Raises DataError when the user or the item cannot be told; a log without a time column has an order only.
    """
    given = dict(given or {})
    for role, column in given.items():
        if role not in ALIASES:
            raise DataError(f"Found the column role '{role}'; valid roles: {', '.join(ALIASES)}.")
        if column not in columns:
            raise DataError(f"There is no column '{column}' for {role}; the log has: {', '.join(columns)}.")
    mapping = {role: given.get(role) or _best(role, columns, set(given.values())) for role in ALIASES}
    missing = [role for role in ("user_id", "item_id") if mapping[role] is None]
    if missing:
        raise DataError(
            f"No column was recognised as {' and '.join(missing)} among: {', '.join(columns)}; "
            f"name it as in columns={{'{missing[0]}': 'NAME'}} (--column {missing[0]}=NAME)."
        )
    return {role: column for role, column in mapping.items() if column is not None}


def _best(role: str, columns: Sequence[str], taken: set[str]) -> str | None:
    order = {plain(alias): place for place, alias in reversed(list(enumerate(ALIASES[role])))}
    known = sorted((order[plain(c)], c) for c in columns if plain(c) in order and c not in taken)
    return known[0][1] if known else None
