"""KuaiRand-Pure (`facta data kuairand-pure`): will a shown video be clicked, will it be watched for long?

Tested on the last two days of the log, 2022-05-07 and 08, chosen on the day before; days begin at midnight in China,
which is 16:00 UTC. All systems read the same columns: facts of users, features of videos, the tab as context, all
feedback of earlier events, and what a user had before the log began, without times. The state is frozen at midnight, as
in a service that reads yesterday's log: with a rolling one, GAUC says something else (`eval/prediction.py`).
"""

from __future__ import annotations

from facta.encoders.hstu import HSTUConfig
from facta.eval.protocol import ProtocolConfig
from facta.layers.embedding import EmbeddingConfig
from facta.models.recommender import RecommenderConfig
from facta.objectives.feedback import FeedbackConfig
from facta.recipes import classical
from facta.recipes.recipe import RecipeConfig
from facta.train.trainer import TrainingConfig
from facta.train.tune import Range, Space

_FIELDS = ("click", "long_view")
_PROTOCOL = ProtocolConfig(
    split="temporal", train_end="2022-05-05T16:00", validation_end="2022-05-06T16:00", state="frozen"
)
_TRAINING = TrainingConfig(epochs=2, batch_size=64, learning_rate=2e-3, schedule="cosine", metric="NE(click)")
"""Two epochs: from the third on every ranker knows its training events too well, and NE on validation rises."""
_EPOCHS: Space = {"training.epochs": (1, 2, 3)}


def gr_ranking() -> RecipeConfig:
    """Items and actions in turn, an action with its item; a loss at every action (Zhai et al. 2024, section 2)."""
    return RecipeConfig(
        name="kuairand-pure/gr-ranking",
        model=RecommenderConfig(
            window=64,
            width=64,
            layout="paired",
            embedding=EmbeddingConfig(positions="none", dropout=0.2, features=True, hidden_ids=0.1),
            encoder=HSTUConfig(layers=2, heads=2, bias="both", normaliser=8.0, dropout=0.2),
            next_item=None,
            feedback=FeedbackConfig(fields=_FIELDS),
        ),
        training=_TRAINING,
        protocol=_PROTOCOL,
        search={
            **_EPOCHS,
            "training.learning_rate": Range(low=3e-4, high=5e-3, log=True),
            "model.width": (32, 64, 128),
            "model.encoder.layers": (1, 2, 3),
            "model.encoder.dropout": Range(low=0.0, high=0.5),
            "model.embedding.dropout": Range(low=0.0, high=0.5),
            "model.embedding.hidden_ids": Range(low=0.0, high=0.5),
            "model.embedding.id_width": (4, 16, 64),
        },
    )


def gr_interactions() -> RecipeConfig:
    """Items by their ids alone, without their features (Zhai et al. 2024, table 7)."""
    recipe = gr_ranking()
    plain = recipe.override(["model.embedding.features=false", "model.embedding.hidden_ids=0"])
    of_features = ("model.embedding.hidden_ids", "model.embedding.id_width")
    search = {key: tried for key, tried in recipe.search.items() if key not in of_features}
    return plain.change(name="kuairand-pure/gr-interactions", search=search)


def dlrm() -> RecipeConfig:
    recipe = classical.dlrm("kuairand-pure", _FIELDS, _TRAINING, _PROTOCOL, dropout=0.2)
    return recipe.change(search={**_EPOCHS, **recipe.search})


def dlrm_one_expert() -> RecipeConfig:
    return classical.one_expert(dlrm())


def dlrm_gr_features() -> RecipeConfig:
    return classical.gr_features(dlrm())


def dlrm_no_history() -> RecipeConfig:
    return classical.no_history(dlrm())


def bst() -> RecipeConfig:
    return classical.bst(dlrm(), dropout=0.2)


def rates() -> RecipeConfig:
    training, tried = _TRAINING.change(learning_rate=1e-2, epochs=10, patience=3), Range(low=1e-3, high=5e-2, log=True)
    return classical.rates("kuairand-pure", _FIELDS, training, _PROTOCOL, learning_rate=tried)


def rates_no_history() -> RecipeConfig:
    return classical.no_history(rates())
