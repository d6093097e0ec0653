"""Configs: frozen pydantic models, one beside each class that it configures.

Unknown keys and wrong values raise `ConfigError` sentences that list what is valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from facta.errors import ConfigError
from facta.kinds import Kinds
from facta.settings import Overrides, assignments, kinds_within, merge, nested, part_classes, parts


class Config(BaseModel):
    """The base of every config: frozen, no unknown keys, defaults checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, **values: Any) -> None:
        with _as_config_error(values):
            super().__init__(**values)

    # pydantic calls a custom __init__ for nested configs too, whose errors would lose the path of the key
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        unknown = set(values) - set(cls.model_fields) if isinstance(values, Mapping) else set()
        if unknown:  # not a ValueError, so it passes through pydantic unchanged
            raise ConfigError(
                f"Unknown key {', '.join(map(repr, sorted(unknown)))} for {cls.__name__}; "
                f"valid keys: {', '.join(sorted(cls.model_fields))}."
            )
        return values

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values. Raises ConfigError with a sentence."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"Found {values!r:.80} for a {cls.__name__}; expected a mapping of its keys.")
        with _as_config_error(values):
            return cls.model_validate(dict(values))

    @model_validator(mode="after")
    def _known_parts(self) -> Self:
        """Raise for parts of unknown classes: pydantic would build and save them as their base class, or not at all."""
        for name, field in type(self).model_fields.items():
            part = getattr(self, name)
            known = part_classes(field) if isinstance(part, Config) else []
            if known and type(part) not in known:
                where = f"{name} of class {type(part).__name__} in a {type(self).__name__}"
                _check_outside(part, where, known, kinds_within(field))
        return self

    def change(self, **values: Any) -> Self:
        """A copy with fields replaced, validated again.

        A mapping for a field that is a config changes the keys that it names and leaves the others, as in
        `training={"epochs": 3}`. If it names a `kind` of another class, the part starts from the defaults of that
        class. A config replaces the field.
        """
        return self.parse(merge(parts(self), values, "the recipe"))

    def override(self, settings: Overrides) -> Self:
        """A copy with settings applied: `["training.epochs=3"]` as on the command line, or a mapping with dotted keys,
        `{"training.epochs": 3}`, or a nested one, `{"training": {"epochs": 3}}`. Parts change as in `change`. Of two
        settings for one key the later counts.
        """
        part = parts(self)
        return self.parse(merge(part, nested(assignments(settings, part)), "the recipe"))


def _check_outside(part: Config, where: str, known: Sequence[type[BaseModel]], kinds: Sequence[Kinds]) -> None:
    """Check a part of a class from outside: it must extend the base of its kinds, and no known class."""
    own = isinstance(part, tuple(known))
    if own or not any(isinstance(part, one.base) for one in kinds):
        raise ConfigError(
            f"Found {where}, which would be built as another one; expected "
            + ", ".join(one.__name__ for one in known)
            + "".join(f", or a class of your own that extends {one.base.__name__} itself" for one in kinds)
            + "."
        )
    if "kind" in type(part).model_fields:
        raise ConfigError(
            f"The class {type(part).__name__} is not of facta and declares a kind; leave it out: its kind is "
            f"'{type(part).__module__}:{type(part).__qualname__}', where a saved recipe finds it."
        )


@contextmanager
def _as_config_error(values: Mapping[str, Any]) -> Iterator[None]:
    """Turn pydantic's errors on `values` into a ConfigError."""
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
    """The keys as the user writes them: pydantic's location also has the members of unions, which are no keys."""
    keys = []
    for part in place:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            continue
        keys.append(str(part))
    return keys
