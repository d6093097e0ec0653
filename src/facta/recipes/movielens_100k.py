"""MovieLens-100K: the systems of `movielens_1m` on a tenth of the data, so with more dropout.

The learning rate falls to 0: with a constant rate and 943 validation requests the best epoch is mostly noise. On
validation (SASRec-SS, NDCG@10): .110 at dropout .3, .114 at .5, .110 to .116 over three seeds with the falling rate.
"""

from __future__ import annotations

from facta.recipes import movielens_1m
from facta.recipes.recipe import RecipeConfig

BASE = movielens_1m  # each of its recipes is one of this folder, changed by `derive` (`facta.recipes.find`)


def derive(recipe: RecipeConfig) -> RecipeConfig:
    """The same system for less data."""
    if recipe.training is None:
        return recipe
    changed = recipe.override(
        [
            "model.width=64",
            "model.embedding.dropout=0.5",
            "model.encoder.dropout=0.5",
            "training.batch_size=32",
            "training.learning_rate=0.002",
            "training.schedule=cosine",
            "training.epochs=40",
            "training.validate_every=1",
            "training.patience=10",
        ]
    )
    if getattr(recipe.model, "cloze", None) is None:
        return changed
    return changed.override(
        [  # an epoch learns a fifth of the events, so it overfits late
            "model.embedding.dropout=0.2",
            "model.encoder.dropout=0.2",
            "training.epochs=400",
            "training.validate_every=10",
        ]
    )
