"""House numbers and what tracked files may not hold."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE_LINES, FILE_LINES, FUNCTION_LINES, POSITIONAL = 400, 500, 80, 7

_HOME = re.compile(r"(?<![\w.:/])/(?:home|Users|root|work|workspace|mnt|scratch)/\w")
# Written in two pieces, so that this file does not find itself.
_REGISTRY = re.compile(
    "|".join((r"files\.python" + r"hosted", r"pypi" + r"\.org", r"download\.py" + r"torch", r"/opt/" + r"pypi"))
)


def tracked() -> list[Path]:
    run = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if run.returncode:
        return []
    return [path for line in run.stdout.split("\0") if line and (path := ROOT / line).is_file()]


PYTHON = [
    path for folder in ("src", "tests", "benchmarks", "examples") for path in sorted((ROOT / folder).rglob("*.py"))
]


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PYTHON, ids=label)
def test_house_numbers(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    most = SOURCE_LINES if label(path).startswith("src/") else FILE_LINES
    assert text.count("\n") <= most, f"{label(path)} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            where = f"{label(path)}:{node.lineno} {node.name}"
            assert (node.end_lineno or node.lineno) - node.lineno < FUNCTION_LINES, f"{where} is too long"
            positional = [a for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
            assert len(positional) <= POSITIONAL or _is_command(path) or _is_operator(node), (
                f"{where} has {len(positional)} positional parameters"
            )
            keywords = node.args.kwarg
            assert keywords is None or not keywords.arg.endswith("_kwargs"), (
                f"{where} takes **{keywords and keywords.arg}"
            )


def _is_command(path: Path) -> bool:
    """typer reads a command's options from its parameters; nobody calls these by position."""
    return label(path).startswith("src/facta/cli/")


def _is_operator(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """torch reads the schema of an operator from its parameters; one function of ours calls each."""
    return any("custom_op" in ast.unparse(decorator) for decorator in node.decorator_list)


def test_files_are_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout: nothing says which files are tracked")
    assert len(tracked()) > 100, "nothing would be looked at below"


def test_tracked_files_hold_no_machine_paths_and_no_registries() -> None:
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            assert not _HOME.search(line), f"{label(path)}:{number} names a path of one machine: {line[:100]}"
            assert not _REGISTRY.search(line), f"{label(path)}:{number} names a package registry: {line[:100]}"


def test_tracked_files_are_small() -> None:
    """Data and weights belong elsewhere."""
    for path in tracked():
        assert path.stat().st_size <= 1 << 20, f"{label(path)} has {path.stat().st_size:,} bytes"


def test_nothing_is_unfinished() -> None:
    marks = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error")))
    for path in PYTHON:
        if "tests" not in path.relative_to(ROOT).parts:
            assert not marks.search(path.read_text(encoding="utf-8")), label(path)
