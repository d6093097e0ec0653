"""Configs: frozen pydantic models, one beside each class that it configures.

Unknown keys and wrong values raise `ConfigError` sentences that list what is valid.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from facta.errors import ConfigError


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
        with _in_sentences(values):
            return cls.model_validate(dict(values))

    def change(self, **values: Any) -> Self:
        """A copy with fields replaced, validated again."""
        return self.parse({**self.model_dump(), **values})

    def override(self, assignments: Sequence[str]) -> Self:
        """A copy with dotted assignments applied: `["training.epochs=3", "model.encoder.layers=4"]`."""
        values = self.model_dump()
        for assignment in assignments:
            path, equals, text = assignment.partition("=")
            if not equals:
                raise ConfigError(f"Found the setting '{assignment}'; expected KEY=VALUE, as in training.epochs=3.")
            _assign(values, path.strip(), _value(text.strip()))
        return self.parse(values)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _assign(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for depth, key in enumerate(parents):
        if not isinstance(values.get(key), dict):
            here = ".".join(parents[:depth]) or "the recipe"
            raise ConfigError(
                f"The setting '{path}' does not exist: nothing lies below '{key}'; keys of {here}: {', '.join(values)}."
            )
        values = values[key]
    values[last] = value


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
