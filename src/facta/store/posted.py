"""A posted event in the words of the log: a flat object as in JSON-lines -> the user and the event to be stored.

    {"user_id": 17, "item_id": 3, "timestamp": 1893456000, "watch_ms": 900, "event_id": "a1"}

Names are those of the log, or those that `prepare` recognises. What is neither user, item, time nor `event_id` is a
value, kept as it was posted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from facta.data.dataset.moments import Unit, posted_moment
from facta.data.dataset.one_value import check
from facta.data.dataset.schema import ALIASES, Field, candidates, plain
from facta.errors import DataError
from facta.store.protocol import StoredEvent, UserId

Ids = Literal["number", "text"] | None
"""What the ids of a log are; None: not known, so that each is kept as it was posted."""

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,19})")
_SHAPES = 1000  # sets of names whose meaning is remembered


class Values(NamedTuple):
    """What is posted of an event beside its user, item and time."""

    values: Mapping[str, Any]
    known_at: Mapping[str, int]  # ms
    unknown: tuple[str, ...]  # names that the log does not have; kept, but no model reads them


class Posted(NamedTuple):
    user: UserId
    event: StoredEvent
    unknown: tuple[str, ...]  # as in Values


def read_schema(path: Path) -> Mapping[str, Any]:
    """What a dataset (`manifest.json`) or an artifact (`schema.json`) says of its columns. Raises DataError."""
    for name in ("manifest.json", "schema.json"):
        try:
            found = json.loads((path / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise DataError(f"'{path / name}' cannot be read ({error}); prepare or train it again.") from error
        if isinstance(found, dict):
            return found
    raise DataError(
        f"'{path}' is neither a dataset nor an artifact; expected a folder of `facta prepare` or `facta train`."
    )


class Words:
    """What the names of posted events mean."""

    def __init__(self, schema: Mapping[str, Any] | None = None, *, users: Ids = None, items: Ids = None) -> None:
        """`schema`: a dataset's manifest or an artifact's `schema.json`, as plain values; without one, any name is that
        of a value."""
        schema = schema or {}
        self.columns: Mapping[str, str] = schema.get("columns", {})  # user_id, item_id, timestamp -> name in the log
        self.fields = {one["name"]: Field.parse(one) for one in schema.get("fields", ())}
        self.user_fields, self.series_fields = (
            {one["name"]: Field.parse(one) for one in schema.get(which, ())}
            for which in ("user_fields", "series_fields")
        )
        self.given: dict[str, list[str]] = {}  # column with times -> the fields whose values were given then
        for one in self.fields.values():
            if one.given_when is not None:
                self.given.setdefault(one.given_when, []).append(one.name)
        self.timed = bool(schema.get("has_time", True))
        self.unit: Unit | None = schema.get("unit") if schema.get("unit") in ("s", "ms", "us", "ns") else None
        said: Mapping[str, Ids] = schema.get("ids") or {}  # older ones do not say it
        self.ids: dict[str, Ids] = {"user": users or said.get("user"), "item": items or said.get("item")}
        self._anything = not schema
        self._roles: dict[tuple[str, ...], dict[str, str]] = {}

    def read(self, posted: Mapping[str, Any]) -> Posted:
        """The user and the event of a posted object; an event without `event_id` has the id "". Raises DataError."""
        roles = self._roles_of(posted)
        values, known_at, unknown = self._values(posted, {*roles.values()})
        event = StoredEvent(
            _event_id(posted[roles["event_id"]]) if "event_id" in roles else "",
            self.id(posted[roles["item_id"]], "item"),
            self._time(posted, roles),
            values,
            known_at,
        )
        return Posted(self.id(posted[roles["user_id"]], "user"), event, unknown)

    def feedback(self, posted: Mapping[str, Any]) -> Values:
        """What an object that changes an event says: values alone. Raises DataError."""
        _check_object(posted)
        return self._values(posted, set())

    def id(self, posted: Any, what: Literal["user", "item"]) -> int | str:
        """An id as the log writes it: where ids are numbers, 17 and "17" are one id. Raises DataError."""
        kind = self.ids[what]
        if isinstance(posted, bool) or not isinstance(posted, (int, str)) or posted == "":
            raise DataError(f"Found {posted!r} as {what} id; expected a whole number or a text.")
        if kind == "text":
            return str(posted)
        if kind == "number" and isinstance(posted, str):
            if _WHOLE.fullmatch(posted) is None:
                raise DataError(f"Found the {what} id {posted!r}; the {what} ids of this log are whole numbers.")
            return int(posted)
        return posted

    def _roles_of(self, posted: Mapping[str, Any]) -> dict[str, str]:
        """Role -> name in the posted object. Raises DataError where user or item are missing or told twice."""
        _check_object(posted)
        names = tuple(posted)
        found = self._roles.get(names)
        if found is None:
            found = self._recognised(names)
            if len(self._roles) < _SHAPES:  # a client may invent names without end
                self._roles[names] = found
        return found

    def _recognised(self, names: Sequence[str]) -> dict[str, str]:
        free = [name for name in names if name not in self.fields and name not in self.given]
        found: dict[str, str] = {}
        for name in free:
            if plain(name) == "eventid":
                found["event_id"] = name
        for role in ALIASES:
            own = self.columns.get(role, "")
            fits = [own] if own in free else candidates(role, free)
            if not fits and role != "timestamp":
                raise DataError(
                    f"Found an event without {self._name(role)}, with {', '.join(names) or 'nothing'}; add it."
                )
            if len(fits) > 1 and role != "timestamp" and fits[0] != role:
                raise DataError(f"Both '{fits[0]}' and '{fits[1]}' of an event could be its {role}; post one of them.")
            if fits:
                found[role] = fits[0]
        return found

    def _time(self, posted: Mapping[str, Any], roles: Mapping[str, str]) -> int | None:
        given = posted[roles["timestamp"]] if "timestamp" in roles else None
        if self.timed and given is None:
            raise DataError(
                f"Found an event without {self._name('timestamp')}; the events of this log have times: add it."
            )
        if not self.timed and given is not None:
            raise DataError(
                f"Found an event with '{roles['timestamp']}'; the events of this log have no times: leave it out."
            )
        return None if given is None else posted_moment(given, self.unit)

    def _values(self, posted: Mapping[str, Any], taken: set[str]) -> Values:
        values: dict[str, Any] = {}
        known_at: dict[str, int] = {}
        unknown = []
        for name, value in posted.items():
            if name in taken:
                continue
            if name in self.given:
                known_at |= {} if value is None else dict.fromkeys(self.given[name], posted_moment(value, self.unit))
                if name not in self.fields:
                    continue
            if name in self.fields:
                check(self.fields[name], value)
            elif not self._anything:
                unknown.append(name)
            values[name] = value
        return Values(values, known_at, tuple(unknown))

    def _name(self, role: str) -> str:
        own = self.columns.get(role, role)
        return f"'{role}'" if own == role else f"'{role}' ('{own}')"


def _check_object(posted: Any) -> None:
    if not isinstance(posted, Mapping) or not all(isinstance(name, str) for name in posted):
        raise DataError(f"Found {posted!r} as an event; expected names and values, as in {{'user_id': 1, …}}.")


def _event_id(posted: Any) -> str:
    """Whole numbers are ids of events, too; null asks for one."""
    if posted is None:
        return ""
    if isinstance(posted, bool) or not isinstance(posted, (int, str)) or posted == "":
        raise DataError(f"Found {posted!r} as event_id; expected a text, or leave it out.")
    return str(posted)
