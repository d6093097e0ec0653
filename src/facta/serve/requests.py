"""What may be asked, as the bodies of requests; unknown names are refused in a sentence that lists the known ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import PositiveInt, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from facta.config import Config
from facta.errors import ConfigError

Id = StrictInt | StrictStr
Moment = StrictInt | StrictFloat | StrictStr  # as of an event


class _About(Config):
    """A person: one of the store, or a history given on the spot."""

    user_id: Id | None = None
    history: tuple[Mapping[str, Any], ...] | None = None  # events in the words of the log, for people of no store
    facts: Mapping[str, Any] | None = None  # constant facts that come with a history
    at: Moment | None = None  # of the request; now, when not given
    context: Mapping[str, Any] | None = None  # what is known before the item
    by: StrictStr | Mapping[str, StrictInt | StrictFloat] | None = None  # the score, or weights of scores
    model: StrictStr | None = None  # the name of a model; by the split, when not given

    @model_validator(mode="after")
    def _one_person(self) -> _About:
        if (self.user_id is None) == (self.history is None):
            found = "neither" if self.user_id is None else "both"
            raise ConfigError(f"Found {found} of user_id and history; expected one of them.")
        if self.facts is not None and self.history is None:
            raise ConfigError("Found facts beside a user_id; keep them with PUT /v1/users/{id}, or give a history.")
        return self


class Recommend(_About):
    """`POST /v1/recommend`. With `by`, the items found are ranked by predicted feedback."""

    k: PositiveInt = 10
    exclude: Literal["history", "nothing"] | tuple[Id, ...] | None = None  # None: as the artifact's protocol does
    allow: tuple[Id, ...] | None = None  # these items and no other
    where: Mapping[str, Any] | None = None  # column of the items -> value, list of values, or {"min": …, "max": …}
    explain: StrictBool = False  # of each item, the events that change its score most
    at_most: Mapping[str, PositiveInt] | None = None  # column -> items of a list that may have the same value


class Rank(_About):
    """`POST /v1/rank`."""

    candidates: tuple[Id, ...]


class Facts(Config):
    """`PUT /v1/users/{id}`: in place of what was told before."""

    facts: Mapping[str, Any] = {}
    series: tuple[Mapping[str, Any], ...] = ()  # {"timestamp": …, "field": …, "value": …}


class Merge(Config):
    """`POST /v1/users/{id}/merge`: everything of `user_id` goes to the person of the path."""

    user_id: Id


class Change(Config):
    """`PATCH /v1/items/{id}`."""

    hidden: StrictBool  # whether lists leave the item out


class Swap(Config):
    """`PUT /v1/models/{name}`: folders below `--models`."""

    artifact: StrictStr
    ranker: StrictStr | None = None
