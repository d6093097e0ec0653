"""Settings: changes to the parts of a config by dotted keys, as a person writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from facta.errors import ConfigError
from facta.kinds import Kinds, kind_of, kinds_of

Overrides = str | Sequence[str] | Mapping[str, Any]
"""Settings: ["training.epochs=3"], values in JSON or as plain text; {"training.epochs": 3}; or nested,
{"training": {"epochs": 3}}."""


def nested(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Settings by dotted key -> nested changes, as `merge` takes them. Of two settings for one key the later counts."""
    changes = _Below()
    for path, value in settings:
        *parents, last = path.split(".")
        place: dict[str, Any] = changes
        for key in parents:
            if not isinstance(place.get(key), Mapping):
                place[key] = _Below()
            place = place[key]
        place[last] = dict(value) if isinstance(value, Mapping) else value  # a later key may be merged into it
    return changes


def assignments(given: Overrides, part: Part) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of each setting, in any form of `Overrides`, for the config that `part` holds.

    A mapping for a key that holds a config is the settings within that config; for any other key it is a value.
    Raises ConfigError.
    """
    if isinstance(given, Mapping):
        settings = list(given.items())
    elif isinstance(given, str):
        settings = [_assignment(given)]
    elif isinstance(given, Iterable):
        settings = [_assignment(one) for one in given]
    else:
        raise ConfigError(
            f"Found the settings {given!r:.80}; expected ['training.epochs=3'], {{'training.epochs': 3}} or "
            "{'training': {'epochs': 3}}."
        )
    for path, value in settings:
        yield from _within(path, value, part)


def _within(path: Any, value: Any, part: Part) -> Iterator[tuple[str, Any]]:
    """A setting, or the settings of its mapping."""
    if not isinstance(path, str):
        raise ConfigError(f"Found the setting {path!r:.80}; expected a key such as 'training.epochs'.")
    place: Any = part
    for key in path.split("."):
        place = place.get(key) if isinstance(place, Part) else None
    if not (isinstance(place, Part) and isinstance(value, Mapping)):
        yield path, value
        return
    for key, below in value.items():
        yield from ((f"{path}.{rest}", one) for rest, one in _within(key, below, place))


def _assignment(text: Any) -> tuple[str, Any]:
    path, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
    if not equals:
        raise ConfigError(f"Found the setting {text!r:.80}; expected KEY=VALUE, as in training.epochs=3.")
    try:
        return path.strip(), json.loads(value)
    except json.JSONDecodeError:
        return path.strip(), _Text(value.strip())


class _Text(str):
    """A text from the command line, which becomes a list if a list is expected."""


class Part(dict[str, Any]):
    """The values of a config by key, and its class; configs within it are parts too."""

    def __init__(self, of: type[BaseModel], values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.of = of


class _Below(dict[str, Any]):
    """Changes to single keys of a part or of a mapping, written with dots."""


def parts(config: BaseModel) -> Part:
    """A config as a part, and the configs in it."""
    fields = type(config).model_fields.items()
    return Part(type(config), {name: _below(getattr(config, name), field) for name, field in fields})


def _below(value: Any, field: FieldInfo) -> Any:
    if not isinstance(value, BaseModel):
        return value
    found = parts(value)
    if kinds_within(field):
        found["kind"] = kind_of(value)  # classes from outside have none
    return found


def merge(part: Part, changes: Mapping[str, Any], place: str) -> Part:
    """A part with changes applied. Validation reports unknown keys, with the known ones."""
    found = Part(part.of, {})
    found.update(part)
    for key, change in changes.items():
        current = _of_kind(part, key, change)
        if isinstance(current, Part) and isinstance(change, Mapping):
            found[key] = merge(current, change, key)
        elif isinstance(change, _Below) and isinstance(current, Mapping):
            found[key] = {**current, **change}
        elif isinstance(change, _Below):
            below = next(iter(change))
            raise ConfigError(
                f"The setting '{key}.{below}' does not exist: nothing lies below '{key}'; keys of {place}: "
                f"{', '.join(part)}."
            )
        else:
            found[key] = _listed(part.of, key, change)
    return found


def _listed(of: type[BaseModel], key: str, change: Any) -> Any:
    """A text for a key that holds a list is the list of its parts: `fields=click,like`. A list in JSON stays itself."""
    if not isinstance(change, _Text):
        return change
    if key not in of.model_fields or not _holds_list(of.model_fields[key].annotation):
        return str(change)
    return [_json(part.strip()) for part in change.split(",") if part.strip()]


def _holds_list(annotation: Any) -> bool:
    """Whether a field may be a list, and no text that could hold commas itself."""
    origin = get_origin(annotation)
    if origin in (Annotated, Union, UnionType):
        return str not in get_args(annotation) and any(map(_holds_list, get_args(annotation)))
    return isinstance(origin, type) and issubclass(origin, Sequence)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _of_kind(part: Part, key: str, change: Any) -> Any:
    """The base of a change: the part itself, or the defaults of the class of another kind."""
    current = part.get(key)
    if not isinstance(change, Mapping) or "kind" not in change or key not in part.of.model_fields:
        return current
    one = _class_of_kind(part.of.model_fields[key], change["kind"])
    if one is None or (isinstance(current, Part) and current.of is one):
        return current
    found = {
        name: _below(field.get_default(call_default_factory=True), field)
        for name, field in one.model_fields.items()
        if not field.is_required()
    }
    return Part(one, found if "kind" in one.model_fields else {"kind": change["kind"], **found})


def _class_of_kind(field: FieldInfo, kind: Any) -> type[BaseModel] | None:
    found: Any = None
    for one in kinds_within(field):
        found = one.of(kind)
    return found or next((one for one in part_classes(field) if kind in kinds_of(one)), None)


def part_classes(field: FieldInfo) -> list[type[BaseModel]]:
    """facta's own configs that a field may hold directly, not in a mapping or a sequence."""
    return _config_classes(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)


def _config_classes(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) not in (Annotated, Union, UnionType):
        return []
    for one in _kinds_in(annotation):
        return list(one.known)
    return [one for inner in get_args(annotation) for one in _config_classes(inner)]


def kinds_within(field: FieldInfo) -> list[Kinds]:
    """The `Kinds` annotations of a field."""
    return [one for one in field.metadata if isinstance(one, Kinds)] or _kinds_in(field.annotation)


def _kinds_in(annotation: Any) -> list[Kinds]:
    if get_origin(annotation) is Annotated:
        return [one for one in get_args(annotation) if isinstance(one, Kinds)]
    if get_origin(annotation) in (Union, UnionType):
        return [one for inner in get_args(annotation) for one in _kinds_in(inner)]
    return []
