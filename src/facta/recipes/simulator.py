"""Systems for logs of the simulated service (`facta data simulate`): feedback on shown items, with a known floor.

Trained on the first 80 % of the log's time, chosen on the next 10 %, tested on the rest. What an item is beside its
features is two numbers wide, because most of a wide vector of a rare item is noise: NE(click) on validation, a million
events, seed 0, width 32, 6 epochs: .886 with ids of full width, .878 with ids of 4 (both lazy Adam, 2 layers).
"""

from __future__ import annotations

from facta.encoders.hstu import HSTUConfig
from facta.encoders.transformer import TransformerConfig
from facta.eval.protocol import ProtocolConfig
from facta.layers.embedding import EmbeddingConfig
from facta.models.recommender import RecommenderConfig
from facta.objectives.feedback import FeedbackConfig
from facta.recipes import classical
from facta.recipes.recipe import RecipeConfig
from facta.train.trainer import TrainingConfig
from facta.train.tune import Range

_FIELDS = ("click", "long_view")
_TRAINING = TrainingConfig(
    epochs=10, batch_size=64, learning_rate=2e-3, schedule="cosine", metric="NE(click)", patience=3
)  # of the classical rankers
_SEARCH = {
    "training.learning_rate": Range(low=5e-4, high=8e-3, log=True),
    "model.width": (32, 64, 128),
    "model.encoder.layers": (2, 3, 4),
    "model.encoder.dropout": Range(low=0.0, high=0.3),
    "model.embedding.hidden_ids": Range(low=0.0, high=0.3),
}


def gr_ranking() -> RecipeConfig:
    """Items and actions interleaved, HSTU, a loss at every action (Zhai et al. 2024, section 2)."""
    return RecipeConfig(
        name="simulator/gr-ranking",
        model=RecommenderConfig(
            window=256,
            width=32,
            layout="interleaved",
            embedding=EmbeddingConfig(dropout=0.0, features=True, calendar=True, id_width=2, hidden_ids=0.1),
            encoder=HSTUConfig(layers=3, heads=4, bias="both", dropout=0.0),
            next_item=None,
            feedback=FeedbackConfig(fields=("click", "long_view")),
        ),
        training=TrainingConfig(
            epochs=8,
            batch_size=64,
            learning_rate=6e-3,
            schedule="cosine",
            metric="NE(click)",
            patience=4,
            table="lazy-adam",
        ),
        protocol=ProtocolConfig(split="temporal", train_end="80%", validation_end="90%", state="rolling"),
        search=_SEARCH,
    )


def gr_fused() -> RecipeConfig:
    """Context, item and feedback in one token; the head weighs the history against the item."""
    recipe = gr_ranking()
    return recipe.change(name="simulator/gr-fused", model=recipe.model.change(layout="fused"))


def gr_unconditioned() -> RecipeConfig:
    """The same without the item: what a history says of a user's mood alone."""
    recipe = gr_fused()
    feedback = FeedbackConfig(fields=("click", "long_view"), late=("context",))
    return recipe.change(name="simulator/gr-unconditioned", model=recipe.model.change(feedback=feedback))


def transformer_ranking() -> RecipeConfig:
    """Interleaved, with a modern transformer in HSTU's place."""
    recipe = gr_ranking()
    encoder = TransformerConfig(preset="modern", layers=3, heads=4, dropout=0.0)
    return recipe.change(name="simulator/transformer-ranking", model=recipe.model.change(encoder=encoder))


def dlrm() -> RecipeConfig:
    """What generative rankers replace."""
    protocol = gr_ranking().protocol
    return classical.dlrm("simulator", _FIELDS, _TRAINING, protocol, most_dropout=0.4, most_hidden=0.3)


def dlrm_gr_features() -> RecipeConfig:
    return classical.gr_features(dlrm())


def dlrm_no_history() -> RecipeConfig:
    return classical.no_history(dlrm())


def bst() -> RecipeConfig:
    return classical.bst(dlrm(), dropout=0.1)


def rates() -> RecipeConfig:
    training, tried = _TRAINING.change(learning_rate=2e-2), Range(low=3e-3, high=1e-1, log=True)
    return classical.rates("simulator", _FIELDS, training, gr_ranking().protocol, learning_rate=tried)


def rates_no_history() -> RecipeConfig:
    return classical.no_history(rates())
