"""Overrides: texts, a flat mapping and a nested one say the same, in every verb, and wrong ones are sentences."""

from __future__ import annotations

import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

import facta
from facta.models.baselines import ItemKNNConfig
from facta.recipes.find import find
from facta.recipes.recipe import RecipeConfig
from facta.training.log import Log
from facta.training.trainer import TrainingConfig
from tests import worlds

QUIET = Log("quiet")
BASE = "movielens-1m/hstu"
TEXTS = {
    "training.epochs=3": 3,
    "training.batch_size=4": 4,
    "model.encoder.layers=7": 7,
    "model.next_item.loss.negatives.kind=mixed": "mixed",
    'search={"training.learning_rate": [0.1, 0.2]}': {"training.learning_rate": [0.1, 0.2]},
    "protocol.mask=nothing": "nothing",
}
"""A setting as text -> its value."""


def test_all_forms_say_the_same() -> None:
    """Some keys dotted, some nested, in any order: a key of a config is a setting, one of `search` part of a value."""
    said = find(BASE).override([*TEXTS])
    assert said.training is not None and (said.training.epochs, said.training.batch_size) == (3, 4)
    assert said.search == {"training.learning_rate": (0.1, 0.2)}
    rng = random.Random(0)
    for _ in range(50):
        given: dict[str, Any] = {}
        for text, value in rng.sample([*TEXTS.items()], len(TEXTS)):
            _put(given, text.split("=")[0].split("."), value, rng)
        before = deepcopy(given)
        assert find(BASE).override(given) == said, given
        assert given == before, "what the caller holds was changed"


def _put(given: dict[str, Any], keys: list[str], value: Any, rng: random.Random) -> None:
    """Put a value somewhere below: `{"a.b": {"c": value}}`, `{"a": {"b": {"c": value}}}`, …"""
    cut = rng.randint(1, len(keys))
    head, rest = ".".join(keys[:cut]), keys[cut:]
    if not rest:
        given[head] = value
        return
    below = given.setdefault(head, {})
    _put(below, rest, value, rng)


def test_the_later_of_two_settings_counts_in_any_form() -> None:
    for given in ({"training": {"epochs": 3}, "training.epochs": 4}, {"training.epochs": 3, "training": {"epochs": 4}}):
        assert _training(find(BASE).override(given)) == _training(find(BASE).change(training={"epochs": 4}))
    both = find(BASE).override({"search.a": [1], "search": {"b": [2]}})
    assert both.search == {"b": (2,)}, "a value as a whole"
    held: dict[str, Any] = {"search": {"b": [2]}, "search.a": [1]}
    assert find(BASE).override(held).search == {"a": (1,), "b": (2,)}
    assert held["search"] == {"b": [2]}, "what the caller holds was changed"
    whole = TrainingConfig(epochs=3, metric="NDCG@10")
    assert _training(find(BASE).override({"training": whole})) == whole
    assert find(BASE).override({"training": {}, "model": {"encoder": {}}}) == find(BASE)


def test_a_kind_in_a_nested_mapping_starts_from_its_defaults() -> None:
    counted = find(BASE).override({"model": {"kind": "item-knn", "window": 9}, "training": None})
    assert counted.model == ItemKNNConfig(window=9)
    gru = find(BASE).override({"model": {"encoder": {"layers": 3, "kind": "gru"}}})
    assert gru == find(BASE).override(["model.encoder.kind=gru", "model.encoder.layers=3"])


def _training(recipe: RecipeConfig) -> TrainingConfig:
    assert recipe.training is not None
    return recipe.training


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (3, r"^Found the settings 3; expected \['training.epochs=3'\], \{'training.epochs': 3\} or \{'training':"),
        (None, "^Found the settings None; expected"),
        ({3: 4}, r"^Found the setting 3; expected a key such as 'training\.epochs'\.$"),
        ({"training": {3: 4}}, r"^Found the setting 3; expected a key such as 'training\.epochs'\.$"),
        ([("training.epochs", 3)], r"^Found the setting \('training\.epochs', 3\); expected KEY=VALUE"),
        ([{"training.epochs": 3}], r"^Found the setting \{'training\.epochs': 3\}; expected KEY=VALUE"),
        ("training.epochs", r"^Found the setting 'training\.epochs'; expected KEY=VALUE"),
        ({"training": 3}, "^Config key 'training' has the value 3: "),
        ({"training": {"epochs": {"a": 1}}}, r"^Config key 'training\.epochs' has the value \{'a': 1\}: "),
        ({"training": {"epohcs": 3}}, "^Unknown key 'epohcs' for TrainingConfig; valid keys: .*epochs"),
        ({"model": {"encoder.layer": 3}}, "^Unknown key 'layer' for HSTUConfig; valid keys: .*layers"),
        ({"trianing": {"epochs": 3}}, "^Unknown key 'trianing' for RecipeConfig; valid keys: .*training"),
        ({"training.epochs.x": 3}, r"^The setting 'epochs\.x' does not exist: nothing lies below 'epochs'"),
        ({"training": {"epochs.x": 3}}, r"^The setting 'epochs\.x' does not exist: nothing lies below 'epochs'"),
        ({"": 3}, "^Unknown key '' for RecipeConfig"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_a_sentence(overrides: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(facta.ConfigError, match=message) as found:
        facta.find_recipe(BASE, overrides)
    assert len(str(found.value)) < 500 and "\n" not in str(found.value)


def test_every_verb_takes_every_form(tmp_path: Path) -> None:
    data = facta.prepare(worlds.checkerboard(), tmp_path / "data")
    nested: dict[str, Any] = {"training": {"epochs": 1}, "protocol": {"mask": "nothing"}}
    forms = [["training.epochs=1", "protocol.mask=nothing"], {"training.epochs": 1, "protocol.mask": "nothing"}, nested]
    trained = [facta.train(data, "debug/hstu", tmp_path / f"{n}", one, log=QUIET) for n, one in enumerate(forms)]
    assert len({one.fingerprint for one in trained}) == 1
    (seeded,) = facta.train_seeds(data, "debug/hstu", tmp_path / "seeds", [0], nested, log=QUIET).values()
    assert seeded.fingerprint == trained[0].fingerprint
    protocols = [["mask=history"], {"mask": "history"}, "mask=history", facta.ProtocolConfig(mask="history")]
    results = [facta.evaluate(trained[0], data, one).summary() for one in protocols]
    assert all(one == results[0] for one in results) and "mask=history" in results[0]["protocol"]
    assert "mask=nothing" in facta.evaluate(trained[0], data).protocol
    with pytest.raises(facta.ConfigError, match=r"^Unknown key 'maks' for ProtocolConfig; valid keys: mask"):
        facta.evaluate(trained[0], data, {"maks": "history"})


def test_tune_fixes_what_a_nested_mapping_names_and_no_more(tmp_path: Path) -> None:
    data = facta.prepare(worlds.cycle(), tmp_path / "data")
    space = {"training.learning_rate": (0.01, 0.02), "model.encoder.layers": (1, 2)}
    recipe = facta.find_recipe("debug/sasrec-ce").change(search=space)
    nested: dict[str, Any] = {"training": {"epochs": 1}, "model": {"encoder": {"layers": 1}}}
    trials = facta.tune(data, recipe, tmp_path / "nested", nested, trials=2, log=QUIET)
    assert [set(one.settings) for one in trials] == [set(), {"training.learning_rate"}]
