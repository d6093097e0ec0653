"""The report on predicted feedback: one file with all pictures, under one protocol, of the same events alone."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facta.data.dataset.dataset import Dataset
from facta.errors import ConfigError, ProtocolError
from facta.eval import draw, feedback_report
from facta.eval.feedback_metrics import prediction_metrics
from facta.eval.feedback_report import write_feedback_report
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
            assert f">{one.means[name]:.4f}<small>{low:.4f} – {high:.4f}" in page
    assert re.search(r'>\+0\.\d+ <b class="worse">worse</b><small>\+0\.', page)  # the NE of the one that doubts
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(pictures) == 6 and all(b"<svg" in base64.b64decode(one) for one in pictures)  # of two fields
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_without_times_there_are_no_days(data: Dataset, found: dict[str, Predictions], tmp_path: Path) -> None:
    timeless = {name: replace(one, time=None) for name, one in found.items()}
    write_feedback_report(tmp_path / "r.html", data, timeless, metrics=["AUC"])
    page = (tmp_path / "r.html").read_text()
    assert page.count("<img") == 4 and "NE by day" not in page and "AUC against exact" in page


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


def test_a_difference_keeps_its_sign_on_the_page(data: Dataset, found: dict[str, Predictions], tmp_path: Path) -> None:
    """NE of the second minus NE of the first; a lower one is better."""
    exact, doubting = found.values()
    for first, second, word in ((exact, doubting, "worse"), (doubting, exact, "better")):
        write_feedback_report(tmp_path / "r.html", data, {"first": first, "second": second}, metrics=["NE"])
        moved = second.means["NE(click)"] - first.means["NE(click)"]
        cell = "second<small>mean of 3 runs</small></td>" if second.runs == 3 else "second</td>"
        page = (tmp_path / "r.html").read_text()
        assert re.search(
            rf'{cell}<td data-label="feedback">click</td><td [^>]+>{re.escape(f"{moved:+.4f}")} <b class="{word}">',
            page,
        )


def drawn(found: dict[str, Predictions], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of NE by day."""
    figures: list[Any] = []
    monkeypatch.setattr(feedback_report, "svg", lambda figure, alt: figures.append(figure) or draw.Image("", alt))
    feedback_report._days_picture(found)
    return [figure.axes[0] for figure in figures]


def test_days_are_those_of_the_events(found: dict[str, Predictions], monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"exact": found["exact <1>"].only(np.arange(EVENTS) % 2 == 0)}
    time = one["exact"].time
    assert time is not None
    days = np.unique(time.astype("datetime64[ms]").astype("datetime64[D]"))
    click = drawn(one, monkeypatch)[0]
    (line,) = (line for line in click.lines if line.get_marker() == "o")
    assert line.get_linestyle() == "-"
    np.testing.assert_array_equal(np.asarray(line.get_xdata(), dtype="datetime64[D]"), days)
    for day, value in zip(days, line.get_ydata(), strict=True):
        chosen = time.astype("datetime64[ms]").astype("datetime64[D]") == day
        assert value == pytest.approx(prediction_metrics(*one["exact"].only(chosen).of("click"))["NE"])
    assert [text.get_text() for text in click.get_xticklabels()] == [str(day) for day in days]


def test_two_days_are_two_points_without_a_line(found: dict[str, Predictions], monkeypatch: pytest.MonkeyPatch) -> None:
    one = found["exact <1>"]
    assert one.time is not None
    some = one.time // DAY - one.time.min() // DAY < 2
    click = drawn({"exact": one.only(some)}, monkeypatch)[0]
    (line,) = (line for line in click.lines if line.get_marker() == "o")
    assert len(line.get_xdata()) == 2 and line.get_linestyle() == "None"
    three = one.time // DAY - one.time.min() // DAY < 3
    click = drawn({"exact": one.only(three)}, monkeypatch)[0]
    assert next(line for line in click.lines if line.get_marker() == "o").get_linestyle() == "-"


def test_numbers_without_success_have_a_table_of_their_own(
    data: Dataset, found: dict[str, Predictions], tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    observed, one = rng.exponential(10, EVENTS), found["exact <1>"]
    with_values = replace(one, expected={"dwell": observed + 1}, observed={"dwell": observed})
    turned = replace(with_values, expected={"dwell": 40 - observed})
    write_feedback_report(tmp_path / "r.html", data, {"a": with_values, "b": turned}, metrics=["NE", "NMAE"])
    page = (tmp_path / "r.html").read_text()
    assert "NMAE against a" in page and f">{with_values.means['NMAE(dwell)']:.4f}<small>" in page
    assert page.count('<b class="worse">worse</b>') == 1 and "2 alarms" not in page
    assert "Alarm:</b> b, dwell: NMAE" in page and "Alarm:</b> a, dwell: the mean prediction" in page
    alone = replace(with_values, p={}, y={})
    write_feedback_report(tmp_path / "r.html", data, {"a": alone})
    page = (tmp_path / "r.html").read_text()
    assert "dwell" in page and "<img" not in page


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


def test_the_page_says_of_whom_its_numbers_are(data: Dataset, found: dict[str, Predictions], tmp_path: Path) -> None:
    asked = {"held_out_users": 9, "held_out_events": 40, "users_without_history": 3, "untrained_targets": 10}
    write_feedback_report(tmp_path / "r.html", data, {name: replace(one, asked=asked) for name, one in found.items()})
    said = "all 40 test events of 9 users, 3 of them without an earlier event. 10 events (25.0%) are of items without"
    page = (tmp_path / "r.html").read_text()
    assert f"<dt>asked</dt><dd>{said}" in page and page.count("<dt>asked</dt>") == 1
