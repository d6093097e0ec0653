"""Rankers for a log of your own: the systems of the simulated service, of whatever feedback and features a dataset has.

They learn every feedback field, read the features of items where any are declared, and are chosen by NE, the mean over
the fields that say what success is. The last tenth of the log's time is the test, the tenth before it the validation.
"""

from __future__ import annotations

from facta.models.dlrm import DLRMConfig
from facta.models.rates import RatesConfig
from facta.models.recommender import RecommenderConfig
from facta.recipes import simulator
from facta.recipes.recipe import RecipeConfig

BASE = simulator  # each of its recipes is one of this folder, changed by `derive` (`facta.recipes.find`)


def derive(recipe: RecipeConfig) -> RecipeConfig:
    """The same system, of no fields in particular."""
    assert recipe.training is not None
    training = recipe.training.change(metric="NE")
    match recipe.model:
        case RecommenderConfig(feedback=feedback, embedding=embedding) as model if feedback is not None:
            parts = {"feedback": feedback.change(fields=None), "embedding": embedding.change(features=None)}
            return recipe.change(model=model.change(**parts), training=training)
        case DLRMConfig(feedback=feedback) as model:
            return recipe.change(model=model.change(feedback=feedback.change(fields=None)), training=training)
        case RatesConfig() as model:
            return recipe.change(model=model.change(fields=()), training=training)
        case _:
            return recipe
