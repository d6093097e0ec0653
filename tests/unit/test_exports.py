"""The facade: what is published, and that it is what the documentation calls."""

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from inspect import isfunction, signature
from pathlib import Path

import pytest

import facta
from facta import api


def test_the_list_of_public_names_is_sorted_and_true() -> None:
    assert facta.__all__ == sorted(facta.__all__)
    assert all(hasattr(facta, name) for name in facta.__all__)
    assert facta.__version__ == version("facta")


def test_checkers_of_types_and_python_are_told_the_same_homes() -> None:
    tree = ast.parse(Path(facta.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    typed = {
        str(node.module): {name.name for name in node.names}
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module not in ("facta", "pathlib")
    }
    homes = {home: set(names.split()) for home, names in facta._HOMES.items()}
    assert typed == homes
    errors = {name for name in vars(facta.errors) if name.endswith(("Error", "Warning"))}
    assert set().union(*homes.values(), errors, {"load"}) == set(facta.__all__)


FRESH = """
import sys
import facta
assert "torch" not in sys.modules and not hasattr(facta, "trian")
assert {*facta.__all__, "__version__", "configs"} <= set(dir(facta))
from facta import *
assert all(name in globals() for name in facta.__all__)
from facta import configs, load, __version__
assert facta.configs is configs and load == facta.Artifact.load and facta.load is load
assert facta.History.__module__ == "facta.infer.history"
import facta.no_such_module
"""


def test_names_of_a_fresh_process_come_when_they_are_used() -> None:
    run = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=False)
    assert run.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'facta.no_such_module'"


def test_every_error_for_people_has_one_root_and_is_published() -> None:
    import facta.errors as errors

    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert {one.__name__ for one in classes} <= set(facta.__all__)
    assert all(issubclass(one, (facta.FactaError, UserWarning)) for one in classes)


def test_every_verb_of_the_api_is_published() -> None:
    public = {name for name, value in vars(api).items() if isfunction(value) and not name.startswith("_")}
    verbs = {name for name in public if vars(api)[name].__module__ == "facta.api"}
    assert {"doctor", "train", "evaluate", "tune"} <= verbs <= set(facta.__all__)


@pytest.mark.parametrize("verb", [facta.prepare, facta.evaluate, facta.predict, facta.tune])
def test_what_hears_of_progress_has_one_name(verb: Callable[..., object]) -> None:
    assert "progress" in signature(verb).parameters


def test_no_public_name_hides_a_module() -> None:
    """`import facta.x.y as z` fails where `facta.x` is a public function and a folder."""
    modules = {module.name for module in pkgutil.iter_modules(facta.__path__)}
    assert "training" in modules
    assert not modules & set(facta.__all__)
