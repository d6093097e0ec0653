"""The report: one file that holds everything, says under which protocol, and refuses unlike results."""

from __future__ import annotations

import base64
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facta.data.histories import Dataset
from facta.errors import ConfigError, ProtocolError, ResourceError
from facta.eval.evaluation import evaluate
from facta.eval.protocol import ProtocolConfig
from facta.eval.report import Entry, write_report
from tests.rankers import Seeded, dataset_of, random_log

pytest.importorskip("matplotlib", reason="the report is drawn with matplotlib (extra `plot`)")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return dataset_of(tmp_path / "d", random_log())


@pytest.fixture
def entries(data: Dataset) -> list[Entry]:
    lines: list[dict[str, Any]] = [{"event": "start", "step": 0, "epoch": 0}]
    for step in range(1, 41):
        lines.append({"event": "step", "step": step, "epoch": (step + 9) // 10, "loss": 5.0 / step})
        if step % 10 == 0:
            lines.append({"event": "validation", "step": step, "epoch": step // 10, "NDCG@10": 0.01 * step})
    results = [evaluate(Seeded(data.num_items, seed), data, ProtocolConfig(), window=50) for seed in (0, 1)]
    return [Entry("HSTU <large>", results[0], lines), Entry("popularity", results[1])]


def test_one_page_holds_numbers_and_pictures(data: Dataset, entries: list[Entry], tmp_path: Path) -> None:
    out = tmp_path / "out" / "report.html"
    out.parent.mkdir()
    write_report(out, data, entries, title="Films & people")
    page = out.read_text()
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    assert entries[0].result.protocol in page
    assert "HSTU &lt;large&gt;" in page and "Films &amp; people" in page
    for entry in entries:
        low, high = entry.result.intervals["NDCG@10"]
        assert f"{entry.result.means['NDCG@10']:.4f}<small>{low:.4f} – {high:.4f}" in page
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 4
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert not re.search(r'(?:src|href)="(?!data:)', page)  # nothing is fetched from anywhere


def test_without_training_there_are_no_curves(data: Dataset, entries: list[Entry], tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", data, entries[1:])
    page = (tmp_path / "r.html").read_text()
    assert page.count("<img") == 2
    assert "Training loss" not in page


def test_unlike_results_are_refused(data: Dataset, entries: list[Entry], tmp_path: Path) -> None:
    other = replace(entries[1], result=replace(entries[1].result, stage="validation"))
    with pytest.raises(ProtocolError, match="different stages"):
        write_report(tmp_path / "r.html", data, [entries[0], other])
    with pytest.raises(ProtocolError, match="No metric 'MAP'"):
        write_report(tmp_path / "r.html", data, entries, metric="MAP")
    with pytest.raises(ConfigError, match="at least one"):
        write_report(tmp_path / "r.html", data, [])
    with pytest.raises(ResourceError, match="Cannot write"):
        write_report(tmp_path / "missing" / "r.html", data, entries)


def test_without_matplotlib_a_sentence_says_what_to_install(
    data: Dataset, entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"facta\[plot\]"):
        write_report(tmp_path / "r.html", data, entries)
    assert not (tmp_path / "r.html").exists()
