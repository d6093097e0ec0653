"""Parts of a config that come in kinds: facta's own classes, and classes from outside.

The `kind` of one of facta's parts names its class. A class from outside has no such field: its kind is `module:Class`,
from which it can be imported. Only modules named by a person are imported: in Python by their own import, elsewhere
within `importing`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import BaseModel, Field, GetCoreSchemaHandler, SerializationInfo
from pydantic_core import CoreSchema, core_schema

from facta.errors import ConfigError

_importing: ContextVar[bool] = ContextVar("importing", default=False)


@dataclass(frozen=True)
class Kinds:
    """Annotation of a field: a part of one of the `known` classes, or of a class from outside that extends `base`.

    `Annotated[EncoderConfig, Kinds(EncoderConfig, (HSTUConfig, GRUConfig))]`
    """

    base: type[BaseModel]
    known: tuple[type[BaseModel], ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        union: Any = Union[self.known]  # noqa: UP007 - of a tuple
        one = handler.generate_schema(Annotated[union, Field(discriminator="kind")] if len(self.known) > 1 else union)
        return core_schema.no_info_wrap_validator_function(
            self._validated,
            one,
            serialization=core_schema.plain_serializer_function_ser_schema(_plain, info_arg=True),
        )

    def _validated(self, value: Any, known: Callable[[Any], Any]) -> Any:
        if isinstance(value, self.base) and not isinstance(value, self.known):
            return value
        kind = value.get("kind") if isinstance(value, Mapping) else None
        if not isinstance(kind, str) or ":" not in kind:
            return known(value)
        given = {key: one for key, one in value.items() if key != "kind"}
        return outside(kind, self.base).parse(given)

    def of(self, kind: Any) -> type[BaseModel] | None:
        """The class of a kind; None if unknown."""
        if isinstance(kind, str) and ":" in kind:
            found: type[BaseModel] = outside(kind, self.base)
            return found
        return next((one for one in self.known if kind in kinds_of(one)), None)


def plain(part: BaseModel) -> dict[str, Any]:
    """A part as plain values with its kind, as its holder's `parse` takes them."""
    values = part.model_dump(mode="json")
    return values if "kind" in type(part).model_fields else {"kind": kind_of(part), **values}


def _plain(part: BaseModel, info: SerializationInfo) -> dict[str, Any]:
    values = part.model_dump(mode=info.mode, exclude_defaults=info.exclude_defaults)
    return values if "kind" in type(part).model_fields else {"kind": kind_of(part), **values}


def kinds_of(of: type[BaseModel]) -> tuple[str, ...]:
    """The kinds of a class; none for a class from outside."""
    field = of.model_fields.get("kind")
    return () if field is None else tuple(field.annotation.__args__)  # type: ignore[union-attr]


def kind_of(part: BaseModel) -> str:
    """The kind of a part: `hstu`, or `my_encoders:Linear` for a class from outside."""
    return str(getattr(part, "kind", f"{type(part).__module__}:{type(part).__qualname__}"))


def outside(kind: str, base: type) -> Any:
    """The class or instance of `base` that `module:name` names. Raises ConfigError."""
    module, _, name = kind.partition(":")
    if module not in sys.modules and not _importing.get():
        raise ConfigError(
            f"'{kind}' is no part of facta, and its module '{module}' is not imported: import it before you load this, "
            f"or name it on the command line, as in facta --import {module} info ARTIFACT. Importing runs its code."
        )
    import_named(module, f", and '{kind}' needs it")
    found = getattr(sys.modules[module], name, None)
    if found is None:
        raise ConfigError(f"The module '{module}' has no '{name}', and '{kind}' needs it.")
    if not (isinstance(found, type) and issubclass(found, base)) and not isinstance(found, base):
        raise ConfigError(f"'{kind}' is no {base.__name__}; expected a class that extends it.")
    return found


def import_named(module: str, why: str = "") -> None:
    """Import a module named by a person, installed or in the current folder. Raises ConfigError."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last, so that a file here does not shadow an installed module
    try:
        import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"The module '{module}' cannot be imported ({error}){why}: install it, or call facta from the folder that "
            "holds it."
        ) from error


@contextmanager
def importing() -> Iterator[None]:
    """A context in which parts from outside are imported, since a person has named them, as in a recipe."""
    token = _importing.set(True)
    try:
        yield
    finally:
        _importing.reset(token)
