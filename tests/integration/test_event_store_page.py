"""docs/event_store.md: its blocks run as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_readme import blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "event_store.md"


def test_the_python_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scope = dict[str, object]()
    for code in blocks(PAGE, "python"):
        exec(compile(code, "event_store.md", "exec"), scope)
    first, duplicates, change, nothing = capsys.readouterr().out.splitlines()
    assert first == "Appended(ids=('a1',), accepted=1, duplicates=0)" and duplicates == "1"
    assert change.startswith("17 (StoredEvent(id='a1', item=3, ") and nothing == "{}"
