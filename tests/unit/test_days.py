"""Day by day: no model has seen the day that it predicts, a killed run goes on, and all days are one answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import facta
from facta.data.split.splits import events_before
from facta.errors import ArtifactError, ConfigError, ProtocolError
from facta.eval import frames
from facta.eval.experiment import Experiment
from facta.eval.fitting import Fitting
from facta.recipes import days as module
from facta.recipes import fit
from facta.recipes.days import DAY_MS, Days

FIRST = 19_675 * DAY_MS  # a midnight, UTC
USERS, PER_DAY, LENGTH = 60, 4, 6
SMALL = ["model.width=8", "model.window=8", "training.batch_size=16"]
FIXED = [*SMALL, "training.epochs=1", "training.keep=last", "training.patience=null"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    """Six days of clicks; ids of text."""
    rng = np.random.default_rng(0)
    count = USERS * PER_DAY * LENGTH
    day = np.tile(np.repeat(np.arange(LENGTH), PER_DAY), USERS)
    table = pl.DataFrame(
        {
            "user_id": [f"u{one}" for one in np.repeat(np.arange(USERS), PER_DAY * LENGTH)],
            "item_id": [f"i{one}" for one in rng.integers(0, 12, count)],
            "timestamp": FIRST + day * DAY_MS + rng.integers(0, DAY_MS, count),
            "click": rng.integers(0, 2, count),
            "dwell": rng.exponential(10, count),
        }
    )
    fields = {"click": {}, "dwell": {"kind": "numeric", "undefined": "click = 0"}}
    return facta.prepare(table, tmp_path_factory.mktemp("days") / "log", fields=fields)


def test_each_day_is_predicted_by_a_model_of_the_days_before(
    log: facta.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[np.ndarray] = []
    train_model = module.train_model

    def spy(recipe: Any, fitting: Fitting, *rest: Any, **more: Any) -> Any:
        learned.append(fitting.split.train_end)
        assert not len(fitting.split.validation) and more["stop_after"] == 1
        return train_model(recipe, fitting, *rest, **more)

    monkeypatch.setattr(module, "train_model", spy)
    told: list[tuple[int, int]] = []
    found = facta.by_day(
        log, "own-log/dlrm", tmp_path / "d", FIXED, days=2, progress=lambda done, total: told.append((done, total))
    )
    begins = [FIRST + 4 * DAY_MS, FIRST + 5 * DAY_MS]
    assert [train_end.tolist() for train_end in learned] == [events_before(log, begin).tolist() for begin in begins]
    assert told == [(1, 2), (2, 2)]
    assert found.time is not None and found.part is not None
    np.testing.assert_array_equal(found.part, (found.time - begins[0]) // DAY_MS)
    assert len(found.user) == 2 * USERS * PER_DAY and list(found.p) == ["click"]
    assert found.protocol == (
        "feedback/by-day/first=2023-11-18T00:00:00Z/days=2/order=user,time,row/users=all/ties=in-order/state=rolling"
    )
    again = facta.by_day(log, "own-log/dlrm", tmp_path / "d", FIXED, days=2)
    assert len(learned) == 2 and again.means == found.means  # nothing was trained a second time
    (tmp_path / "d" / "2023-11-19T000000Z.json").unlink()  # as if killed before the second day was kept
    resumed = facta.by_day(log, "own-log/dlrm", tmp_path / "d", FIXED, days=2)
    assert len(learned) == 3 and resumed.p["click"].tolist() == found.p["click"].tolist()
    for changed in ({"days": 3}, {"overrides": [*FIXED, "training.seed=1"]}):
        with pytest.raises(ArtifactError, match="holds the days of another recipe, dataset or period"):
            facta.by_day(log, "own-log/dlrm", tmp_path / "d", **{"overrides": FIXED, "days": 2} | changed)  # type: ignore[arg-type]


def test_epochs_are_chosen_once_before_all_days(
    log: facta.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int | None]] = []
    train_model = module.train_model

    def spy(recipe: Any, fitting: Fitting, *rest: Any, **more: Any) -> Any:
        asked.append((int(fitting.split.validation_end.sum()), more.get("stop_after")))
        return train_model(recipe, fitting, *rest, **more)

    monkeypatch.setattr(module, "train_model", spy)
    changes = [*SMALL, "training.epochs=3", "training.patience=1"]
    facta.by_day(log, "own-log/dlrm", tmp_path / "d", changes, days=2, since="2023-11-17T00:00:00Z")
    (until, stop), first, second = asked
    assert until == USERS * PER_DAY * 3 and stop is None  # the choice ends where the first day begins
    assert first[1] == second[1] and first[1] in (1, 2, 3)


def test_a_stream_predicts_each_period_before_it_learns_it(
    log: facta.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    learn_period, keep = fit._learn_period, module._keep_period
    assert log.timestamp is not None
    start = int(log.timestamp.min())

    def spy_learn(model: Any, dataset: Any, batches: Any, period: int) -> None:
        begun.append(period)
        learn_period(model, dataset, batches, period)

    def spy_keep(folder: Any, days: Any, period: int, found: facta.Predictions) -> None:
        assert found.time is not None and found.time.min() >= start + len(begun) * DAY_MS  # behind all that was learned
        keep(folder, days, period, found)

    monkeypatch.setattr(fit, "_learn_period", spy_learn)
    monkeypatch.setattr(module, "_keep_period", spy_keep)
    changes = [*FIXED, "training.hours=24", "model.features=gr"]
    found = facta.by_day(log, "own-log/dlrm", tmp_path / "d", changes, days=2)
    assert found.time is not None and found.part is not None
    assert found.time.min() >= FIRST + 4 * DAY_MS and len(found.user) == 2 * USERS * PER_DAY
    assert found.protocol.startswith("feedback/stream/hours=24/first=2023-11-18T00:00:00Z/days=2/")
    assert begun == list(range(LENGTH))
    assert facta.by_day(log, "own-log/dlrm", tmp_path / "d", changes, days=2).means == found.means
    assert begun == list(range(LENGTH))


def test_days_that_cannot_be_are_a_sentence(log: facta.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match=r"The first day would begin at 2023-10-.*take fewer days"):
        Days.of(log, 30, None)
    with pytest.raises(ProtocolError, match="The first day would begin at 2031"):
        Days.of(log, 1, "2031-01-01")
    with pytest.raises(ConfigError, match="Found 0 days"):
        Days.of(log, 0, None)
    assert Days.of(log, 1, "2023-11-18T00:00:00+08:00").first == FIRST + 4 * DAY_MS - 8 * 3_600_000
    for recipe in ("movielens-1m/item-knn", "movielens-1m/sasrec-ss"):
        with pytest.raises(ConfigError, match="predicts no feedback"):
            facta.by_day(log, recipe, tmp_path / "x", days=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(ArtifactError, match="holds no days of this command"):
        facta.by_day(log, "own-log/dlrm", tmp_path / "mine", FIXED, days=1, overwrite=True)
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_predictions_are_a_table_with_the_ids_of_the_log(log: facta.Dataset, tmp_path: Path) -> None:
    found = facta.by_day(log, "own-log/dlrm", tmp_path / "d", FIXED, days=1)
    frames.save(tmp_path / "p.parquet", [frames.predictions(found, log, "dlrm")])
    table = pl.read_parquet(tmp_path / "p.parquet")
    assert table.columns == ["name", "user_id", "item_id", "time", "field", "label", "prediction"]
    click = table.filter(pl.col("field") == "click")
    assert table["field"].unique().sort().to_list() == ["click", "dwell if click"]
    history = facta.history_of(log, "u7")
    events = list(zip(history.items, [int(time.astype("int64")) for time in history.times or []], strict=True))  # type: ignore[union-attr]
    mine = click.filter(pl.col("user_id") == "u7").sort("time")
    told = list(zip(mine["item_id"], mine["time"].dt.epoch("ms"), strict=True))
    assert told == events[-PER_DAY:] and mine["label"].to_list() == list(history.fields["click"])[-PER_DAY:]
    dwell = table.filter(pl.col("field") == "dwell if click", pl.col("user_id") == "u7").sort("time")
    assert [value is None for value in dwell["label"]] == [value == 0 for value in mine["label"]]
    with pytest.raises(ProtocolError, match="another dataset"):
        frames.predictions(facta.Predictions("x", "test", "other", found.user, found.place, None, {}, {}), log)


def test_lists_are_a_table_with_the_ids_of_the_log(log: facta.Dataset, tmp_path: Path) -> None:
    artifact = facta.train(log, "movielens-1m/popularity", tmp_path / "a")
    protocol = facta.ProtocolConfig.parse(artifact.config["protocol"])
    found, requests = facta.evaluate(artifact, log, protocol, ks=(5,)), Experiment(log, protocol).requests("test")
    table = frames.lists(found, log, requests, "popular")
    first = table.filter(pl.col("user_id") == "u7").sort("rank")
    answer = artifact.recommend([facta.history_of(log, "u7").items[:-1]], k=5).ids[0]
    assert first["item_id"].to_list() == answer and first["rank"].to_list() == list(range(1, len(answer) + 1))
    assert table.columns == ["name", "user_id", "rank", "item_id", "time"]
