"""Recipes by name: "movielens-1m/hstu" is the function `hstu` of `facta.recipes.movielens_1m`.

A module may derive its recipes from another module, named as `BASE`, by a function `derive`: "debug/hstu" is
`debug.derive(movielens_1m.hstu())` under its own name. Other functions of such a module are recipes too.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import getdoc, isfunction
from pathlib import Path
from types import ModuleType

import facta.recipes
from facta.errors import ConfigError
from facta.kinds import importing
from facta.recipes.recipe import RecipeConfig

Build = Callable[[], RecipeConfig]
_TOOLS = ("classical", "days", "find", "fit", "keys", "measure", "prior", "recipe", "sizing")  # modules without recipes


def find(name: str) -> RecipeConfig:
    """The whole configuration of a recipe, by name or from a JSON file. Raises ConfigError with the names that exist.

    Imports parts from outside that the file names.
    """
    recipes = every()
    if name in recipes:
        return recipes[name]()
    if name.endswith(".json"):
        return read(Path(name))
    folder = name.partition("/")[0]
    near = [other for other in recipes if other.startswith(f"{folder}/")]
    if near:
        raise ConfigError(f"There is no recipe '{name}'; {folder} has: {', '.join(near)}.")
    folders = sorted({other.partition("/")[0] for other in recipes})
    raise ConfigError(
        f"There is no recipe '{name}'; expected FOLDER/SYSTEM as in movielens-100k/hstu, with FOLDER one of "
        f"{', '.join(folders)} (`facta info --recipes` lists all)."
    )


def read(path: Path) -> RecipeConfig:
    """A recipe from a file as `facta info RECIPE --json` prints it, or from the config.json of an artifact; missing
    keys have their defaults. Raises ConfigError.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The recipe '{path}' cannot be read ({error}); expected JSON, as `facta info RECIPE --json` prints it."
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"The recipe '{path}' is no JSON object; expected one with the keys name, model and training."
        )
    try:
        with importing():
            return RecipeConfig.parse(values)
    except ConfigError as error:
        raise ConfigError(f"In the recipe '{path}': {error}") from error


def every() -> dict[str, Build]:
    """Name -> function that builds the recipe, sorted, for all modules of this folder."""
    found: dict[str, Build] = {}
    for module in pkgutil.iter_modules(facta.recipes.__path__):
        if module.name not in _TOOLS:
            found.update(_recipes(import_module(f"facta.recipes.{module.name}")))
    return dict(sorted(found.items()))


def summary(build: Build) -> str:
    """Description of a recipe: the first paragraph of its function's docstring."""
    made = build.args[1] if isinstance(build, partial) else build
    return " ".join((getdoc(made) or "").partition("\n\n")[0].split())


def _recipes(module: ModuleType) -> dict[str, Build]:
    folder = module.__name__.rpartition(".")[2].replace("_", "-")
    base: ModuleType = getattr(module, "BASE", module)
    systems = {f"{folder}/{system}": build for system, build in _functions(base).items()}
    if base is module:
        return systems
    derived = {name: partial(_derived, name, build, module.derive) for name, build in systems.items()}
    added = {f"{folder}/{system}": build for system, build in _functions(module).items() if system != "derive"}
    return {**derived, **added}


def _derived(name: str, build: Build, derive: Callable[[RecipeConfig], RecipeConfig]) -> RecipeConfig:
    return derive(build()).change(name=name)


def _functions(module: ModuleType) -> dict[str, Build]:
    """System -> function, for the public functions that a module defines itself."""
    return {
        name.replace("_", "-"): value
        for name, value in vars(module).items()
        if isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
