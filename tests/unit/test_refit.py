"""Refit: a model that is trained again on the validation events has seen these and no test event, and says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from benchmarks.runs import refitted
from torch import Tensor

import facta
from facta.eval.experiment import Experiment
from facta.models.recommender import Recommender
from facta.recipes.fit import Fitted, refit, train_model
from facta.training.journal import read
from facta.training.log import Log
from tests import worlds

QUIET = Log("quiet")
YES = "protocol.refit=yes"
SHORT = ["training.epochs=6", "training.patience=null"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    return facta.prepare(worlds.checkerboard(), tmp_path_factory.mktemp("data") / "log")


@pytest.fixture(scope="module")
def artifact(log: facta.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifacts") / "hstu"
    facta.train(log, "debug/hstu", path, [*SHORT, YES], log=QUIET)
    return path


def news(tmp_path: Path, users: int = 40) -> facta.Dataset:
    """Everybody has six ordinary items and then, as validation and as test event, the same new one, which is 99."""
    rng = np.random.default_rng(3)
    rows = [
        {"user_id": user, "item_id": item, "timestamp": (1_600_000_000 + 60 * place) * 1000}
        for user in range(users)
        for place, item in enumerate([*rng.permutation(20)[:6].tolist(), 99, 99])
    ]
    return facta.prepare(pl.DataFrame(rows), tmp_path / "news")


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [("popularity", []), ("decayed-popularity", []), ("hstu", [*SHORT, "training.keep=last"])],
)
def test_what_only_validation_events_show_is_known_after_the_refit_alone(
    tmp_path: Path, recipe: str, settings: list[str]
) -> None:
    data, changes = news(tmp_path), [*settings, "protocol.mask=nothing"]
    before = facta.train(data, f"debug/{recipe}", tmp_path / "no", changes, log=QUIET)
    after = facta.train(data, f"debug/{recipe}", tmp_path / "yes", [*changes, YES], log=QUIET)
    reached = [facta.evaluate(one, data, ks=(1,)).means["HR@1"] for one in (before, after)]
    assert reached[0] == 0 and reached[1] > 0.9


@pytest.mark.parametrize("recipe", ["popularity", "item-knn", "hstu"])
def test_the_second_training_has_all_but_the_test_events(log: facta.Dataset, tmp_path: Path, recipe: str) -> None:
    changes = SHORT if recipe == "hstu" else []
    trained = facta.train(log, f"debug/{recipe}", tmp_path / "a", [*changes, YES], log=QUIET)
    last = log.offsets[1:] - 1
    expected = np.bincount(np.delete(log.item, last), minlength=log.num_items)
    assert trained.catalogue["training_events"].to_list() == expected.tolist()
    if recipe == "popularity":
        assert trained.model.popularity.tolist() == expected.tolist()


def test_temporal_refit_ends_where_the_test_begins(log: facta.Dataset, tmp_path: Path) -> None:
    cuts = ["protocol.split=temporal", "protocol.train_end=50%", "protocol.validation_end=80%", YES]
    trained = facta.train(log, "debug/popularity", tmp_path / "a", cuts, log=QUIET)
    assert log.timestamp is not None
    begins = np.sort(log.timestamp)[int(0.8 * log.num_events)]
    expected = np.bincount(log.item[log.timestamp < begins], minlength=log.num_items)
    assert trained.model.popularity.tolist() == expected.tolist()


def test_the_model_does_not_depend_on_test_events(log: facta.Dataset, artifact: Path, tmp_path: Path) -> None:
    """Other test items, the same model."""
    frame = worlds.checkerboard().sort("user_id", "timestamp", maintain_order=True)
    newest = pl.int_range(pl.len()).over("user_id") == pl.len().over("user_id") - 1
    swapped = frame.with_columns(item_id=pl.when(newest).then(pl.col("item_id").reverse()).otherwise("item_id"))
    assert not swapped.equals(frame)
    ids = pl.DataFrame({"item_id": log.items["item_id"]})
    other = facta.prepare(swapped, tmp_path / "other", items=ids)
    again = facta.train(other, "debug/hstu", tmp_path / "a", [*SHORT, YES], log=QUIET)
    assert (other.item != log.item).any()
    for (name, ours), theirs in zip(
        facta.load(artifact).model.state_dict().items(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_epochs_come_from_validation_and_the_rate_of_an_epoch_stays(log: facta.Dataset, tmp_path: Path) -> None:
    changes = ["training.epochs=8", "training.schedule=cosine", "training.patience=2", "training.validate_every=2"]
    out = tmp_path / "a"
    facta.train(log, "debug/hstu", out, [*changes, YES], log=QUIET)
    first, second = facta.run_folder(out), facta.run_folder(out) / "refit"
    validations = read(first, "validation")
    chosen = max(validations, key=lambda line: line["NDCG@10"])["epoch"]
    assert len(read(second, "epoch")) == chosen < 8  # else this test tells nothing
    assert not read(second, "validation")
    rates = [
        {line["epoch"]: line["learning_rate"] for line in reversed(read(run, "step"))}  # of each epoch's first step
        for run in (first, second)
    ]
    assert [rates[1][epoch] for epoch in range(1, chosen + 1)] == pytest.approx(
        [rates[0][epoch] for epoch in range(1, chosen + 1)]
    )
    assert sum(line["events"] for line in read(second, "step") if line["epoch"] == 1) > sum(
        line["events"] for line in read(first, "step") if line["epoch"] == 1
    )


def test_settings_that_validation_chose_are_kept(log: facta.Dataset, tmp_path: Path) -> None:
    before = facta.train(log, "debug/item-knn", tmp_path / "no", log=QUIET)
    after = facta.train(log, "debug/item-knn", tmp_path / "yes", [YES], log=QUIET)
    assert after.model.config == before.model.config
    assert not torch.equal(after.model.similarity, before.model.similarity)


def test_tensors_fitted_on_validation_are_carried_over(
    log: facta.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that fits something on validation names it, and the second training takes it as it is."""
    monkeypatch.setattr(Recommender, "fitted_on_validation", ("encoder.norm.weight",), raising=False)
    recipe = facta.find_recipe("debug/hstu", [*SHORT, "training.epochs=1"])
    fitting = Experiment(log, recipe.protocol).fitting
    model, _ = train_model(recipe, fitting, tmp_path / "run", QUIET)
    state: dict[str, Tensor] = model.state_dict()
    name = next(name for name in state if name.startswith("encoder."))
    monkeypatch.setattr(Recommender, "fitted_on_validation", (name,))
    state[name].fill_(0.125)
    second = refit(recipe, Fitted(model, 1), fitting.refit, tmp_path / "run", QUIET)
    assert (second.state_dict()[name] == 0.125).all()


