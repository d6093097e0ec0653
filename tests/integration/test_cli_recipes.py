"""Recipes from files, several seeds, all keys of a recipe, and entries of `evaluate` under names of one's own."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

import facta as library
from facta.recipes.find import every, find
from facta.recipes.keys import keys
from tests.integration.conftest import Facta
from tests.integration.test_cli import place as place  # the fixture


def test_a_recipe_comes_from_a_file(facta: Facta, place: Path, tmp_path: Path) -> None:
    recipe = facta("info", "debug/hstu", "--json").json
    recipe |= {"name": "mine", "training": {**recipe["training"], "epochs": 1}}
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(recipe))
    said = facta("train", file, "--data", place / "log", "--out", tmp_path / "mine", "--json")
    assert said.code == 0 and said.json["recipe"] == "mine"
    artifact = library.load(tmp_path / "mine")
    assert artifact.config["training"]["epochs"] == 1
    assert library.find_recipe(str(file)) == library.find_recipe(str(tmp_path / "mine" / "config.json"))
    shown = facta("info", file, "--json").json
    assert shown == find(str(file)).model_dump(mode="json")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "is no JSON object"),
        ('{"name": "x", "model": {"kind": "popularity"}, "trainign": 1}', "Unknown key 'trainign'"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_sentence(
    facta: Facta, place: Path, tmp_path: Path, text: str | None, expected: str
) -> None:
    file = tmp_path / "mine.json"
    if text is not None:
        file.write_text(text)
    said = facta("train", file, "--data", place / "log", "--out", tmp_path / "mine")
    assert said.code == 1 and expected in said.err and "mine.json" in said.err


def test_seeds_are_trained_side_by_side_and_summed_up(facta: Facta, place: Path, tmp_path: Path) -> None:
    asked = ("train", "debug/hstu", "--data", place / "log", "--out", tmp_path / "runs", "--set", "training.epochs=1")
    said = facta(*asked, "--seeds", "0,3", "--json")
    assert said.code == 0
    artifacts = {seed: library.load(tmp_path / "runs" / f"seed-{seed}") for seed in (0, 3)}
    assert [one.config["training"]["seed"] for one in artifacts.values()] == [0, 3]
    for place_, stage in enumerate(said.json["stages"]):
        means = [one.metrics[place_]["metrics"]["NDCG@10"]["mean"] for one in artifacts.values()]
        assert means[0] != means[1]
        assert stage["over_seeds"]["NDCG@10"]["mean"] == pytest.approx(statistics.mean(means))
        assert stage["over_seeds"]["NDCG@10"]["deviation"] == pytest.approx(statistics.stdev(means))
    written = (tmp_path / "runs" / "seed-0" / "checksums.json").stat().st_mtime_ns
    again = facta(*asked, "--seeds", "0,3")
    assert again.code == 0 and "mean and deviation over 2 seeds" in again.out and "seed 3" in again.out
    assert (tmp_path / "runs" / "seed-0" / "checksums.json").stat().st_mtime_ns == written  # it went on: nothing to do
    other = facta(*asked, "--seeds", "0,3", "--set", "training.batch_size=7")
    assert other.code == 1 and "holds a finished artifact" in other.err
    for seeds, expected in (("0,x", "expected whole numbers"), ("1,1", "expected different whole numbers")):
        said = facta(*asked, "--seeds", seeds)
        assert said.code == 1 and expected in said.err
    counted = facta("train", "debug/popularity", "--data", place / "log", "--out", tmp_path / "p", "--seeds", "0,1")
    assert counted.code == 1 and "has no seeds" in counted.err


def test_every_key_of_every_recipe_can_be_set_to_its_own_value() -> None:
    for name in every():
        recipe = find(name)
        found = {one.key: one for one in keys(recipe)}
        described = [one for one in found.values() if one.description]
        assert len(found) > 10 or recipe.training is None
        if recipe.training is not None:
            assert len(described) > 4 and found["training.epochs"].value == recipe.training.epochs
        for one in found.values():
            left_open = one.key in recipe.derived  # what is set is not derived from the log any more
            if one.value is not None and one.key != "name" and not left_open:
                assert recipe.override({one.key: one.value}) == recipe, (name, one.key)


def test_keys_are_shown_with_defaults_choices_and_meanings(facta: Facta) -> None:
    found = {one["key"]: one for one in facta("info", "movielens-1m/hstu", "--keys", "--json").json}
    assert found["model.window"]["allowed"] == ">= 1" and "events of a history" in found["model.window"]["description"]
    assert found["model.layout"]["allowed"].startswith("item, fused")
    assert {"hstu", "transformer", "gru"} <= set(found["model.encoder.kind"]["allowed"].split(", "))
    assert found["model.feedback.fields"]["value"] is None  # of a part that this recipe leaves out
    said = facta("info", "movielens-1m/hstu", "--keys")
    assert said.code == 0 and "model.encoder.kind" in said.out
    assert facta("info", "--keys").code == 1


def test_lists_of_settings_are_written_with_commas_or_as_json() -> None:
    recipe = find("own-log/gr-ranking")
    expected = recipe.override({"model.feedback.fields": ["click", "like"]})
    for text in ("click,like", "click, like,", '["click", "like"]'):
        assert recipe.override([f"model.feedback.fields={text}"]) == expected
    assert recipe.override(["model.feedback.fields=click"]) == recipe.override({"model.feedback.fields": ["click"]})
    assert recipe.override(["name=a,b"]).name == "a,b" and type(recipe.override(["name=a,b"]).name) is str


def test_entries_have_names_and_the_table_says_recipes_and_data(facta: Facta, place: Path) -> None:
    data = ("--data", place / "log")
    said = facta("evaluate", f"old={place / 'popular'}", f"new={place / 'popular'}", place / "hstu", *data)
    assert said.code == 0 and f"data: {place / 'log'}" in said.out.replace("\n", "")
    assert "old (debug/popularity)" in said.out and "new (debug/popularity)" in said.out
    assert "new against old" in said.out and "debug/hstu against old" in said.out
    found = facta("evaluate", f"old={place / 'popular'}", place / "hstu", *data, "--json").json
    assert found["data"] == str(place / "log")
    assert [(one["name"], one["recipe"]) for one in found["results"]] == [
        ("old", "debug/popularity"),
        ("debug/hstu", "debug/hstu"),
    ]
    twice = facta("evaluate", f"a={place / 'popular'}", f"a={place / 'hstu'}", *data)
    assert twice.code == 1 and "Two entries are named 'a'" in twice.err
    assert "expected an artifact or NAME=ARTIFACT" in facta("evaluate", f"={place / 'hstu'}", *data).err
