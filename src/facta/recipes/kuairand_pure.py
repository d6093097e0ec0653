"""KuaiRand-Pure (`facta data kuairand-pure`): will a shown video be clicked, will it be watched for long?

Tested on the last two days of the log, 2022-05-07 and 08, chosen on the day before; days begin at midnight in China,
which is 16:00 UTC. All systems read the same columns: facts of users, features of videos, the tab as context, all
feedback of earlier events, and what a user had before the log began, without times.
"""

from __future__ import annotations

from typing import Any

from facta.encoders.hstu import HSTUConfig
from facta.encoders.transformer import TransformerConfig
from facta.eval.protocol import ProtocolConfig
from facta.layers.embedding import EmbeddingConfig
from facta.models.dlrm import DLRMConfig
from facta.models.rates import RatesConfig
from facta.models.recommender import RecommenderConfig
from facta.objectives.feedback import FeedbackConfig
from facta.recipes.recipe import RecipeConfig
from facta.train.trainer import TrainingConfig
from facta.train.tune import Range

_FIELDS = ("click", "long_view")
_PROTOCOL = ProtocolConfig(
    split="temporal", train_end="2022-05-05T16:00", validation_end="2022-05-06T16:00", state="rolling"
)
_TRAINING = TrainingConfig(
    epochs=10, batch_size=64, learning_rate=2e-3, schedule="cosine", metric="NE(click)", patience=3
)


def gr_ranking() -> RecipeConfig:
    """Items and actions interleaved, HSTU, a loss at every action (Zhai et al. 2024, section 2)."""
    return RecipeConfig(
        name="kuairand-pure/gr-ranking",
        model=RecommenderConfig(
            window=64,
            width=64,
            layout="interleaved",
            embedding=EmbeddingConfig(dropout=0.2, features=True, hidden_ids=0.1),
            encoder=HSTUConfig(layers=2, heads=2, bias="both", dropout=0.2),
            next_item=None,
            feedback=FeedbackConfig(fields=_FIELDS),
        ),
        training=_TRAINING,
        protocol=_PROTOCOL,
        search={
            "training.learning_rate": Range(low=3e-4, high=5e-3, log=True),
            "model.width": (32, 64, 128),
            "model.encoder.layers": (1, 2, 3),
            "model.encoder.dropout": Range(low=0.0, high=0.5),
            "model.embedding.dropout": Range(low=0.0, high=0.5),
            "model.embedding.hidden_ids": Range(low=0.0, high=0.5),
        },
    )


def dlrm() -> RecipeConfig:
    """Target attention, crosses and experts over all features, counts among them."""
    return RecipeConfig(
        name="kuairand-pure/dlrm",
        model=DLRMConfig(dropout=0.2, feedback=FeedbackConfig(fields=_FIELDS, hidden=32)),
        training=_TRAINING,
        protocol=_PROTOCOL,
        search={
            "training.learning_rate": Range(low=3e-4, high=5e-3, log=True),
            "model.width": (16, 32, 64),
            "model.crosses": (1, 2, 3),
            "model.dropout": Range(low=0.0, high=0.5),
            "model.hidden_ids": Range(low=0.0, high=0.5),
            "model.prior": Range(low=3.0, high=100.0, log=True),
        },
    )


def dlrm_gr_features() -> RecipeConfig:
    """Of only what the generative ranker sees: no counts (Zhai et al. 2024, table 7)."""
    return _dlrm("dlrm-gr-features", features="gr")


def dlrm_no_history() -> RecipeConfig:
    """Without what the user did before."""
    return _dlrm("dlrm-no-history", features="no-history")


def bst() -> RecipeConfig:
    """A transformer over the last 20 events, 20 of each earlier list, and the video (Chen et al. 2019)."""
    return _dlrm("bst", window=20, history=TransformerConfig(layers=1, heads=2, dropout=0.2))


def rates() -> RecipeConfig:
    """Logistic regression on smoothed rates: the floor for anything that learns more."""
    return RecipeConfig(
        name="kuairand-pure/rates",
        model=RatesConfig(fields=_FIELDS),
        training=_TRAINING.change(learning_rate=1e-2),
        protocol=_PROTOCOL,
        search={
            "training.learning_rate": Range(low=1e-3, high=5e-2, log=True),
            "model.prior": Range(low=3.0, high=100.0, log=True),
        },
    )


def rates_no_history() -> RecipeConfig:
    """The same without the rates of users."""
    recipe = rates()
    return recipe.change(name="kuairand-pure/rates-no-history", model=recipe.model.change(history=False))


def _dlrm(name: str, **changes: Any) -> RecipeConfig:
    recipe = dlrm()
    search = {key: tried for key, tried in recipe.search.items() if "features" not in changes or "prior" not in key}
    return recipe.change(name=f"kuairand-pure/{name}", model=recipe.model.change(**changes), search=search)
