"""A dataset answers for an artifact only where its codes mean what they meant in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import facta

SMALL = [
    *(f"model.embedding.{change}" for change in ("features=false", "id_width=null", "hidden_ids=0", "calendar=false")),
    *("model.feedback.fields=null", "model.width=8", "model.encoder.heads=1", "model.encoder.layers=1"),
    *("training.epochs=1", "training.metric=NE(liked)"),
    *("protocol.split=loo-val", "protocol.train_end=null", "protocol.validation_end=null"),
]
DAY = 86_400_000


def events() -> pl.DataFrame:
    """60 users with ten events each; what they are shown on, and how long they stayed."""
    rng, count = np.random.default_rng(5), 600
    return pl.DataFrame(
        {
            "user_id": np.arange(count) % 60,
            "item_id": rng.permutation(np.arange(count) % 20),
            "timestamp": 1_700_000_000_000 + np.arange(count) * DAY // 10,
            "surface": rng.choice(["b", "c"], count),
            "liked": rng.random(count) < 0.4,
            "stayed": rng.random(count),
        }
    )


FIELDS: dict[str, Any] = {"surface": {"role": "context"}, "liked": {}, "stayed": {"boundaries": [0.3, 0.6]}}
USERS = pl.DataFrame({"user_id": np.arange(60), "city": ["x", "y", "z"] * 20})


def prepared(
    out: Path, frame: pl.DataFrame, fields: dict[str, Any] = FIELDS, users: pl.DataFrame = USERS
) -> facta.Dataset:
    return facta.prepare(frame, out, fields=fields, users=users, user_fields=["city"])


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> facta.Artifact:
    place = tmp_path_factory.mktemp("matching")
    return facta.train(prepared(place / "log", events()), "simulator/gr-ranking", place / "model", SMALL)


def test_another_log_with_the_same_codes_is_read(artifact: facta.Artifact, tmp_path: Path) -> None:
    other = prepared(tmp_path / "other", events().with_columns(liked=~pl.col("liked")))
    assert facta.predict(artifact, other, other_data=True).dataset == other.content_hash


CLOSER: dict[str, Any] = {**FIELDS, "stayed": {"boundaries": [0.3, 0.7]}}
LIKED: dict[str, Any] = {**FIELDS, "stayed": {"boundaries": [0.3, 0.6], "positive": ">= 0.6"}}
FIRST = pl.col("user_id") == 0
OTHER: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "renamed": ({"surface": pl.col("surface").replace("c", "a")}, FIELDS, r"as categorical, .*\(b, c\).*a, b"),
    "one more": ({"surface": pl.when(FIRST).then(pl.lit("d")).otherwise("surface")}, FIELDS, "'surface'.*b, c, d"),
    "boundaries": ({}, CLOSER, r"'stayed' as numeric.*0\.3, 0\.7"),
    "success": ({}, LIKED, "'stayed'.*successes"),
    "missing": ({}, {name: FIELDS[name] for name in ("liked", "stayed")}, "'surface'.*has no such column"),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_values_are_refused_by_name(artifact: facta.Artifact, tmp_path: Path, name: str) -> None:
    changes, fields, sentence = OTHER[name]
    other = prepared(tmp_path / "other", events().with_columns(**changes), fields)
    with pytest.raises(facta.DataError, match=sentence):
        facta.predict(artifact, other, other_data=True)


def test_other_facts_of_users_are_refused(artifact: facta.Artifact, tmp_path: Path) -> None:
    moved = USERS.with_columns(pl.col("city").replace("z", "w"))
    with pytest.raises(facta.DataError, match=r"'city' as categorical, .*\(x, y, z\).*w, x, y"):
        facta.predict(artifact, prepared(tmp_path / "other", events(), users=moved), other_data=True)