def test_what_an_artifact_says_of_itself(log: facta.Dataset, artifact: Path) -> None:
    loaded = facta.load(artifact)
    validation, test = loaded.metrics
    assert "/refit=no/" in validation["protocol"] and validation["stage"] == "validation" and validation["before_refit"]
    assert "/refit=yes/" in test["protocol"] and test["stage"] == "test" and "before_refit" not in test
    assert facta.evaluate(loaded, log).summary() == json.loads(json.dumps(test))
    best = max(line["NDCG@10"] for line in read(facta.run_folder(artifact), "validation"))
    assert validation["metrics"]["NDCG@10"]["mean"] == pytest.approx(best, abs=1e-6)
    card = (artifact / "README.md").read_text()
    assert "trained twice" in card and "(the first training, before" in card


def test_refit_and_no_refit_are_no_company(log: facta.Dataset, artifact: Path, tmp_path: Path) -> None:
    other = facta.train(log, "debug/hstu", tmp_path / "no", SHORT, log=QUIET)
    with pytest.raises(facta.ProtocolError, match="different protocols"):
        facta.compare(facta.evaluate(artifact, log), facta.evaluate(other, log), "NDCG@10")
    with pytest.raises(facta.ProtocolError, match=r"trained with refit=yes and is asked under loo-val/refit=no"):
        facta.evaluate(artifact, log, facta.ProtocolConfig())
    with pytest.raises(facta.ProtocolError, match=r"trained with refit=no and is asked under loo-val/refit=yes"):
        facta.evaluate(other, log, facta.ProtocolConfig(refit="yes"))


def test_validation_events_are_not_asked_of_a_model_that_knows_them(log: facta.Dataset, artifact: Path) -> None:
    with pytest.raises(facta.ProtocolError, match="trained again on the validation events"):
        facta.evaluate(artifact, log, stage="validation")


def test_without_validation_there_is_nothing_to_choose_by() -> None:
    with pytest.raises(facta.ConfigError, match=r"refit=yes with loo-paper.*use loo-val"):
        facta.ProtocolConfig(split="loo-paper", refit="yes")


def test_an_overwritten_run_leaves_no_second_run_behind(log: facta.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "a"
    facta.train(log, "debug/hstu", out, [*SHORT, "training.epochs=1", YES], log=QUIET)
    assert (facta.run_folder(out) / "refit" / "metrics.jsonl").is_file()
    facta.train(log, "debug/hstu", out, [*SHORT, "training.epochs=1"], overwrite=True, log=QUIET)
    assert not (facta.run_folder(out) / "refit").exists()


def test_items_that_only_validation_shows_are_ranked_after_the_refit(tmp_path: Path) -> None:
    data = news(tmp_path)
    protocol: dict[str, Any] = {"rank": "trained", "mask": "nothing"}
    counts = [
        len(Experiment(data, facta.ProtocolConfig(refit=again, **protocol)).ranked_items) for again in ("no", "yes")
    ]
    assert counts == [20, 21]


def test_a_trained_artifact_is_refitted_to_the_bits_of_a_training_under_refit(
    log: facta.Dataset, tmp_path: Path
) -> None:
    """The figures of both protocols are measured on one first run (`benchmarks.runs`)."""
    no, yes = tmp_path / "no", tmp_path / "yes"
    changes = ["training.epochs=8", "training.patience=2"]
    first = facta.train(log, "debug/hstu-rules", no, changes, log=QUIET)
    trained = facta.train(log, "debug/hstu-rules", yes, [*changes, YES], log=QUIET)
    again = refitted(facta.load(no), log, facta.run_folder(no), tmp_path / "again.run")
    assert [line["metrics"] for line in again.metrics] == [line["metrics"] for line in trained.metrics]
    assert first.metrics[0]["metrics"] == trained.metrics[0]["metrics"]
    found, expected = again.model.state_dict(), trained.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
