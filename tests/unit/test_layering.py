"""Who may import whom, one door per dependency, and an import that stays light: the rules of CONTRIBUTING, held."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import facta

SOURCE = Path(facta.__file__).parent

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
ORDER = [*reversed(CONTRACTS[0]["layers"])]
"""A part may import itself and what stands before it: `make check` holds it, and what a part may not know."""

DOORS: dict[str, tuple[str, ...]] = {
    "torch.distributed": ("training/parallel.py", "training/launch.py"),
    "matplotlib": ("eval/draw.py",),
    "jinja2": ("eval/page.py",),
    "typer": ("cli/",),
    "rich": ("cli/", "training/log.py"),
    "tensorboard": ("training/log.py", "training/journal.py"),
    "torch.utils.tensorboard": ("training/log.py", "training/journal.py"),
    "sqlalchemy": ("store/",),
    "psycopg": ("store/postgresql.py",),
    "sqlite3": ("store/sqlite.py",),
    "urllib": ("data/public/origins.py", "serve/paths.py", "serve/client.py"),
    "http": ("serve/problems.py",),
    "socket": ("serve/wire.py", "serve/checks.py"),
    "fastapi": ("serve/app.py", "serve/bodies.py"),
    "starlette": ("serve/",),
    "uvicorn": ("serve/run.py",),
    "httpx": ("serve/client.py",),
    "requests": (),
    "pandas": (),
    "pickle": (),
    "marshal": (),
    "shelve": (),
    "dill": (),
    "joblib": (),
}
"""Who may import what; nobody else, not even inside a function."""

MATHEMATICS = ("ops/", "layers/", "similarity/", "layouts/", "encoders/", "objectives/", "models/")
FITS = ("training/", "recipes/", "eval/fitting.py", "eval/tuning.py", "data/split/statistics.py")
"""Where models are, and where they are fitted and chosen."""


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a file names, at its top or inside a function; `from a import b` counts as a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_the_documents_name_the_parts_in_this_order() -> None:
    rules = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    assert f"Imports go up this list only: {', '.join(ORDER)}." in rules
    tree = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^  (.*)    the ground floor$", tree, re.M)[0].split() == list(ORDER[: ORDER.index("data")])


@pytest.mark.parametrize("path", files(), ids=name)
def test_the_facade_is_for_users(path: Path) -> None:
    if name(path) == "__main__.py":
        return
    for module in imported(parse(path)):
        whole, _, what = module.partition(".")
        assert whole != "facta" or not what or what.split(".")[0] in ORDER, f"{name(path)} imports {module}"


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Imports for types and inside functions count too."""
    modules = {".".join(("facta", *path.relative_to(SOURCE).with_suffix("").parts)): path for path in files()}
    needs = {module: set(imported(parse(path))) & set(modules) for module, path in modules.items()}
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", [path for path in files() if name(path).startswith(MATHEMATICS)], ids=name)
def test_models_are_given_tensors_and_read_no_log(path: Path) -> None:
    """What they take from training events they ask `Statistics` for."""
    logs = {f"facta.data.{file}" for file in ("dataset.dataset", "split.splits", "split.late")}
    logs |= {f"facta.data.batches.{file}" for file in ("stream", "stored")}
    for module in imported(parse(path)):
        assert module not in logs and module.split(".")[-1] not in ("Dataset", "Split"), f"{name(path)}: {module}"


@pytest.mark.parametrize("path", [path for path in files() if name(path).startswith((*MATHEMATICS, *FITS))], ids=name)
def test_what_fits_and_chooses_does_not_know_the_test(path: Path) -> None:
    """What could ask the test is not even imported. One file measures, when everything has been chosen."""
    if name(path) == "recipes/measure.py":
        return
    asks = {"facta.eval.evaluation.evaluate", "facta.eval.predict.predict", "facta.eval.held_out.events_of_test"}
    asks |= {"facta.eval", "facta.eval.experiment", "facta.recipes.measure"}
    asks |= {f"facta.data.split.splits.{one}" for one in ("TestRequests", "leave_one_out_test", "temporal_test")}
    assert not asks & set(imported(parse(path))), name(path)


