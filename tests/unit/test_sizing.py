"""Recipes for a log of one's own: sizes follow from the log, openly, and what somebody sets is left alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import facta
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import temporal
from facta.errors import ProtocolError
from facta.eval.experiment import Experiment
from facta.eval.fitting import Fitting
from facta.models.recommender import RecommenderConfig
from facta.recipes.find import every, find
from facta.recipes.recipe import RecipeConfig
from facta.recipes.sizing import KEYS, LogSize, _value, sized
from facta.training.log import Log
from tests import worlds

RETRIEVAL = ("bert4rec-ss", "hstu", "hstu-rules", "sasrec-rules", "sasrec-ss", "rules", "item-knn", "popularity")
LOO = {"protocol.split": "loo-val", "protocol.train_end": None, "protocol.validation_end": None}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Everybody repeats one item for ever."""
    return facta.prepare(worlds.copy_last(users=64), tmp_path_factory.mktemp("data") / "log")


def cut(recipe: RecipeConfig, data: Dataset) -> tuple[RecipeConfig, Fitting]:
    fitting = Experiment(data, recipe.protocol).fitting
    return sized(recipe, fitting), fitting


def size(lengths: list[int], requests: int = 100) -> LogSize:
    return LogSize(np.array(lengths, dtype=np.int64), requests, timed=True)


@pytest.mark.parametrize("system", RETRIEVAL)
def test_a_log_of_ones_own_has_retrieval_under_one_protocol_with_nothing_masked(system: str) -> None:
    protocol = find(f"own-log/{system}").protocol
    assert protocol == find("own-log/hstu").protocol
    assert (protocol.split, protocol.mask, protocol.state) == ("temporal", "nothing", "rolling")
    assert protocol.id != find("own-log/gr-ranking").protocol.id  # which masks


def test_every_open_setting_is_filled_in_with_its_reason(log: Dataset) -> None:
    for system in ("hstu", "sasrec-ss", "hstu-rules", "sasrec-rules", "bert4rec-ss"):
        open_ = find(f"own-log/{system}")
        assert set(open_.derived) == set(KEYS) - (set() if system.startswith("hstu") else {"model.encoder.bias"})
        filled, fitting = cut(open_, log)
        assert set(filled.derived) == set(open_.derived)
        for key, reason in filled.derived.items():
            value: object = filled
            for name in key.split("."):
                value = getattr(value, name)
            assert reason.startswith(f"{value}, because ")
        assert sized(filled, fitting) == filled  # an artifact's recipe is settled


