"""Logs whose feedback is odd: of one outcome alone, without a success, of one event a person, of unlike fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import facta
from facta.training import journal
from facta.training.log import Log

QUIET = Log("quiet")
HOUR = 3_600_000
SMALL = [
    *(f"model.embedding.{change}" for change in ("features=false", "id_width=null", "hidden_ids=0")),
    *("model.width=8", "model.encoder.heads=1", "model.encoder.layers=1", "training.epochs=1"),
]
LAST = ["training.keep=last", "training.patience=null"]


def events(users: int = 30, each: int = 10) -> pl.DataFrame:
    rng, count = np.random.default_rng(2), users * each
    return pl.DataFrame(
        {
            "user_id": np.arange(count) % users,
            "item_id": rng.integers(0, 12, count),
            "timestamp": 1_700_000_000_000 + np.arange(count) * HOUR,
            "liked": rng.random(count) < 0.4,
            "ever": np.ones(count, dtype=np.int8),
            "dwell": rng.random(count),
            "event_type": rng.choice(["click", "view", "watch"], count),
        }
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    fields: dict[str, Any] = {"liked": {}, "ever": {"kind": "binary"}, "dwell": {}, "event_type": {}}
    return facta.prepare(events(), tmp_path_factory.mktemp("odd") / "log", fields=fields)


def settings(*fields: str, metric: str | None = None) -> list[str]:
    named = ", ".join(f'"{field}"' for field in fields)
    return [*SMALL, f"model.feedback.fields=[{named}]", f"training.metric=NE({metric or fields[0]})"]


def test_a_validation_of_one_outcome_decides_nothing(log: facta.Dataset, tmp_path: Path) -> None:
    with pytest.raises(facta.ConfigError, match=r"no NE\(ever\), since all its events have the same outcome"):
        facta.train(log, "simulator/gr-ranking", tmp_path / "a", settings("ever"), log=QUIET)
    trained = facta.train(log, "simulator/gr-ranking", tmp_path / "b", [*settings("ever"), *LAST], log=QUIET)
    assert np.isnan(facta.predict(trained, log).means["NE(ever)"])


def test_feedback_without_a_success_is_learned_when_that_is_meant(log: facta.Dataset, tmp_path: Path) -> None:
    with pytest.raises(facta.ConfigError, match="declare `positive` when the log is prepared, or set"):
        facta.train(log, "simulator/gr-ranking", tmp_path / "a", settings("event_type"), log=QUIET)
    with pytest.raises(facta.ConfigError, match=r"validation measures NMAE\(dwell\)"):
        facta.train(log, "simulator/gr-ranking", tmp_path / "a", settings("dwell"), log=QUIET)
    changes = [*settings("dwell", "event_type"), "training.metric=NMAE(dwell)", *LAST]
    trained = facta.train(log, "simulator/gr-ranking", tmp_path / "b", changes, log=QUIET)
    ranking = trained.rank(facta.history_of(log, 3), [1, 2, 3], at="2030-01-01")
    assert list(ranking.scores) == ["dwell"], "categories have no order, so no score"
    assert all(0 < score < 1 for score in ranking.scores["dwell"][0])
    with pytest.raises(facta.ConfigError, match=r"by = 'event_type'; expected .*\(dwell\)"):
        trained.rank(facta.history_of(log, 3), [1, 2], at="2030-01-01", by="event_type")


@pytest.mark.parametrize("recipe", ["simulator/gr-ranking", "simulator/dlrm", "simulator/rates"])
def test_one_event_a_person_is_enough_for_feedback(tmp_path: Path, recipe: str) -> None:
    log = facta.prepare(events(300, 1), tmp_path / "log", fields={"liked": "feedback"})
    of_sequences = settings("liked") if "gr" in recipe else ["training.epochs=1", "training.metric=NE(liked)"]
    named = "model.fields" if "rates" in recipe else "model.feedback.fields"
    trained = facta.train(log, recipe, tmp_path / "a", [*of_sequences, f'{named}=["liked"]'], log=QUIET)
    assert len(facta.predict(trained, log).user) == 30
    with pytest.raises(facta.DataError, match="two events to train on"):
        facta.train(log, "simulator/gr-fused", tmp_path / "b", settings("liked"), log=QUIET)


@pytest.mark.parametrize("system", ["gr-ranking", "dlrm", "rates"])
@pytest.mark.parametrize("described", [False, True])
def test_a_log_of_ones_own_needs_no_setting(tmp_path: Path, system: str, described: bool) -> None:
    items = pl.DataFrame({"item_id": range(12), "kind": ["a", "b", "c"] * 4})
    tables: dict[str, Any] = {"items": items, "item_fields": {"kind": "categorical"}} if described else {}
    fields: dict[str, Any] = {"liked": {}, "dwell": {"positive": ">= 0.5"}, "event_type": "context"}
    log = facta.prepare(events(), tmp_path / "log", fields=fields, **tables)
    trained = facta.train(log, f"own-log/{system}", tmp_path / "a", ["training.epochs=1"], log=QUIET)
    found = facta.predict(trained, log, stage="validation")
    assert sorted(found.p) == ["dwell", "liked"]
    (line,) = journal.read(facta.run_folder(tmp_path / "a"), "validation")
    assert line["NE"] == pytest.approx(np.mean([found.means[f"NE({field})"] for field in found.p]))
    assert line["best"] and 0.5 < line["NE"] < 2
