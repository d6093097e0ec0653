"""The report on predicted feedback: one file with all pictures, under one protocol, of the same events alone."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facta.data.histories import Dataset
from facta.errors import ConfigError, ProtocolError
from facta.eval import feedback_report
from facta.eval.feedback_report import write_feedback_report
from facta.eval.prediction import prediction_metrics
from facta.eval.predictions import Predictions
from tests.rankers import dataset_of, random_log

pytest.importorskip("matplotlib", reason="the report is drawn with matplotlib (extra `plot`)")

DAY, EVENTS = 86_400_000, 3000


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return dataset_of(tmp_path / "d", random_log())


@pytest.fixture
def found() -> dict[str, Predictions]:
    """A model that knows the probabilities, and one that doubts them."""
    rng = np.random.default_rng(0)
    q = {"click": rng.random(EVENTS), "like": 0.004 * rng.random(EVENTS)}
    y = {field: (rng.random(EVENTS) < p).astype(np.int8) for field, p in q.items()}
    y["like"][::3] = -1
    common = {"user": rng.integers(0, 60, EVENTS), "place": rng.integers(0, 90, EVENTS)}
    time = 1_600_000_000_000 + rng.integers(0, 5 * DAY, EVENTS)
    exact = Predictions("feedback/x", "test", "c0ffee", time=time, p=q, y=y, **common)
    return {"exact <1>": exact, "doubting": replace(exact, p={f: (p + p.mean()) / 2 for f, p in q.items()}, runs=3)}


def test_one_page_holds_numbers_and_pictures(data: Dataset, found: dict[str, Predictions], tmp_path: Path) -> None:
    write_feedback_report(tmp_path / "r.html", data, found)
    page = (tmp_path / "r.html").read_text()
    assert "feedback/x" in page and "exact &lt;1&gt;" in page and "mean of 3 runs" in page
    for one in found.values():
        assert f"{one.base_rates['like']:.4f}<small>of 2,000</small>" in page
        for name in ("NE(click)", "GAUC(click)", "AUC(like)"):
            low, high = one.intervals[name]
            assert f"<td>{one.means[name]:.4f}<small>{low:.4f} – {high:.4f}" in page
    assert re.search(r"<td>\+0\.\d+ <b>worse</b><small>\+0\.", page)  # the NE of the one that doubts
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 3 and all(base64.b64decode(one).startswith(b"\x89PNG") for one in pictures)
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_without_times_there_are_no_days(data: Dataset, found: dict[str, Predictions], tmp_path: Path) -> None:
    timeless = {name: replace(one, time=None) for name, one in found.items()}
    write_feedback_report(tmp_path / "r.html", data, timeless, metrics=["AUC"])
    page = (tmp_path / "r.html").read_text()
    assert page.count("<img") == 2 and "NE by day" not in page and "AUC against exact" in page


def test_a_field_that_no_event_defines_is_a_line_without_numbers(
    data: Dataset, found: dict[str, Predictions], tmp_path: Path
) -> None:
    unsaid = {name: replace(one, y=one.y | {"like": np.full_like(one.y["like"], -1)}) for name, one in found.items()}
    write_feedback_report(tmp_path / "r.html", data, unsaid)
    page = (tmp_path / "r.html").read_text()
    assert (
        page.count("<img") == 3 and page.count("of 0</small>") == 2 and "nan" not in re.sub(r'"data:[^"]+"', "", page)
    )


def test_nothing_to_be_judged_by_is_a_sentence(data: Dataset, found: dict[str, Predictions], tmp_path: Path) -> None:
    one = found["doubting"]
    unsaid = replace(one, y={field: np.full_like(y, -1) for field, y in one.y.items()})
    for given, named in ((unsaid, "click, like"), (replace(one, p={}, y={}), "no field")):
        with pytest.raises(ProtocolError, match=f"Found {named} predicted, and no event"):
            write_feedback_report(tmp_path / "r.html", data, {"a": given})


def test_a_group_is_judged_against_its_own_base_rate(found: dict[str, Predictions]) -> None:
    one = found["doubting"]
    group = (one.place >= 30).astype(np.int64) + (one.place >= 60)
    groups, means, ends = feedback_report._by_group(one, "click", group)
    assert groups.tolist() == [0, 1, 2]
    for each, mean, (low, high) in zip(groups, means, ends, strict=True):
        expected = prediction_metrics(*one.only(group == each).of("click"))["NE"]
        assert mean == pytest.approx(expected) and low < mean < high
    assert not len(feedback_report._by_group(one, "like", group)[0])  # too few likes to say


def test_what_cannot_be_reported_is_a_sentence(data: Dataset, found: dict[str, Predictions], tmp_path: Path) -> None:
    out, other = tmp_path / "r.html", replace(found["doubting"], dataset="another")
    with pytest.raises(ProtocolError, match="different datasets"):
        write_feedback_report(out, data, {**found, "other": other})
    with pytest.raises(ProtocolError, match="No metric 'ECE' to compare in; expected: NE, LogLoss, AUC, GAUC"):
        write_feedback_report(out, data, found, metrics=["ECE"])
    with pytest.raises(ConfigError, match="at least one"):
        write_feedback_report(out, data, {})
    assert not out.exists()
