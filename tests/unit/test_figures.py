"""The record of figures: refused on a dirty tree, judged by today's bars, written into the results page."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from benchmarks import figures, record
from benchmarks.quality import ml1m


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=e", *arguments], check=True)


def commit(root: Path) -> None:
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "a commit")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text("x = 1\n")
    for folder in ("benchmarks", "docs", "src"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "kept").write_text("x")
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def test_a_clean_tree_has_a_commit(repository: Path) -> None:
    assert len(record.committed(repository)) == 40


@pytest.mark.parametrize("path", ["code.py", "new.py", "benchmarks/new.py", "docs/data.md"])
def test_a_dirty_tree_is_refused(repository: Path, path: str) -> None:
    (repository / path).write_text("x = 2\n")
    with pytest.raises(RuntimeError, match=path):
        record.committed(repository)


def test_the_record_itself_may_have_grown(repository: Path) -> None:
    for path in record.WRITTEN:
        (repository / path).write_text("x")
    assert record.committed(repository)
    assert {record.LOG, record.RESULTS} == {record.ROOT / path for path in record.WRITTEN}


def test_the_name_of_the_code_is_that_of_src_alone(repository: Path) -> None:
    before = record.code(repository)
    (repository / "docs" / "kept").write_text("new")
    commit(repository)
    assert record.code(repository) == before
    (repository / "src" / "kept").write_text("new")
    commit(repository)
    assert record.code(repository) != before


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="git"):
        record.committed(tmp_path)


def test_a_line_holds_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "committed", lambda: "c" * 40)
    log = tmp_path / "figures.jsonl"
    record.record("quickstart_seconds", 2.0, raw=[1.0, 3.0], seeds=[1, 2], log=log)
    record.record("quickstart_seconds", 5.0, log=log)
    first, second = map(json.loads, log.read_text().splitlines())
    assert first["spread"] == pytest.approx(2**0.5) and first["raw"] == [1.0, 3.0]
    assert second["spread"] == 0.0 and second["raw"] == [5.0]
    assert {"unit", "bar", "command", "seeds", "hardware", "versions", "commit", "date"} <= set(first)
    assert record.latest(log)["quickstart_seconds"]["value"] == 5.0


def test_an_unknown_figure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="quickstart_seconds"):
        record.record("quickstart_secs", 1.0, log=tmp_path / "log")
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("bar", "value", "answer"),
    [
        ("<= 600", 600.0, True),
        ("<= 600", 600.1, False),
        (">= 0.0921", 0.0921, True),
        (">= 0.0921", 0.0920, False),
        ("", 1.0, None),
        ("> ml100k_best_baseline_ndcg10", 0.05, False),  # equal is not above
        ("> ml100k_best_baseline_ndcg10", 0.06, True),
        ("> ml100k_hstu_ndcg10", 1.0, None),  # not measured: no verdict
    ],
)
def test_bars(bar: str, value: float, answer: bool | None) -> None:
    assert figures.met(bar, value, {"ml100k_best_baseline_ndcg10": {"value": 0.05}}) is answer


def test_every_bar_can_be_judged() -> None:
    for name, figure in figures.FIGURES.items():
        lines = {other: {"value": 1.0} for other in figures.FIGURES}
        assert (figures.met(figure.bar, 1.0, lines) is None) == (figure.bar == ""), name
        module = figure.command.removeprefix("python -m benchmarks.").split()[0].replace(".", "/")
        assert (record.ROOT / "benchmarks" / f"{module}.py").exists(), f"{name}: {figure.command}"


def test_the_results_page_is_renewed_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text(f"before\n{figures.BEGIN}\nwhat stood here\n{figures.END}\nafter\n")
    figures.write(figures.tables({}), page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "what stood here" not in text and "| quickstart_seconds | not measured |" in text


def test_every_figure_stands_in_one_of_the_tables() -> None:
    lines = {name: line(0.1 + place / 1e4, seeds=3) for place, name in enumerate(figures.FIGURES)}
    text = figures.tables(lines)
    for name, one in lines.items():
        assert f"| {name} |" in text or f"{one['value']:.4f} ± 0.0000" in text, name


def line(value: float, *, seeds: int) -> dict[str, Any]:
    raw, measured = [value] * max(seeds, 1), {"commit": "c" * 40, "date": "2026-01-01"}
    return {"value": value, "spread": 0.0, "raw": raw, "seeds": list(range(seeds)), **measured}


def test_the_tables_say_how_many_seeds_were_measured() -> None:
    """And of one measurement no deviation, which would read as certainty."""
    bar, plain, other = "ml1m_hstu_hr10", "ml1m_hstu_bias_time_hr10", "ml1m_hstu_bias_time_ndcg10"
    hstu = f"| **no** | ML-1M, loo-val: hstu, {ml1m.RECONSTRUCTED}"
    one = figures.tables({name: line(0.25, seeds=1) for name in (bar, plain, other)})
    assert f"| 0.25 HR@10 |  | >= 0.3097 {hstu}, 1 seed |" in one
    assert "| hstu bias time \\* | loo-val | 0.2500 / 0.2500 (1 seed) |" in one
    assert "±" not in one.partition("seeds |")[2]
    three = figures.tables({bar: line(0.25, seeds=3), plain: line(0.25, seeds=3), other: line(0.25, seeds=1)})
    assert f"| 0.25 HR@10 | 0 | >= 0.3097 {hstu}, mean of 3 seeds |" in three
    assert "| 0.2500 ± 0.0000 / 0.2500 (3 seeds, 1 seed) |" in three
    unseeded = figures.tables({"quickstart_seconds": line(9.0, seeds=0)})
    assert "| quickstart_seconds | 9 s |  | <= 600 | yes | clean clone to finished `make quickstart` |" in unseeded


def test_the_table_of_ml1m_says_what_its_numbers_are_of() -> None:
    note = "loo-val/rank=rated; window(200) masked 0.3036 / 0.1747; all titles ranked 0.3094 / 0.1789; HR@50 0.5663"
    told = {**line(0.31, seeds=2), "note": note}
    text = ml1m.ml1m_table({"ml1m_hstu_hr10": told, "ml1m_hstu_ndcg10": told})
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("|")]
    assert {len(row) for row in rows} == {len(rows[0])} and len(rows) == 2 + 2 * len(ml1m.ML1M)
    known = {(row[0], row[1]): dict(zip(rows[0], row, strict=True)) for row in rows[2:]}
    hstu = known["hstu \\*", "loo-val"]
    assert hstu["mask 200"] == "0.3036 / 0.1747" and hstu["all titles"] == "0.3094 / 0.1789"
    for (name, _), row in known.items():
        assert (row["time"] == ml1m.RECONSTRUCTED) == ("*" in name)
        assert ("*" in name) == (name.startswith("hstu") and not name.endswith(("none", "position"))), name
    assert known["sasrec ss", "loo-paper"]["mask 200"] == "–"
    assert "\n\n\\* This model uses time" in text
    bars = [figure.what for name, figure in figures.FIGURES.items() if name.startswith("ml1m_hstu_large")]
    assert bars and all(ml1m.RECONSTRUCTED in what for what in bars)


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text("nothing here")
    with pytest.raises(RuntimeError, match="markers"):
        figures.write("text", page)
    assert page.read_text() == "nothing here"


def test_the_published_table_is_the_recorded_one() -> None:
    published = record.RESULTS.read_text().partition(figures.BEGIN)[2].partition(figures.END)[0].strip()
    assert published == figures.tables(record.latest()), "run `make figures ARGS=--write`"
