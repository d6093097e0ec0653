"""Types of the arguments of public functions: a wrong type raises a sentence before anything is read or written.

    @arguments(out=PATH, overwrite=FLAG)
    def save(out, overwrite=False): ...

Only types are checked, one level deep; the functions check values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import wraps
from inspect import signature
from os import PathLike
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from facta.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")


class Kind(NamedTuple):
    """A kind of values: its name for messages, and its test."""

    name: str
    holds: Callable[[Any], bool]

    def __or__(self, other: Kind) -> Kind:
        return Kind(f"{self.name} or {other.name}", lambda value: self.holds(value) or other.holds(value))


def instance(name: str, *types: type) -> Kind:
    return Kind(name, lambda value: isinstance(value, types))


def several(name: str, entry: Kind) -> Kind:
    """A collection with entries of one kind; a text is not a collection."""
    return Kind(
        name,
        lambda value: isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))
        and all(entry.holds(one) for one in value),
    )  # fmt: skip


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


NONE = instance("None", type(None))
TEXT = instance("a text", str)
PATH = Kind("a path", lambda value: isinstance(value, str | PathLike) and isinstance(_fspath(value), str))
FLAG = instance("True or False", bool, np.bool_)
WHOLE = Kind("a whole number", _whole)
CALLABLE = instance("a function", Callable)  # type: ignore[arg-type]
NAMES = Kind(
    "a mapping of names to names, as in {'user_id': 'uid'}",
    lambda value: isinstance(value, Mapping) and all(isinstance(one, str) for pair in value.items() for one in pair),
)
DECLARED = Kind(
    "a list of column names or a mapping of them",
    lambda value: isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    and all(isinstance(one, str) for one in value),
)  # fmt: skip


def _fspath(value: Any) -> Any:
    return value if isinstance(value, str) else value.__fspath__()


def arguments(**kinds: Kind) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function to raise ConfigError for an argument that is not of the kind given for its name."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        known = signature(function)
        assert kinds.keys() <= known.parameters.keys()

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = known.bind(*args, **kwargs).arguments
            except TypeError:
                return function(*args, **kwargs)  # Python's own error names a missing or unknown argument
            for name, kind in kinds.items():
                if name in given and not kind.holds(given[name]):
                    raise unlike(name, given[name], kind.name)
            return function(*args, **kwargs)

        return checked

    return decorate


def unlike(name: str, value: Any, expected: str) -> ConfigError:
    """The error for an argument of another type."""
    shown = re.sub(r"\s+", " ", repr(value))
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return ConfigError(f"Found {name} = {shown}, of type {type(value).__name__}; expected {expected}.")


def silent(*_: object) -> None:
    """A progress callback that does nothing."""
