"""Every system, small enough to train in seconds on a tiny world, for CI and first steps. Its quality says nothing."""

from __future__ import annotations

from facta.recipes import movielens_1m
from facta.recipes.recipe import RecipeConfig


def _tiny(recipe: RecipeConfig) -> RecipeConfig:
    """The same system, a thousandth of the work."""
    name = recipe.name.replace("movielens-1m/", "debug/")
    if recipe.training is None:
        return recipe.change(name=name)
    return recipe.override(
        [
            f"name={name}",
            "model.window=16",
            "model.width=16",
            "model.embedding.dropout=0.0",
            "model.encoder.dropout=0.0",
            "model.encoder.layers=2",
            "training.learning_rate=0.01",
            "training.batch_size=16",
            "training.epochs=20",
            "training.patience=5",
            'search={"training.learning_rate": {"low": 0.003, "high": 0.03, "log": true}}',
        ]
    )


def hstu() -> RecipeConfig:
    return _tiny(movielens_1m.hstu())


def hstu_large() -> RecipeConfig:
    return _tiny(movielens_1m.hstu_large())


def sasrec() -> RecipeConfig:
    return _tiny(movielens_1m.sasrec())


def sasrec_ss() -> RecipeConfig:
    return _tiny(movielens_1m.sasrec_ss())


def sasrec_ce() -> RecipeConfig:
    return _tiny(movielens_1m.sasrec_ce())


def gsasrec() -> RecipeConfig:
    return _tiny(movielens_1m.gsasrec())


def gru4rec() -> RecipeConfig:
    return _tiny(movielens_1m.gru4rec())


def transformer_modern() -> RecipeConfig:
    return _tiny(movielens_1m.transformer_modern())


def popularity() -> RecipeConfig:
    return _tiny(movielens_1m.popularity())


def decayed_popularity() -> RecipeConfig:
    return _tiny(movielens_1m.decayed_popularity())


def item_knn() -> RecipeConfig:
    return _tiny(movielens_1m.item_knn())
