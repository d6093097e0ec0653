"""Every system, small enough to train in seconds on a tiny world, for CI and first steps.
Its quality is meaningless."""

from __future__ import annotations

from facta.recipes import movielens_1m
from facta.recipes.recipe import RecipeConfig

BASE = movielens_1m  # each of its recipes is one of this folder, changed by `derive` (`facta.recipes.find`)


def derive(recipe: RecipeConfig) -> RecipeConfig:
    """The same system, a thousandth of the work."""
    if recipe.training is None:
        return recipe
    return recipe.override(
        [
            "model.window=16",
            "model.width=16",
            "model.embedding.dropout=0.0",
            "model.encoder.dropout=0.0",
            "model.encoder.layers=2",
            "training.learning_rate=0.01",
            "training.batch_size=16",
            "training.schedule=constant",
            "training.epochs=20",
            "training.validate_every=1",
            "training.patience=5",
            'search={"training.learning_rate": {"low": 0.003, "high": 0.03, "log": true}}',
        ]
    )
