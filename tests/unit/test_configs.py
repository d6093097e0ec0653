"""`facta.configs`: every class that a recipe can be made of, and a recipe made of them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import facta
from facta import configs
from facta.config import Config
from facta.kinds import Kinds
from facta.recipes.find import every, find


def classes(annotation: Any, beside: Any = ()) -> Iterator[type[BaseModel]]:
    """The configs that a field may hold, in whatever it wraps them."""
    for one in (annotation, *beside):
        if isinstance(one, Kinds):
            yield from (one.base, *one.known)
        elif isinstance(one, type) and issubclass(one, BaseModel):
            yield one
        else:
            for inner in get_args(one):
                yield from classes(inner)


def reachable(of: type[BaseModel], found: set[type[BaseModel]]) -> set[type[BaseModel]]:
    if of not in found:
        found.add(of)
        for field in of.model_fields.values():
            for one in classes(field.annotation, field.metadata):
                reachable(one, found)
    return found


def test_every_class_of_a_recipe_is_there_and_nothing_else() -> None:
    needed = reachable(configs.RecipeConfig, set())
    assert len(needed) > 35, "the walk does not arrive"
    shown = {getattr(configs, name) for name in configs.__all__}
    assert {one.__name__ for one in needed - shown} == set()
    assert {one.__name__ for one in shown - needed} == set()
    assert len(configs.__all__) == len(set(configs.__all__))
    assert all(name == getattr(configs, name).__name__ for name in configs.__all__)
    assert facta.configs is configs


@pytest.mark.parametrize("name", sorted(configs.__all__))
def test_a_class_says_its_settings_to_an_editor(name: str) -> None:
    of: type[Config] = getattr(configs, name)
    assert {*inspect.signature(of).parameters} == {*of.model_fields}


def test_the_list_of_kinds_is_written_where_a_checker_of_types_reads_it() -> None:
    """A list that is computed gives no completion: only literals and `+= module.__all__` do."""
    tree = ast.parse(Path(configs.__file__).read_text(encoding="utf-8"))
    added = [ast.unparse(node.value) for node in tree.body if isinstance(node, ast.AugAssign)]
    assert added == [f"{module}.__all__" for module in ("_encoders", "_histories", "_models", "_similarities")]


@pytest.mark.parametrize("name", sorted(name for name in every() if not name.startswith("debug/")))
def test_every_recipe_is_made_of_these_classes(name: str) -> None:
    """Its parts, taken apart and put together by their public names."""
    recipe = find(name)
    assert rebuilt(recipe) == recipe


def rebuilt(part: Any) -> Any:
    if not isinstance(part, Config):
        return {key: rebuilt(one) for key, one in part.items()} if isinstance(part, dict) else part
    of = getattr(configs, type(part).__name__)
    return of(**{key: rebuilt(getattr(part, key)) for key in type(part).model_fields})
