"""Configs: frozen pydantic models, one beside each class that it configures.

Unknown keys and wrong values raise `ConfigError` sentences that list what is valid.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import UnionType
from typing import Annotated, Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from facta.errors import ConfigError

Overrides = str | Sequence[str] | Mapping[str, Any]
"""Settings by dotted key: ["training.epochs=3"], values in JSON or as plain text, or {"training.epochs": 3}."""


class Config(BaseModel):
    """The base of every config: frozen, no unknown keys, defaults checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, **values: Any) -> None:
        with _in_sentences(values):
            super().__init__(**values)

    # pydantic calls an __init__ of one's own for nested configs too, and the key would lose the path that leads to it
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        unknown = set(values) - set(cls.model_fields) if isinstance(values, Mapping) else set()
        if unknown:  # not a ValueError: it passes through pydantic and reaches the user as it is
            raise ConfigError(
                f"Unknown key {', '.join(map(repr, sorted(unknown)))} for {cls.__name__}; "
                f"valid keys: {', '.join(sorted(cls.model_fields))}."
            )
        return values

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values, with sentences instead of a validation report."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"Found {values!r:.80} for a {cls.__name__}; expected a mapping of its keys.")
        with _in_sentences(values):
            return cls.model_validate(dict(values))

    @model_validator(mode="after")
    def _known_parts(self) -> Self:
        """A part of a class of one's own would be built and saved as the class that it extends, or as nothing."""
        for name, field in type(self).model_fields.items():
            part = getattr(self, name)
            known = _config_classes(field.annotation) if isinstance(part, Config) else []
            if known and type(part) not in known:
                raise ConfigError(
                    f"Found {name} of class {type(part).__name__} in a {type(self).__name__}, which can build "
                    f"{', '.join(one.__name__ for one in known)} only: use one of them."
                )
        return self

    def change(self, **values: Any) -> Self:
        """A copy with fields replaced, validated again.

        A mapping for a field that is a config changes the keys that it names and leaves the others, as in
        `training={"epochs": 3}`. Where it names a `kind` of another class, the part starts from the defaults of that
        class. A config replaces the field.
        """
        return self.parse(_merge(_parts(self), values, "the recipe"))

    def override(self, settings: Overrides) -> Self:
        """A copy with dotted settings applied: `["training.epochs=3"]` as on the command line, or a mapping as in
        `{"training.epochs": 3}`. Parts change as in `change`. Of two settings for one key the later counts.
        """
        changes = _Below()
        for path, value in assignments(settings):
            *parents, last = path.split(".")
            place: dict[str, Any] = changes
            for key in parents:
                if not isinstance(place.get(key), Mapping):
                    place[key] = _Below()
                place = place[key]
            place[last] = value
        return self.parse(_merge(_parts(self), changes, "the recipe"))


class _Text(str):
    """A text of the command line: a list where a list is expected."""


class _Part(dict[str, Any]):
    """The values of a config by key, and its class; configs within it are parts too."""

    def __init__(self, of: type[Config], values: Mapping[str, Any]) -> None:
        super().__init__({key: _parts(value) for key, value in values.items()})
        self.of = of


class _Below(dict[str, Any]):
    """Changes to single keys of a part or of a mapping, written with dots."""


def _parts(value: Any) -> Any:
    if not isinstance(value, Config):
        return value
    return _Part(type(value), {name: getattr(value, name) for name in type(value).model_fields})


def _merge(part: _Part, changes: Mapping[str, Any], place: str) -> _Part:
    """A part with changes applied. What does not exist is left for the validation to say, with the keys there are."""
    found = _Part(part.of, {})
    found.update(part)
    for key, change in changes.items():
        current = _of_kind(part, key, change)
        if isinstance(current, _Part) and isinstance(change, Mapping):
            found[key] = _merge(current, change, key)
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


def _listed(of: type[Config], key: str, change: Any) -> Any:
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


def _of_kind(part: _Part, key: str, change: Any) -> Any:
    """What a change is applied to: the part as it is, or the defaults of the class of another kind."""
    current = part.get(key)
    if not isinstance(change, Mapping) or "kind" not in change or key not in part.of.model_fields:
        return current
    for one in _config_classes(part.of.model_fields[key].annotation):
        kind = one.model_fields.get("kind")
        if kind is not None and change["kind"] in get_args(kind.annotation):
            if isinstance(current, _Part) and current.of is one:
                return current
            fields = one.model_fields.items()
            return _Part(
                one,
                {
                    name: field.get_default(call_default_factory=True)
                    for name, field in fields
                    if not field.is_required()
                },
            )
    return current


def _config_classes(annotation: Any) -> list[type[Config]]:
    """The configs that a field may hold itself; not those in a mapping or a sequence."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    if get_origin(annotation) not in (Annotated, Union, UnionType):
        return []
    return [one for inner in get_args(annotation) for one in _config_classes(inner)]


def assignments(given: Overrides) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of each setting, in any form of `Overrides`. Raises ConfigError."""
    if isinstance(given, Mapping):
        settings = list(given.items())
    elif isinstance(given, str):
        settings = [_assignment(given)]
    elif isinstance(given, Iterable):
        settings = [_assignment(one) for one in given]
    else:
        raise ConfigError(f"Found the settings {given!r}; expected ['training.epochs=3'] or {{'training.epochs': 3}}.")
    for path, value in settings:
        if not isinstance(path, str):
            raise ConfigError(f"Found the setting {path!r}; expected a key such as 'training.epochs'.")
        yield path, value


def _assignment(text: Any) -> tuple[str, Any]:
    path, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
    if not equals:
        raise ConfigError(f"Found the setting {text!r}; expected KEY=VALUE, as in training.epochs=3.")
    try:
        return path.strip(), json.loads(value)
    except json.JSONDecodeError:
        return path.strip(), _Text(value.strip())


@contextmanager
def _in_sentences(values: Mapping[str, Any]) -> Iterator[None]:
    """Say what pydantic finds in `values` as a ConfigError."""
    try:
        yield
    except ValidationError as error:
        raise ConfigError(" ".join(_sentence(item, values) for item in error.errors())) from error


def _sentence(item: Any, values: Mapping[str, Any]) -> str:
    if item["type"] == "missing":
        *place, missing = item["loc"]
        return f"The required config key '{'.'.join([*_written(place, values), missing])}' is missing."
    message = item["msg"][0].lower() + item["msg"][1:]
    return f"Config key '{'.'.join(_written(item['loc'], values))}' has the value {item['input']!r}: {message}."


def _written(place: Sequence[int | str], values: Any) -> list[str]:
    """The keys as the user writes them: pydantic's place also names the members of unions, which no value holds."""
    keys = []
    for part in place:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            continue
        keys.append(str(part))
    return keys
