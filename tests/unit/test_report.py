"""The report: one file that holds everything, says under which protocol, and refuses unlike results."""

from __future__ import annotations

import base64
import re
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facta.cli import tables
from facta.data.dataset.dataset import Dataset
from facta.errors import ConfigError, ProtocolError, ResourceError
from facta.eval import draw, report
from facta.eval.evaluation import evaluate
from facta.eval.experiment import Experiment
from facta.eval.protocol import ProtocolConfig
from facta.eval.report import Entry, Provenance, write_report
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
    results = [evaluate(Seeded(data.num_items, seed), Experiment(data, ProtocolConfig())) for seed in (0, 1)]
    return [Entry("HSTU <large>", results[0], lines), Entry("popularity", results[1])]


def test_the_page_says_of_whom_its_numbers_are(data: Dataset, entries: list[Entry], tmp_path: Path) -> None:
    """The lines below the table of the command line: who was asked, and what each request told."""
    first, second = entries
    asked = {"held_out_users": 7, "held_out_events": 9, "asked_users": 6, "asked_events": 8, "untrained_targets": 2}
    told = [
        replace(first, result=replace(first.result, asked=asked, told=("surface", "<device>"))),
        replace(second, result=replace(second.result, asked={**asked, "unknown_targets": 4})),
    ]
    write_report(tmp_path / "r.html", data, told)
    page = (tmp_path / "r.html").read_text()
    who = "6 of 7 users with test events, 8 of 9 such events; the others have no visible event before."
    new = "2 events (25.0%) are of items without training events."
    assert f"<dt>asked</dt><dd>{who} {new}</dd>" in page and page.count(who) == 2
    assert "4 events (50.0%) are of items that the artifact does not know, and count as misses." in page
    assert page.count("<dt>context</dt>") == 1
    said = "Each request tells HSTU &lt;large&gt; the context of the held-out event: surface, &lt;device&gt;."
    assert f"<dt>context</dt><dd>{said}</dd>" in page
    alike = [replace(one, result=replace(one.result, asked=asked)) for one in entries]
    write_report(tmp_path / "r.html", data, alike)
    page = (tmp_path / "r.html").read_text()
    assert page.count("<dt>asked</dt>") == 1 and "<dt>context</dt>" not in page


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
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(pictures) == 4
    assert all(b"<svg" in base64.b64decode(picture) for picture in pictures)
    assert not re.search(r'(?:src|href)="(?!data:)', page)  # nothing is fetched from anywhere


def test_the_page_says_what_it_takes_to_make_it_again(data: Dataset, entries: list[Entry], tmp_path: Path) -> None:
    made = Provenance(
        "facta evaluate 'a b' c", {"HSTU <large>": "4f1a9c0b7e2d3a55", "popularity": "90aa"}, {"HSTU <large>": "7"},
        when=datetime(2026, 3, 1, 23, 30, tzinfo=timezone(timedelta(hours=-2))),
    )  # fmt: skip
    write_report(tmp_path / "r.html", data, entries, provenance=made)
    page = (tmp_path / "r.html").read_text()
    assert "2026-03-02 01:30 UTC, facta " in page and "<title>facta: HSTU &lt;large&gt; against popularity" in page
    assert "<code>facta evaluate &#39;a b&#39; c</code>" in page
    assert "artifact 4f1a9c0b7e2d3a55, seed 7" in page and "artifact 90aa, no seed" in page
    assert data.content_hash[:16] in page


def test_the_verdict_stands_beside_the_name(data: Dataset, entries: list[Entry], tmp_path: Path) -> None:
    """A wide table scrolls to the right; who is better is seen without that."""
    better = replace(entries[0].result, values={k: v + 0.3 for k, v in entries[1].result.values.items()})
    for first, other, word in ((entries[1].result, better, "better"), (better, entries[1].result, "worse")):
        write_report(tmp_path / "r.html", data, [Entry("first", first), Entry("other", other)])
        page = (tmp_path / "r.html").read_text()
        assert page.index("NDCG@10 against first") < page.index("<th>HR@10")
        sign = "+" if word == "better" else "-"
        assert re.search(rf'other</td><td [^>]+>\{sign}0.3000 <b class="{word}">{word}</b><small>\{sign}0.3', page)


def test_the_table_has_the_columns_of_the_command_line(data: Dataset, entries: list[Entry], tmp_path: Path) -> None:
    """Recall@k where requests have several targets, for every list length that was asked for."""
    result = evaluate(Seeded(data.num_items, 0), Experiment(data, ProtocolConfig()), ks=(3, 5))
    several = replace(result, values=result.values | {"Recall@5": result.values["HR@5"] / 2})
    for one, columns in ((result, "HR@5 NDCG@5 MRR@5"), (several, "HR@5 Recall@5 NDCG@5 MRR@5")):
        write_report(tmp_path / "r.html", data, [Entry("a", one)], metric="NDCG@5", ks=(3, 5))
        page = (tmp_path / "r.html").read_text()
        head = re.findall("<th>([^<]*)</th>", page)
        assert head == ["", "HR@3", "NDCG@3", "MRR@3", *columns.split(), "Coverage@3", "Coverage@5"]
        named = [("a", one.summary())]
        assert shown_metrics(named[0][1], (3, 5)) == head[1:-2]


def shown_metrics(summary: dict[str, Any], ks: tuple[int, ...]) -> list[str]:
    """The columns of the table that `facta evaluate` prints."""
    drawn: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables.console, "table", lambda title, columns, rows, **rest: drawn.append(list(columns)))
        tables.results([("a", summary)], ks)
    return drawn[0][1:]


def test_groups_of_users_are_named_by_the_events_that_they_show(
    data: Dataset, entries: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ends of each group are lengths that its users have, and no user stands in the group of another length."""
    history = np.repeat([1.0, 2.0, 3.0, 10.0, 20.0, 30.0], 10)
    result = entries[1].result
    assert len(result.user) == len(history)
    drawn: list[Any] = []
    monkeypatch.setattr(report, "svg", lambda figure, alt: drawn.append(figure) or draw.Image("", alt))
    value = np.where(history >= 10, 1.0, 0.0)
    changed = replace(result, history=history, values=result.values | {"NDCG@10": value})
    report._length_picture([Entry("a", changed)], "NDCG@10")
    (axis,) = drawn[0].axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["1", "2", "3", "10", "20", "30"]
    assert axis.lines[-1].get_ydata().tolist() == [0, 0, 0, 1, 1, 1]


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


def test_a_curve_s_legend_names_what_has_a_curve(entries: list[Entry]) -> None:
    """A counted model has no epochs; what has keeps the colour of its place."""
    counted, trained = entries[1], entries[0]
    picture = report._validation_picture([counted, trained], "NDCG@10")
    assert picture is not None and [(name, colour) for _, colour, name in picture.legend] == [
        (trained.name, report.COLOURS[1])
    ]
