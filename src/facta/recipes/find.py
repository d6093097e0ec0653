"""Recipes by name: "movielens-100k/hstu" is the function `hstu` of `facta.recipes.movielens_100k`."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from inspect import isfunction

import facta.recipes
from facta.errors import ConfigError
from facta.recipes.recipe import RecipeConfig

_TOOLS = ("find", "fit", "recipe")  # modules of this folder that hold no recipes


def find(name: str) -> RecipeConfig:
    """The whole configuration of a recipe. Raises ConfigError that lists what there is."""
    recipes = every()
    if name in recipes:
        return recipes[name]()
    folder = name.partition("/")[0]
    near = [other for other in recipes if other.startswith(f"{folder}/")]
    if near:
        raise ConfigError(f"There is no recipe '{name}'; {folder} has: {', '.join(near)}.")
    folders = sorted({other.partition("/")[0] for other in recipes})
    raise ConfigError(
        f"There is no recipe '{name}'; expected FOLDER/SYSTEM as in movielens-100k/hstu, with FOLDER one of "
        f"{', '.join(folders)} (`facta info --recipes` lists all)."
    )


def every() -> dict[str, Callable[[], RecipeConfig]]:
    """Name -> function, sorted: the public functions of the modules in this folder."""
    found = {}
    for module in pkgutil.iter_modules(facta.recipes.__path__):
        if module.name not in _TOOLS:
            found.update(_functions(f"facta.recipes.{module.name}", module.name.replace("_", "-")))
    return dict(sorted(found.items()))


def _functions(path: str, folder: str) -> dict[str, Callable[[], RecipeConfig]]:
    public = {name: value for name, value in vars(import_module(path)).items() if not name.startswith("_")}
    return {
        f"{folder}/{name.replace('_', '-')}": value
        for name, value in public.items()
        if isfunction(value) and value.__module__ == path
    }