@pytest.mark.parametrize("path", files(), ids=name)
def test_one_door_per_dependency(path: Path) -> None:
    for module in imported(parse(path)):
        for dependency, doors in DOORS.items():
            if module == dependency or module.startswith(f"{dependency}."):
                assert name(path).startswith(doors) if doors else False, f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", files(), ids=name)
def test_printing_and_unpickling(path: Path) -> None:
    may_print = name(path).startswith(("cli/", "training/log.py"))
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called != "print" or may_print, f"{name(path)}:{node.lineno} prints"
            assert called not in ("sys.stdout.write", "sys.stderr.write") or may_print, f"{name(path)}:{node.lineno}"
            assert called not in ("torch.load", "torch.save", "eval", "exec"), f"{name(path)}:{node.lineno} {called}"
            allowed = [k for k in node.keywords if k.arg == "allow_pickle" and ast.unparse(k.value) != "False"]
            assert not allowed, f"{name(path)}:{node.lineno} allows pickle"


def test_the_systems_that_it_runs_on_are_said() -> None:
    """Windows has neither fcntl nor resource."""
    needed = {module for path in files() for module in imported(parse(path))}
    assert needed & {"fcntl", "resource"}
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    systems = {line for line in classifiers if line.startswith("Operating System")}
    assert systems == {"Operating System :: MacOS", "Operating System :: POSIX :: Linux"}
    assert "You need Linux or macOS" in (ROOT / "README.md").read_text(encoding="utf-8")


LIGHT = """
import sys, time
start = time.process_time()
import numpy, polars, pydantic, torch
libraries = time.process_time()
import facta
names = [getattr(facta, name) for name in (*facta.__all__, "__version__", "configs")]
share = (time.process_time() - libraries) / (libraries - start)
heavy = {"typer", "rich", "matplotlib", "pandas", "tensorboard", "torch.utils.tensorboard", "scipy", "numba", "ranx"}
heavy |= {"safetensors", "pyarrow"}
print(share, *sorted(heavy & set(sys.modules)))
"""


def test_all_of_facta_is_quick_to_import_and_needs_little() -> None:
    """Every public name, beside what the libraries take, in processor time, the best of three: other tests keep the
    machine busy, and files may be cold."""
    best, heavy = float("inf"), set()
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
        share, *loaded = run.stdout.split()
        best, heavy = min(best, float(share)), set(loaded)
        if best < 0.4:
            break
    assert not heavy
    assert best < 0.4


BARE = """
import importlib, pkgutil, sys
import facta, facta.store
for module in pkgutil.iter_modules(facta.store.__path__):
    importlib.import_module(f"facta.store.{module.name}")
store = facta.store.opening.open_store(f"sqlite:///{sys.argv[1]}")
status = open("/proc/self/status").read() if sys.platform == "linux" else "VmRSS: 0 kB"
print(int(status.split("VmRSS:")[1].split()[0]) // 1024, *sorted({"torch", "polars", "pyarrow"} & set(sys.modules)))
store.close()
import facta.data.dataset.ids, facta.data.dataset.times
assert "torch" not in sys.modules
"""


def test_a_process_that_only_stores_is_small(tmp_path: Path) -> None:
    """It holds what HTTP needs, and leaves torch (200 MB) and polars (35 MB) to the process that answers."""
    run = subprocess.run([sys.executable, "-c", BARE, tmp_path / "a.db"], capture_output=True, text=True, check=True)
    megabytes, *heavy = run.stdout.split()
    assert heavy == []
    assert int(megabytes) < 80


SPEAKS = """
import sys
import facta.serve.app, facta.serve.run
status = open("/proc/self/status").read() if sys.platform == "linux" else "VmRSS: 0 kB"
print(int(status.split("VmRSS:")[1].split()[0]) // 1024, *sorted({"torch", "polars", "pyarrow"} & set(sys.modules)))
"""


def test_the_process_that_speaks_http_never_imports_torch() -> None:
    """What computes is a process of its own."""
    run = subprocess.run([sys.executable, "-c", SPEAKS], capture_output=True, text=True, check=True)
    megabytes, *heavy = run.stdout.split()
    assert heavy == []
    assert int(megabytes) < 110
