"""Every broken input of the benchmark gives one sentence or a stated repair through the real command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.quality.broken_inputs import CASES

from tests.robustness.cases import Answer, Case, judge

KINDS = {
    *("missing columns", "mixed units", "NaN", "negative and far-future timestamps", "duplicate and empty files"),
    *("unicode and 64-bit ids", "one-event users", "unknown users and items", "truncated Parquet", "wrong checksum"),
    *("quotation marks", "paths like patterns", "events that come twice", "ends and beginnings of text files"),
    *("JSON-lines that are none", "folders", "times that are none", "ids that lost something", "names with markup"),
    *("tables that do not meet the log", "columns without a role", "narrow and closed outputs", "odd seeds"),
    *("two commands and signals",),
    *("read-only folder", "full disk", "interrupted download", "wrong config key", "wrong artifact version"),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_is_handled(case: Case, tmp_path: Path) -> None:
    problem, said = judge(case, tmp_path)
    assert not problem, f"{problem}. It said: {said}"


def test_there_are_many_and_two_of_each_kind() -> None:
    kinds = [case.kind for case in CASES]
    assert set(kinds) == KINDS and len(CASES) >= 110
    assert min(kinds.count(kind) for kind in KINDS) >= 2
    assert len({(case.kind, case.name) for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    ("answer", "leave", "problem"),
    [
        (Answer(0, "", "facta: no."), "", "code 0"),
        (Answer(1, "", "Traceback (most recent call last)\nfacta: no."), "", "stack"),
        (Answer(1, "", "facta: unexpected KeyError: no."), "", "unexpected"),
        (Answer(1, "", "facta: maybe."), "", "did not say"),
        (Answer(1, "", "facta: no."), "half", "left"),
        (Answer(1, "", "facta: no."), "log", "changed"),
        (Answer(1, "", "facta: no."), "", ""),
    ],
)
def test_the_judge_can_be_displeased(answer: Answer, leave: str, problem: str, tmp_path: Path) -> None:
    def arrange(folder: Path) -> list[str]:
        (folder / "log").write_text("as it was")
        return []

    def run(_: object) -> Answer:
        if leave:
            (tmp_path / leave).write_text("something else")
        return answer

    found, _ = judge(Case("kind", "name", arrange, says="no", run=run), tmp_path)
    assert (problem in found) if problem else not found
