"""Classical rankers to compare generative ones with, for folders that predict feedback of shown items."""

from __future__ import annotations

from typing import Any

from facta.eval.protocol import ProtocolConfig
from facta.models.dlrm import DLRMConfig
from facta.models.history import BSTConfig
from facta.models.rates import RatesConfig
from facta.objectives.feedback import FeedbackConfig
from facta.recipes.recipe import RecipeConfig
from facta.training.trainer import TrainingConfig
from facta.training.tune import Range

_PRIOR = {"model.prior": Range(low=3.0, high=100.0, log=True)}


def dlrm(
    folder: str,
    fields: tuple[str, ...],
    training: TrainingConfig,
    protocol: ProtocolConfig,
    *,
    dropout: float = 0.1,
    most_dropout: float = 0.5,
    most_hidden: float = 0.5,
) -> RecipeConfig:
    """Target attention, crosses and experts over all features, counts included; `most_…` limits the search space."""
    return RecipeConfig(
        name=f"{folder}/dlrm",
        model=DLRMConfig(dropout=dropout, feedback=FeedbackConfig(fields=fields, hidden=32)),
        training=training,
        protocol=protocol,
        search={
            "training.learning_rate": Range(low=3e-4, high=5e-3, log=True),
            "model.width": (16, 32, 64),
            "model.crosses": (1, 2, 3),
            "model.dropout": Range(low=0.0, high=most_dropout),
            "model.hidden_ids": Range(low=0.0, high=most_hidden),
            **_PRIOR,
        },
    )


def gr_features(dlrm: RecipeConfig) -> RecipeConfig:
    """With only the features of the generative ranker: no counts (Zhai et al. 2024, table 7), so no prior to search."""
    search = {key: tried for key, tried in dlrm.search.items() if key not in _PRIOR}
    return _variant(dlrm, "gr-features", features="gr").change(search=search)


def no_history(recipe: RecipeConfig) -> RecipeConfig:
    """Without the user's history; for rates, without those of users."""
    changes = {"features": "no-history"} if isinstance(recipe.model, DLRMConfig) else {"history": False}
    return _variant(recipe, "no-history", **changes)


def one_expert(dlrm: RecipeConfig) -> RecipeConfig:
    """All tasks share one hidden layer, without MMoE's gates."""
    return _variant(dlrm, "one-expert", experts=1)


def bst(dlrm: RecipeConfig, *, dropout: float) -> RecipeConfig:
    """BST: a transformer over the last 20 events (20 of each earlier list) and the item, instead of target attention
    (Chen et al. 2019).
    """
    history = BSTConfig(layers=1, heads=2, dropout=dropout)
    folder = dlrm.name.partition("/")[0]
    return dlrm.change(name=f"{folder}/bst", model=dlrm.model.change(window=20, history=history))


def rates(
    folder: str, fields: tuple[str, ...], training: TrainingConfig, protocol: ProtocolConfig, *, learning_rate: Range
) -> RecipeConfig:
    """Logistic regression on smoothed rates, the baseline of learned rankers."""
    return RecipeConfig(
        name=f"{folder}/rates",
        model=RatesConfig(fields=fields),
        training=training,
        protocol=protocol,
        search={"training.learning_rate": learning_rate, **_PRIOR},
    )


def _variant(recipe: RecipeConfig, what: str, **changes: Any) -> RecipeConfig:
    return recipe.change(name=f"{recipe.name}-{what}", model=recipe.model.change(**changes))
