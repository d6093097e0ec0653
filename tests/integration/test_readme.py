"""The documents keep their word: paths exist, commands and options are real, and the Python of the README runs."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import polars as pl
import pytest
import typer

import facta
from facta.cli import app
from tests.worlds import cycle

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
VERBS = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]

MADE = ("benchmarks/figures.jsonl",)  # by the first measurement


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Lines that a reader would type: `$ facta …` in console blocks, lines continued by a backslash joined."""
    text = "\n".join(blocks(page, "console")).replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_and_links_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]
    links += re.findall(r"(?:src|href)=\"([^\"#:]+)\"", text)
    quoted = re.findall(r"`((?:src|tests|docs|scripts|benchmarks|examples)/[\w./-]+)`", text)
    missing = [target for target in links if not (page.parent / target).exists()]
    missing += [target for target in quoted if not (ROOT / target).exists() and target not in MADE]
    assert not missing, f"{name(page)} speaks of {missing}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_options_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in commands(page):
        words = [word for word in shlex.split(line.split("#")[0]) if "=" not in word or word.startswith("--")]
        if words[0] == "make":
            assert words[1] in targets, line
        if words[0].split("/")[-1] == "facta" and not words[1].startswith("-"):
            assert words[1] in VERBS, line
            verb = VERBS[words[1]]
            verb = getattr(verb, "commands", {}).get(words[2], verb)  # facta data NAME
            known = {option for parameter in verb.params for option in parameter.opts}
            unknown = [word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word) and word not in known]
            assert not unknown, f"{name(page)}: {line}: {unknown}"


def test_every_verb_is_in_the_readme() -> None:
    typed = " ".join(commands(ROOT / "README.md"))
    assert not [verb for verb in VERBS if f"facta {verb}" not in typed]


def test_the_file_map_names_every_folder() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    folders = [path.name for path in (ROOT / "src" / "facta").iterdir() if (path / "__init__.py").exists()]
    assert not [folder for folder in folders if f"{folder}/" not in text]


def test_a_reading_path_follows_the_imports_through_six_files_at_most() -> None:
    rows = [
        line for line in (ROOT / "docs" / "reading_order.md").read_text().splitlines() if line.startswith("| `facta")
    ]
    assert {re.search(r"`facta (\w+)`", row)[1] for row in rows} == set(VERBS)  # type: ignore[index]
    for row in rows:
        first, *others = re.findall(r"`src/([\w/]+)\.py`", row)
        assert len(others) < 6, row
        read = imported(first)
        for path in others:
            assert path.replace("/", ".") in read, f"nothing before {path} imports it: {row}"
            read |= imported(path)


def imported(path: str) -> set[str]:
    """The modules that a file below src/ names at its top: `from a import b` counts as a and a.b."""
    nodes = ast.parse((ROOT / "src" / f"{path}.py").read_text(encoding="utf-8")).body
    found = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return {str(node.module) for node in found} | {
        f"{node.module}.{name.name}" for node in found for name in node.names
    }


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, but with a recipe that trains in a second."""
    found = blocks(ROOT / "README.md", "python")
    assert found
    monkeypatch.chdir(tmp_path)
    cycle().write_csv("events.csv")
    cycle().select(pl.col("item_id").unique()).with_columns(title=pl.format("item {}", "item_id")).write_csv(
        "items.csv"
    )
    text = re.sub(r"(?:movielens-1(?:00k|m)|own-log)/", "debug/", "\n".join(found))
    scope: dict[str, object] = {}
    exec(compile(text, "README.md", "exec"), scope)
    assert isinstance(scope["artifact"], facta.Artifact) and isinstance(scope["answer"], facta.Answer)
    assert scope["answer"].ids[0]
