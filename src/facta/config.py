"""Configs: frozen pydantic models, one beside each class that it configures.

Unknown keys and wrong values raise `ConfigError` sentences that list what is valid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from facta.errors import ConfigError


class Config(BaseModel):
    """The base of every config: frozen, no unknown keys, defaults checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

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
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(" ".join(_sentence(item) for item in error.errors())) from error

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


def _sentence(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"The required config key '{place}' is missing."
    message = item["msg"][0].lower() + item["msg"][1:]
    return f"Config key '{place}' has the value {item['input']!r}: {message}."
