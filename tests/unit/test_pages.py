"""What stands on a page is what was measured: dates, lengths of histories, signs of differences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facta.data.dataset.dataset import Dataset
from facta.eval.comparison import compare
from facta.eval.evaluation import evaluate
from facta.eval.experiment import Experiment
from facta.eval.feedback_report import write_feedback_report
from facta.eval.predictions import Predictions, differences
from facta.eval.protocol import ProtocolConfig
from facta.eval.report import Entry, write_report
from tests.rankers import Seeded, dataset_of

pytest.importorskip("matplotlib", reason="reports are drawn with matplotlib (extra `plot`)")

DAY = 86_400_000
FIRST = np.datetime64("2024-03-05")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that a report has drawn, while they could still be asked."""
    from matplotlib.figure import Figure

    figures: list[Any] = []
    save = Figure.savefig

    def savefig(self: Any, *arguments: Any, **options: Any) -> Any:
        figures.append(self)
        return save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def labels(figures: list[Any], ending: str) -> list[str]:
    """The texts below the first axis whose label contains `ending`; of all axes where it is empty."""
    axes = [axis for figure in figures for axis in figure.axes if ending in axis.get_xlabel()]
    return [text.get_text() for axis in axes for text in axis.get_xticklabels()]


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """40 people with nine events each."""
    histories = {f"u{u:02d}": [((u + 7 * place) % 31, 10 * place) for place in range(9)] for u in range(40)}
    return dataset_of(tmp_path / "d", histories)


def predicted(seed: int, blur: float) -> Predictions:
    """500 events of each of four days of 50 people; everybody's events have the places 6 and 7 of the history."""
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(0)
    taste = truth.normal(size=2000)
    y = (truth.random(2000) < 1 / (1 + np.exp(-taste))).astype(np.int8)
    first = int(FIRST.astype("datetime64[ms]").astype(np.int64))
    return Predictions(
        protocol="feedback/x",
        stage="test",
        dataset="c0ffee",
        user=np.arange(2000) % 50,
        place=6 + (np.arange(2000) // 1000),
        time=first + np.repeat(np.arange(4), 500) * DAY + 3_600_000,
        p={"click": 1 / (1 + np.exp(-taste - blur * rng.normal(size=2000)))},
        y={"click": y},
    )


def test_days_are_those_of_the_events(data: Dataset, drawn: list[Any], tmp_path: Path) -> None:
    write_feedback_report(tmp_path / "r.html", data, {"a": predicted(1, 0.1)})
    said = " ".join(labels(drawn, ""))
    assert str(FIRST) in said or "Mar" in said or "03-05" in said
    assert "1970" not in said


def test_histories_of_predicted_events_are_as_long_as_they_are(data: Dataset, drawn: list[Any], tmp_path: Path) -> None:
    write_feedback_report(tmp_path / "r.html", data, {"a": predicted(1, 0.1)})
    said = " ".join(labels(drawn, "before")).split()
    assert said[0].startswith("6") and "7" in " ".join(said) and "8" not in " ".join(said) and "5" not in said[0]


def test_histories_of_ranked_lists_are_as_long_as_they_are(data: Dataset, drawn: list[Any], tmp_path: Path) -> None:
    found = evaluate(Seeded(data.num_items), Experiment(data, ProtocolConfig()))
    write_report(tmp_path / "r.html", data, [Entry("a", found)])
    said = labels(drawn, "history")
    assert len(said) == 1 and said[0].split()[0] == "8"


def test_a_difference_has_the_sign_of_the_entry_against_the_first(data: Dataset, tmp_path: Path) -> None:
    good = evaluate(Seeded(data.num_items), Experiment(data, ProtocolConfig()))
    worse = replace(good, values={name: values * 0.5 for name, values in good.values.items()})
    metric = next(name for name in ("NDCG@20", "MRR") if good.means[name] > 0)
    write_report(tmp_path / "r.html", data, [Entry("first", good), Entry("second", worse)], metric=metric)
    page = (tmp_path / "r.html").read_text()
    moved = compare(worse, good, metric).difference
    assert moved < 0 and f"{moved:+.4f}" in page and f"{-moved:+.4f}" not in page


def test_a_difference_of_feedback_has_it_too(data: Dataset, tmp_path: Path) -> None:
    sharp, dull = predicted(1, 0.1), predicted(2, 1.5)
    write_feedback_report(tmp_path / "r.html", data, {"sharp": sharp, "dull": dull}, metrics=["NE", "GAUC"])
    page = (tmp_path / "r.html").read_text()
    moved = differences([dull], [sharp], "click")
    assert moved["NE"][0] > 0 > moved["GAUC"][0]
    for metric in ("NE", "GAUC"):
        assert f"{moved[metric][0]:+.4f}" in page and f"{-moved[metric][0]:+.4f}" not in page
