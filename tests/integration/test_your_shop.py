"""docs/your_shop.md keeps its word: its commands run as printed, in order, from an empty folder."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.integration.conftest import Facta
from tests.integration.test_readme import ROOT, commands

PAGE = ROOT / "docs" / "your_shop.md"


def test_every_command_of_the_page_runs_in_order(facta: Facta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed = commands(PAGE)
    assert len(typed) >= 15 and all(line.startswith("facta ") for line in typed)
    said = {line: facta(*shlex.split(line)[1:]) for line in typed}
    failed = {line: (one.err or one.out)[-600:] for line, one in said.items() if one.code != 0}
    assert not failed
    compared = next(one.out for line, one in said.items() if "--out results/your-shop" in line)
    assert "own-log/hstu" in compared and "mask=nothing" in compared
    assert "own-log/rules against own-log/hstu" in compared
    answers = {
        part: next(one.out for line, one in said.items() if line.startswith("facta evaluate") and part in line)
        for part in ("state=frozen", "mask=history", "rank=trained")
    }
    for part, out in answers.items():
        assert part in out  # of the protocol's id, above the table
