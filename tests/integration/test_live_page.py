"""docs/live.md: its blocks run as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_readme import blocks
from tests.unit.test_engine import artifact

PAGE = Path(__file__).resolve().parents[2] / "docs" / "live.md"


def test_the_python_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scope = dict[str, object](artifact=artifact(timed=True, ids=list(range(12))))
    for code in blocks(PAGE, "python"):
        exec(compile(code, "live.md", "exec"), scope)
    first, second, *why, stored, sources = capsys.readouterr().out.splitlines()
    assert (
        len(why) == 3 and all("changes the score of" in line for line in why) and any("item 3 " in line for line in why)
    )
    assert first != second, "two more events change the list"
    assert stored == first, "an engine that begins knows what the one before was told"
    assert sources == "[['model'], ['popularity']]"