def test_what_somebody_sets_is_not_derived(log: Dataset) -> None:
    recipe = find("own-log/hstu")
    ways = [
        recipe.override(["training.epochs=7"]),
        recipe.override({"training": {"epochs": 7}}),
        recipe.change(training={"epochs": 7}),
    ]
    for way in ways:
        filled, _ = cut(way, log)
        assert filled.training is not None and filled.training.epochs == 7
        assert set(KEYS) - set(filled.derived) == {"training.epochs"}
        assert filled.training.validate_every == max(1, 7 // 10)  # of 7 epochs, not of the default's
    whole = recipe.change(training=recipe.training)
    assert not [key for key in whole.derived if key.startswith("training.")]
    assert recipe.change(name="mine").derived == recipe.derived
    gru, _ = cut(recipe.override(["model.encoder.kind=gru"]), log)
    assert "model.encoder.bias" not in gru.derived  # a GRU has none


def test_sizes_grow_with_the_log() -> None:
    recipe = find("own-log/hstu")
    small, shop, large = size([5] * 200), size([20] * 10_000), size([300] * 20_000)

    def value(key: str, of: LogSize) -> object:
        return _value(key, of, recipe)[0]

    assert [value("model.window", of) for of in (small, shop, large)] == [16, 32, 256]
    assert [value("model.width", of) for of in (small, shop, large)] == [32, 64, 128]
    assert [value("model.encoder.dropout", of) for of in (small, shop, large)] == [0.5, 0.5, 0.2]
    assert [value("training.batch_size", of) for of in (small, shop, large)] == [16, 128, 256]
    assert [value("training.epochs", of) for of in (small, shop, large)] == [100, 100, 7]  # 200 of 300 events are read
    assert value("training.validate_every", size([20] * 10_000, requests=100)) == 10
    assert value("training.validate_every", size([20] * 10_000, requests=300_000)) == 20  # each reads 20 events


@pytest.mark.parametrize(
    ("key", "events", "expected"),
    [
        ("model.width", 19_999, 32),
        ("model.width", 20_000, 64),
        ("model.width", 2_999_999, 64),
        ("model.width", 3_000_000, 128),
        ("model.encoder.dropout", 299_999, 0.5),
        ("model.embedding.dropout", 300_000, 0.3),
        ("model.encoder.dropout", 999_999, 0.3),
        ("model.embedding.dropout", 1_000_000, 0.2),
    ],
)
def test_sizes_change_where_their_reasons_say(key: str, events: int, expected: float) -> None:
    value, reason = _value(key, size([1] * events), find("own-log/hstu"))
    assert value == expected and f"{events:,} training events" in reason


def test_only_training_events_count(tmp_path: Path) -> None:
    """Three users with 4, 3 and 1 events before the cut, and as many again behind it, of which half is validation."""
    days = [(user, day) for user, before in (("a", 4), ("b", 3), ("c", 1)) for day in range(-before, before)]
    frame = pl.DataFrame(days, schema=["user_id", "day"], orient="row").with_columns(
        item_id=pl.int_range(pl.len()) % 3, timestamp=1_600_000_000_000 + pl.col("day") * worlds.DAY
    )
    data = facta.prepare(frame.drop("day"), tmp_path / "log")
    split = temporal(data, validation_from=1_600_000_000_000, test_from=1_600_000_000_000 + worlds.DAY)
    found = LogSize.of(Fitting(data, facta.ProtocolConfig(), split))
    assert sorted(found.lengths.tolist()) == [3, 4] and found.requests == 3 and found.timed
    timeless = facta.prepare(frame.drop("day", "timestamp"), tmp_path / "n")
    assert not LogSize.of(Experiment(timeless, facta.ProtocolConfig()).fitting).timed


def test_derived_values_are_said_and_saved(log: Dataset, tmp_path: Path) -> None:
    said = io.StringIO()
    artifact = facta.train(
        log, "own-log/hstu", tmp_path / "a", ["training.epochs=20"], log=Log("plain", said), overwrite=True
    )
    derived = artifact.config["derived"]
    assert set(derived) == set(KEYS) - {"training.epochs"}
    for key, reason in derived.items():
        assert f"{key}={reason}." in said.getvalue()
    assert facta.evaluate(artifact, log).means["HR@1"] > 0.5  # repeats may be recommended; popularity has .08


def test_a_recipe_with_rules_as_its_prior_is_sized_and_leaves_nothing_open(log: Dataset, tmp_path: Path) -> None:
    few = ["training.epochs=1", "training.validate_every=1"]
    artifact = facta.train(log, "own-log/sasrec-rules", tmp_path / "a", few, log=Log("quiet"))
    assert artifact.config["derived"] and all(artifact.config["derived"].values())
    prior = artifact.config["model"]["prior"]
    assert prior["rules"] is not None and prior["weight"] is not None
    assert facta.evaluate(artifact, log).means["HR@1"] > 0.9  # repeats: the rules know them, too


@pytest.mark.parametrize("system", ["rules", "item-knn", "popularity"])
def test_counted_recipes_work_on_the_same_split(log: Dataset, tmp_path: Path, system: str) -> None:
    result = facta.evaluate(facta.train(log, f"own-log/{system}", tmp_path / "a", log=Log("quiet")), log)
    assert result.protocol == find("own-log/hstu").protocol.id
    if system == "rules":
        assert result.means["HR@1"] == 1.0  # an item leads to itself


def test_a_log_without_times_says_what_to_set_and_then_works(tmp_path: Path) -> None:
    data = facta.prepare(worlds.cycle().drop("timestamp"), tmp_path / "log")
    with pytest.raises(ProtocolError, match=r"protocol\.split=loo-val, protocol\.train_end=null and") as told:
        facta.train(data, "own-log/hstu", tmp_path / "a")
    assert all(key in str(told.value) for key in LOO)
    for system in ("hstu", "rules"):
        changes = {**LOO, **({"training.epochs": 2, "training.patience": None} if system == "hstu" else {})}
        artifact = facta.train(data, f"own-log/{system}", tmp_path / system, changes, log=Log("quiet"))
        assert facta.evaluate(artifact, data).protocol.startswith("loo-val/")
        if system == "hstu":
            model = facta.RecipeConfig.parse(artifact.config).model
            assert isinstance(model, RecommenderConfig) and model.encoder.bias == "position"  # type: ignore[union-attr]


def test_only_recipes_for_any_log_leave_something_open() -> None:
    assert {name for name in every() if find(name).derived} == {
        f"own-log/{system}" for system in ("hstu", "sasrec-ss", "hstu-rules", "sasrec-rules", "bert4rec-ss")
    }


@pytest.mark.parametrize("events", [10, 1_000, 100_000])
def test_hidden_events_are_learned_as_often_as_others(events: int) -> None:
    """A quarter of them in an epoch: four times the epochs, rounding apart."""
    recipe = find("own-log/bert4rec-ss").override(["model.cloze.share=0.25", "model.window=256"])
    hidden, reason = _value("training.epochs", size([100] * events), recipe)
    others, _ = _value("training.epochs", size([100] * events), find("own-log/hstu").override(["model.window=256"]))
    assert 4 * others <= hidden < 4 * (others + 1) and "learns 25% of them" in reason


def test_a_window_covers_most_histories() -> None:
    lengths = [3] * 90 + [60] * 10
    window, reason = _value("model.window", size(lengths), find("own-log/hstu"))
    assert window == 64 and "60" in reason
    assert pl.Series(lengths).le(window).mean() == 1.0
