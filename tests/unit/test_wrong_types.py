"""The public functions called with the obvious wrong type: a FactaError that a person can read, or an answer."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import facta
from facta.training.log import Log
from tests import worlds

WRONG: dict[str, Any] = {
    "none": None,
    "number": 7,
    "float": 2.5,
    "text": "nonsense",
    "bytes": b"x",
    "list": [1, 2],
    "empty": [],
    "mapping": {"a": 1},
    "object": object(),
    "array": np.array([1.0, np.nan]),
    "true": True,
    "nested": [[1], [None]],
}


class Call(NamedTuple):
    """A public function, and arguments that it accepts."""

    function: Callable[..., Any]
    given: Callable[[], dict[str, Any]]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Call]:
    place, number = tmp_path_factory.mktemp("wrong"), count()
    data = facta.prepare(worlds.checkerboard(), place / "data")
    artifact = facta.train(data, "debug/popularity", place / "artifact", log=Log("quiet"))
    similar = facta.train(data, "debug/item-knn", place / "similar", log=Log("quiet"))
    result, recipe = facta.evaluate(artifact, data), facta.find_recipe("debug/hstu")

    def out() -> Path:
        return place / f"out-{next(number)}"

    judged = {"dataset": data, "protocol": None, "stage": "test", "other_data": False, "progress": None}
    tables = {"items": None, "users": None, "series": None, "columns": None, "fields": None, "unit": None}
    declared: dict[str, Any] = {"item_fields": (), "user_fields": (), "series_fields": (), "catalogue": None}
    part: dict[str, Any] = {"pivot": None, "drop_users": (), "since": None, "until": None}
    rest: dict[str, Any] = {"drop": (), "overwrite": False, "progress": None, **part}
    trained: dict[str, Any] = {"dataset": data, "recipe": "debug/popularity", "overrides": (), "device": "cpu"}
    asked: dict[str, Any] = {"history": [1, 2], "at": None}
    return {
        "average": Call(facta.average, lambda: {"results": [result, result]}),
        "compare": Call(facta.compare, lambda: {"a": result, "b": result, "metric": "NDCG@10"}),
        "doctor": Call(facta.doctor, lambda: {"events": data, "columns": None, "fields": None, "unit": None}),
        "evaluate": Call(facta.evaluate, lambda: {"artifact": artifact, "ks": (10,), **judged}),
        "predict": Call(facta.predict, lambda: {"artifact": artifact, "calibrated": None, **judged}),
        "find_recipe": Call(facta.find_recipe, lambda: {"name": "debug/hstu", "overrides": ()}),
        "history_of": Call(facta.history_of, lambda: {"dataset": data, "user": 0, "until": None}),
        "load": Call(facta.load, lambda: {"path": place / "artifact"}),
        "prepare": Call(
            facta.prepare, lambda: {"source": worlds.checkerboard(), "out": out(), **tables, **declared, **rest}
        ),
        "run_folder": Call(facta.run_folder, lambda: {"out": "artifact"}),
        "train": Call(facta.train, lambda: {**trained, "out": out(), "overwrite": False, "log": Log("quiet")}),
        "histories_of": Call(facta.histories_of, lambda: {"dataset": data, "users": [0], "until": None}),
        "by_day": Call(
            facta.by_day,
            lambda: {
                **trained,
                "out": out(),
                "days": 1,
                "since": None,
                "overwrite": False,
                "progress": None,
                "log": None,
            },
        ),
        "train_seeds": Call(
            facta.train_seeds,
            lambda: {
                **trained,
                "recipe": "debug/hstu",
                "overrides": ["training.epochs=1"],
                "out": out(),
                "seeds": [0],
                "overwrite": False,
                "log": Log("quiet"),
            },
        ),
        "tune": Call(
            facta.tune, lambda: {**trained, "out": out(), "trials": 1, "seed": 0, "progress": None, "log": Log("quiet")}
        ),
        "Artifact.recommend": Call(artifact.recommend, lambda: {**asked, "k": 3, "exclude": None}),
        "Artifact.rank": Call(artifact.rank, lambda: {**asked, "candidates": [1], "context": None, "by": None}),
        "Artifact.similar_items": Call(similar.similar_items, lambda: {"item": 1, "k": 3}),
        "Artifact.save": Call(artifact.save, lambda: {"path": out(), "overwrite": False}),
        "Artifact.rows_of": Call(artifact.rows_of, lambda: {"ids": [1]}),
        "Artifact.titles": Call(artifact.titles, lambda: {"ids": [1]}),
        "Dataset.open": Call(facta.Dataset.open, lambda: {"path": place / "data"}),
        "History": Call(
            lambda items, times: artifact.recommend(facta.History(items, times)),
            lambda: {"items": [1, 2], "times": [1_600_000_000_000, 1_600_000_000_001]},
        ),
        "ProtocolConfig": Call(facta.ProtocolConfig, lambda: {"split": "loo-val", "mask": "history"}),
        "FieldConfig": Call(facta.FieldConfig, lambda: {"kind": "numeric", "boundaries": (1,), "positive": ">= 1"}),
        "FeatureConfig": Call(facta.FeatureConfig, lambda: {"kind": "numeric", "boundaries": (1,)}),
        "RecipeConfig.parse": Call(facta.RecipeConfig.parse, lambda: {"values": recipe.model_dump()}),
        "RecipeConfig.change": Call(recipe.change, lambda: {"name": "x", "model": {}, "training": {}, "protocol": {}}),
        "RecipeConfig.override": Call(recipe.override, lambda: {"settings": ()}),
    }


NAMES = (
    *("average", "compare", "doctor", "evaluate", "predict", "find_recipe", "history_of", "histories_of", "by_day"),
    *("load", "prepare", "run_folder", "train", "train_seeds", "tune", "Artifact.recommend", "Artifact.rank"),
    *("Artifact.save", "Artifact.similar_items", "Artifact.rows_of", "Artifact.titles", "History", "Dataset.open"),
    *("ProtocolConfig", "FieldConfig", "FeatureConfig", "RecipeConfig.parse", "RecipeConfig.change"),
    "RecipeConfig.override",
)
OF_FEEDBACK = ("predict", "tune", "Artifact.rank", "by_day")  # refused as given: popularity is counted


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_type_is_a_sentence(
    calls: dict[str, Call], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a text is a path, too, and something is written there
    function, given = calls[name]
    if name not in OF_FEEDBACK:
        function(**given())
    for parameter in given():
        for wrong, value in WRONG.items():
            try:
                function(**{**given(), parameter: value})
            except facta.FactaError as error:
                assert "\n" not in str(error) and len(str(error)) < 500, (parameter, wrong, str(error))
            except Exception as error:
                pytest.fail(f"{name}({parameter}={wrong}) raises {type(error).__name__}: {error}")


def test_every_public_function_is_asked_with_all_its_parameters(calls: dict[str, Call]) -> None:
    functions = {name for name in facta.__all__ if not isinstance(getattr(facta, name), type)}
    assert functions <= set(NAMES) == calls.keys()
    for name in functions:
        missing = signature(getattr(facta, name)).parameters.keys() - calls[name].given().keys()
        assert not missing, (name, missing)


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (facta.compare, {"a": [], "b": [], "metric": "NDCG@10"}, r"^Found a = \[\], of type list; expected what facta"),
        (facta.load, {"path": None}, r"^Found path = None, of type NoneType; expected a path\.$"),
        (
            facta.train,
            {"dataset": 3, "recipe": "debug/hstu", "out": "x"},
            "^Found dataset = 3, .*Dataset or a path",
        ),
        (facta.find_recipe, {"name": "debug/hstu", "overrides": 3}, r"^Found the settings 3; expected \['training\.ep"),
    ],
)
def test_the_sentence_says_what_was_found_and_expected(
    function: Callable[..., Any], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(facta.FactaError, match=message):
        function(**given)
