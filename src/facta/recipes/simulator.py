"""Systems for logs of the simulated service (`facta data simulate`): feedback on shown items, with a known optimum.

Trained on the first 80 % of the log's time, chosen on the next 10 %, tested on the rest. Improvements of the generative
ranker, as NE(click) on validation (a million events, seed 0; the optimum is .8273, the base rate 1):

    width 32, 3 epochs       .8842  interleaved, a window of 256 events, n = 267 as in the research code
                             .8716  the action's token also shows its item (`paired`)
                             .8652  n = 8: eps of the norm no longer dominates a sum over some tens of events
    width 64, 6 epochs       .8533  batches of 32, dropout .1
                             .8522  no absolute positions, of which those beyond the 100th are hardly trained
                             .8488  a window of 64 events: older events are of another taste

Id vectors beside features have width 2, because most of a wide vector of a rare item is noise (6 epochs of width 32,
interleaved: .886 with ids of full width, .878 with ids of 4). Without effect: a fourth layer, width 96, the rating as a
third task, weight decay of the tables.
"""

from __future__ import annotations

from facta.encoders.fuxi import FuXiLinearConfig
from facta.encoders.hstu import HSTUConfig
from facta.encoders.transformer import TransformerConfig
from facta.eval.protocol import ProtocolConfig
from facta.layers.embedding import EmbeddingConfig
from facta.models.history import HistoryConfig
from facta.models.recommender import RecommenderConfig
from facta.models.sim import SIMConfig
from facta.models.transact import TransActConfig
from facta.models.twin import TWINConfig
from facta.objectives.feedback import FeedbackConfig
from facta.recipes import classical
from facta.recipes.recipe import RecipeConfig
from facta.training.trainer import TrainingConfig
from facta.training.tune import Range

_FIELDS = ("click", "long_view")
_TRAINING = TrainingConfig(
    epochs=10, batch_size=64, learning_rate=2e-3, schedule="cosine", metric="NE(click)", patience=3
)  # search space of the classical rankers
_SEARCH = {
    "training.learning_rate": Range(low=5e-4, high=8e-3, log=True),
    "model.width": (32, 64, 128),
    "model.encoder.layers": (2, 3, 4),
    "model.encoder.dropout": Range(low=0.0, high=0.3),
    "model.embedding.hidden_ids": Range(low=0.0, high=0.3),
}


def gr_ranking() -> RecipeConfig:
    """Interleaved items and actions, HSTU, a loss at every action (Zhai et al. 2024, section 2)."""
    return RecipeConfig(
        name="simulator/gr-ranking",
        model=RecommenderConfig(
            window=64,
            width=64,
            layout="paired",
            embedding=EmbeddingConfig(
                positions="none", dropout=0.0, features=True, calendar=True, id_width=2, hidden_ids=0.1
            ),
            encoder=HSTUConfig(layers=3, heads=4, bias="both", normaliser=8.0, dropout=0.1),
            next_item=None,
            feedback=FeedbackConfig(fields=("click", "long_view")),
        ),
        training=TrainingConfig(
            epochs=7,
            batch_size=32,
            learning_rate=2.5e-3,
            schedule="cosine",
            metric="NE(click)",
            patience=4,
            table="lazy-adam",
        ),
        protocol=ProtocolConfig(split="temporal", train_end="80%", validation_end="90%", state="rolling"),
        search=_SEARCH,
    )


def gr_interleaved() -> RecipeConfig:
    """The paper's tokens: that of an action shows only the action."""
    recipe = gr_ranking()
    return recipe.change(name="simulator/gr-interleaved", model=recipe.model.change(layout="interleaved"))


def gr_fused() -> RecipeConfig:
    """Context, item and feedback in one token; the head combines the history's state with the item."""
    recipe = gr_ranking()
    return recipe.change(name="simulator/gr-fused", model=recipe.model.change(layout="fused"))


def gr_unconditioned() -> RecipeConfig:
    """The fused ranker without the item: predictions from the history alone."""
    recipe = gr_fused()
    feedback = FeedbackConfig(fields=("click", "long_view"), late=("context",))
    return recipe.change(name="simulator/gr-unconditioned", model=recipe.model.change(feedback=feedback))


def transformer_ranking() -> RecipeConfig:
    """The tokens of gr-ranking, with a modern transformer instead of HSTU."""
    recipe = gr_ranking()
    encoder = TransformerConfig(preset="modern", layers=3, heads=4, dropout=0.1)
    return recipe.change(name="simulator/transformer-ranking", model=recipe.model.change(encoder=encoder))


def gr_fuxi_linear() -> RecipeConfig:
    """The tokens of gr-ranking, with FuXi-Linear instead of HSTU: a state of constant size for each user."""
    recipe = gr_ranking()
    encoder = FuXiLinearConfig(layers=3, heads=4, second_residual=True, dropout=0.1)
    return recipe.change(name="simulator/gr-fuxi-linear", model=recipe.model.change(encoder=encoder))


def dlrm() -> RecipeConfig:
    """DLRM: target attention (DIN), crosses (DCN-v2) and experts (MMoE) over all features."""
    protocol = gr_ranking().protocol
    return classical.dlrm("simulator", _FIELDS, _TRAINING, protocol, most_dropout=0.4, most_hidden=0.3)


def dlrm_gr_features() -> RecipeConfig:
    """The DLRM with only the features of the generative ranker."""
    return classical.gr_features(dlrm())


def dlrm_no_history() -> RecipeConfig:
    """The DLRM without the user's history."""
    return classical.no_history(dlrm())


def bst() -> RecipeConfig:
    """BST: a transformer over the last 20 events and the item, instead of target attention (Chen et al. 2019)."""
    return classical.bst(dlrm(), dropout=0.1)


def sim() -> RecipeConfig:
    """SIM: events of the item's category among the last 1,000, beside target attention over the last 50 (Pi et al.
    2020).
    """
    return _long("sim", SIMConfig())


def twin() -> RecipeConfig:
    """TWIN: attention finds 100 of the last 1,000 events and weighs them (Chang et al. 2023)."""
    return _long("twin", TWINConfig())


def transact() -> RecipeConfig:
    """TransAct: a transformer over the last 100 events, each concatenated with the item (Xia et al. 2023)."""
    return _long("transact", TransActConfig())


def _long(system: str, history: HistoryConfig) -> RecipeConfig:
    """The DLRM with another reader; its counts still see 50 events. A step has an eighth of the users, since rows of
    long histories are long.
    """
    recipe = dlrm()
    training, model = recipe.training, recipe.model
    assert training is not None
    changed = {"model": model.change(history=history), "training": training.change(batch_size=8)}
    return recipe.change(name=f"simulator/{system}", **changed)


def rates() -> RecipeConfig:
    """Logistic regression on rates of success: the baseline of ranking."""
    training, tried = _TRAINING.change(learning_rate=2e-2), Range(low=3e-3, high=1e-1, log=True)
    return classical.rates("simulator", _FIELDS, training, gr_ranking().protocol, learning_rate=tried)


def rates_no_history() -> RecipeConfig:
    """The regression without the user's history."""
    return classical.no_history(rates())
