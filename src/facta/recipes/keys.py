"""All settings of a recipe by their dotted keys: type, value, default, allowed values, and meaning."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from facta.config import Config
from facta.kinds import kind_of, kinds_of
from facta.settings import part_classes

_SIGNS = {annotated_types.Ge: ">=", annotated_types.Gt: ">", annotated_types.Le: "<=", annotated_types.Lt: "<"}


class Key(NamedTuple):
    """One setting, as `--set` names it."""

    key: str  # training.epochs
    type: str
    value: Any  # of this recipe
    default: Any  # of the config class; "required" without a default
    allowed: str  # "" if the type is enough
    description: str


def keys(config: Config, prefix: str = "") -> Iterator[Key]:
    """Every key of a config and of the configs in it, in the order of their classes.

    For a part with several kinds these are the keys of its present kind; `kind` lists the kinds.
    """
    for name, field in type(config).model_fields.items():
        value, key = getattr(config, name), f"{prefix}{name}"
        if isinstance(value, Config):
            yield from _of_kinds(value, field, key)
            yield from (one for one in keys(value, f"{key}.") if one.key != f"{key}.kind")
            continue
        yield Key(
            key, _type(field.annotation), _plain(value), _default(field), _allowed(field), field.description or ""
        )
        if value is None:
            yield from _of_empty_part(field, key)


def _of_kinds(part: Config, field: FieldInfo, key: str) -> Iterator[Key]:
    """The key `kind` of a part, with all its kinds."""
    if "kind" not in type(part).model_fields:
        return
    own = type(part).model_fields["kind"]
    kinds = [kind for one in part_classes(field) for kind in kinds_of(one)]
    yield Key(f"{key}.kind", "text", kind_of(part), _default(own), ", ".join(kinds), "")


def _of_empty_part(field: FieldInfo, key: str) -> Iterator[Key]:
    """The keys of a part that this recipe leaves out, with the values that {} gives."""
    for one in part_classes(field)[:1]:
        for name, inner in one.model_fields.items():
            yield Key(
                f"{key}.{name}",
                _type(inner.annotation),
                None,
                _default(inner),
                _allowed(inner),
                inner.description or "",
            )


def _type(annotation: Any) -> str:
    """The type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null", Any: "any"}
    if annotation in names:
        return names[annotation]
    if origin is Literal:
        return "text" if all(isinstance(one, str) for one in inner) else "choice"
    if origin is Annotated:
        return _type(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(one) for one in inner))
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return "part"
    if isinstance(origin, type) and issubclass(origin, (tuple, list)):
        return f"list of {_type(inner[0])}s" if inner else "list"
    return "mapping" if origin is not None else getattr(annotation, "__name__", str(annotation))


def _allowed(field: FieldInfo) -> str:
    """Choices and bounds."""
    named = field.json_schema_extra.get("of", []) if isinstance(field.json_schema_extra, dict) else []
    found = [str(choice) for choice in [*_choices(field.annotation), *named]]  # type: ignore[misc]
    said = [", ".join(found)] if found else []
    for bound in [*field.metadata, *_metadata(field.annotation)]:
        for kind, sign in _SIGNS.items():
            if isinstance(bound, kind):
                said.append(f"{sign} {getattr(bound, kind.__name__.lower())}")
    return " and ".join(said)


def _choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return [choice for inner in get_args(annotation) for choice in _choices(inner)]
    return []


def _metadata(annotation: Any) -> list[Any]:
    """Bounds within a type, as of PositiveInt."""
    if get_origin(annotation) is Annotated:
        return list(get_args(annotation)[1:])
    if get_origin(annotation) in (Union, UnionType):
        return [one for inner in get_args(annotation) for one in _metadata(inner)]
    return []


def _default(field: FieldInfo) -> Any:
    return "required" if field.is_required() else _plain(field.get_default(call_default_factory=True))


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Config) else value
