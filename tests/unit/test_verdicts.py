"""Better and worse: what a difference means depends on whether a metric wants to be low, on pages as in tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facta.cli import predictions as command
from facta.eval import draw, report
from facta.eval.bootstrap import Interval
from facta.eval.comparison import Comparison
from facta.eval.predictions import Predictions
from facta.eval.report import Entry, kept_epoch
from facta.training import journal
from facta.training.log import Log
from facta.training.progress import TrainingResult
from facta.training.trainer import Trainer, TrainingConfig
from tests.toy_training import ITEMS, ToyBatches, ToyModel

EVENTS = 4000


@pytest.mark.parametrize("metric", ["NE(click)", "LogLoss(click)", "ECE(click)", "NE", "LogLoss"])
def test_a_lower_loss_is_better(metric: str) -> None:
    below = Comparison(metric, -0.1, Interval(-0.2, -0.05))
    above = Comparison(metric, 0.1, Interval(0.05, 0.2))
    assert (below.verdict, above.verdict) == ("better", "worse")
    assert str(below) == f"{metric} -0.1000 [-0.2000, -0.0500]: better"


@pytest.mark.parametrize("metric", ["NDCG@10", "HR@1", "MRR", "Recall@20", "AUC(click)", "GAUC(click)", "GAUC"])
def test_a_higher_share_is_better(metric: str) -> None:
    below = Comparison(metric, -0.1, Interval(-0.2, -0.05))
    above = Comparison(metric, 0.1, Interval(0.05, 0.2))
    assert (below.verdict, above.verdict) == ("worse", "better")


def test_an_interval_around_zero_decides_nothing() -> None:
    unknown = Interval(float("nan"), float("nan"))
    for metric in ("NE(click)", "GAUC(click)"):
        for interval in (Interval(-0.2, 0.1), Interval(-0.2, 0.0), unknown):
            assert Comparison(metric, -0.1, interval).verdict == "undecided"


def test_the_command_calls_the_sharper_model_better_in_every_metric() -> None:
    rng = np.random.default_rng(0)
    q, user = rng.random(EVENTS), rng.integers(0, 80, EVENTS)
    y = (rng.random(EVENTS) < q).astype(np.int8)
    common: dict[str, Any] = {"user": user, "place": np.arange(EVENTS), "time": None}
    sharp = Predictions("feedback/x", "test", "c0ffee", p={"click": q}, y={"click": y}, **common)
    dull = replace(sharp, p={"click": (q + 3 * rng.random(EVENTS)) / 4})
    compared = [(name, "") for name in ("NE", "LogLoss", "AUC", "GAUC")]
    ours = command._pairs({"dull": dull, "sharp": sharp}, compared)
    theirs = command._pairs({"sharp": sharp, "dull": dull}, compared)
    assert [pair.verdict for _, _, pair in ours] == ["better"] * 4
    assert [pair.verdict for _, _, pair in theirs] == ["worse"] * 4


def validation(epoch: int, best: bool, **metrics: float) -> dict[str, Any]:
    return {"event": "validation", "step": 10 * epoch, "epoch": epoch, "best": best, **metrics}


def markers(entry: Entry, metric: str, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The epochs at which the picture of validations shows a large marker."""
    pictures: list[Any] = []
    monkeypatch.setattr(report, "svg", lambda picture, alt: pictures.append(picture) or draw.Image("", alt))
    report._validation_picture([entry], metric)
    (axis,) = pictures[0].axes
    return [float(x) for line in axis.lines if line.get_markersize() >= 8 for x in line.get_xdata()]


@pytest.mark.parametrize(
    ("best", "kept"),
    [((True, False, False), 1), ((True, True, False), 2), ((True, True, True), 3)],
    ids=["chosen by another metric", "chosen by this metric", "keep=last"],
)
def test_the_marker_stands_at_the_epoch_that_was_kept(
    best: tuple[bool, ...], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="the report is drawn with matplotlib (extra `plot`)")
    shown = {"NDCG@10": (0.1, 0.3, 0.2)}  # its maximum is epoch 2
    lines = [validation(e + 1, best[e], **{"NDCG@10": shown["NDCG@10"][e]}) for e in range(3)]
    entry = Entry("a", result=None, lines=lines)  # type: ignore[arg-type]
    assert markers(entry, "NDCG@10", monkeypatch) == [kept]


@pytest.mark.parametrize(("keep", "metric"), [("best", "up"), ("best", "LogLoss"), ("last", "up")])
def test_a_journal_says_which_epoch_its_run_kept(keep: Any, metric: str, tmp_path: Path) -> None:
    values = [3.0, 1.0, 4.0, 1.5]  # up: epoch 3; LogLoss: epoch 2; last: epoch 4

    def validate(epoch: int) -> dict[str, float]:
        return {"up": values[epoch - 1], "LogLoss": values[epoch - 1]}

    config = TrainingConfig(epochs=4, metric=metric, keep=keep, batch_size=8)
    found: TrainingResult = Trainer(
        ToyModel(), ToyBatches(), config, tmp_path, counts=torch.ones(ITEMS), validate=validate, log=Log("quiet")
    ).fit()
    lines = journal.read(tmp_path)
    assert kept_epoch(lines) == found.best_epoch == {"up": 3, "LogLoss": 2}[metric] + (keep == "last")
    assert kept_epoch([line for line in lines if line["event"] != "validation"]) is None
