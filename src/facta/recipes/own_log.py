"""Recipes for a log of your own: retrieval (which item comes next) and ranking (what a person does with an item).

Retrieval: `hstu` and `sasrec-ss`, both also with rules as a prior (`hstu-rules`, `sasrec-rules`), and `bert4rec-ss`,
beside the baselines `rules`, `item-knn` and `popularity`. Nothing is masked, because in most services people return to
items; sizes and epochs follow from the size of the log (`recipes/sizing.py`).

Ranking: the systems of the simulated service, for any feedback and features. They learn every feedback field, read
declared features of items, and choose epochs by NE, the mean over the fields with success.

The last tenth of the log's time is the test, the tenth before it the validation.
"""

from __future__ import annotations

from facta.data.batches.cloze import ClozeConfig
from facta.data.batches.negatives import NegativesConfig
from facta.encoders.hstu import HSTUConfig
from facta.encoders.transformer import TransformerConfig
from facta.eval.protocol import ProtocolConfig
from facta.layers.embedding import EmbeddingConfig
from facta.models.baselines import ItemKNNConfig, PopularityConfig
from facta.models.bpr_mf import BPRMFConfig
from facta.models.ease import EASEConfig
from facta.models.prior import PriorConfig
from facta.models.recommender import RecommenderConfig
from facta.models.rules import RulesConfig
from facta.objectives.losses import SampledSoftmaxConfig
from facta.objectives.next_item import NextItemConfig
from facta.recipes import simulator, sizing
from facta.recipes.recipe import RecipeConfig
from facta.similarity.inner import InnerProductConfig
from facta.training.trainer import TrainingConfig
from facta.training.tune import Range

BASE = simulator  # each of its recipes is one of this folder, changed by `derive` (`facta.recipes.find`)

_RETRIEVAL = ProtocolConfig(split="temporal", train_end="80%", validation_end="90%", state="rolling", mask="nothing")


def derive(recipe: RecipeConfig) -> RecipeConfig:
    """The system without names of fields."""
    assert recipe.training is not None
    training = recipe.training.change(metric="NE")
    return recipe.change(model=recipe.model.of_any_fields, training=training)


def hstu() -> RecipeConfig:
    """HSTU with position and time bias; in a log without times (leave-one-out) only position bias."""
    return RecipeConfig(
        name="own-log/hstu",
        model=RecommenderConfig(
            embedding=EmbeddingConfig(),
            encoder=HSTUConfig(layers=2, heads=1, bias="both"),
            next_item=NextItemConfig(
                similarity=InnerProductConfig(kind="cosine", temperature=0.05),
                loss=SampledSoftmaxConfig(negatives=NegativesConfig(kind="uniform", count=256)),
            ),
        ),
        training=TrainingConfig(learning_rate=2e-3, schedule="cosine", patience=3),
        protocol=_RETRIEVAL,
        derived=dict.fromkeys(sizing.KEYS, ""),
        search={
            "training.learning_rate": Range(low=5e-4, high=5e-3, log=True),
            "model.width": (32, 64, 128),
            "model.encoder.layers": (1, 2, 4),
            "model.encoder.dropout": Range(low=0.1, high=0.6),
        },
    )


def sasrec_ss() -> RecipeConfig:
    """SASRec's encoder with HSTU's sampled softmax; reads no times."""
    recipe = hstu()
    encoder = TransformerConfig(preset="sasrec", layers=2, heads=1)
    derived = {key: "" for key in sizing.KEYS if key != "model.encoder.bias"}
    return recipe.change(name="own-log/sasrec-ss", model=recipe.model.change(encoder=encoder), derived=derived)


def bert4rec_ss() -> RecipeConfig:
    """BERT4Rec with SASRec-SS's loss: masked events, predicted from both sides; reads no times."""
    recipe = sasrec_ss()
    encoder = TransformerConfig(preset="modern", rotary=False, layers=2, heads=2)
    model = recipe.model.change(layout="cloze", cloze=ClozeConfig(), encoder=encoder)
    return recipe.change(name="own-log/bert4rec-ss", model=model, derived=recipe.derived)


def hstu_rules() -> RecipeConfig:
    """HSTU with pairwise rules as a prior, their settings and weight chosen on validation."""
    return _with_rules(hstu(), "own-log/hstu-rules")


def sasrec_rules() -> RecipeConfig:
    """SASRec-SS with pairwise rules as a prior; reads no times."""
    return _with_rules(sasrec_ss(), "own-log/sasrec-rules")


def _with_rules(recipe: RecipeConfig, name: str) -> RecipeConfig:
    model = recipe.model.change(prior=PriorConfig())
    return recipe.change(name=name, model=model, derived=recipe.derived)


def rules() -> RecipeConfig:
    """Pairwise rules: items that follow an item, counted and not trained; settings are chosen on validation."""
    return RecipeConfig(name="own-log/rules", model=RulesConfig(), choose=True, protocol=_RETRIEVAL)


def ease() -> RecipeConfig:
    """EASE, a linear model in closed form: a matrix of all pairs of items, so for small catalogues; λ is chosen on
    validation.
    """
    return RecipeConfig(name="own-log/ease", model=EASEConfig(), choose=True, protocol=_RETRIEVAL)


def bpr_mf() -> RecipeConfig:
    """BPR-MF: matrix factorisation by pairs; λ is chosen on validation, users are folded in from their histories."""
    return RecipeConfig(name="own-log/bpr-mf", model=BPRMFConfig(), choose=True, protocol=_RETRIEVAL)


def item_knn() -> RecipeConfig:
    """Item-kNN: items with common users; shrinkage and decay are chosen on validation."""
    return RecipeConfig(name="own-log/item-knn", model=ItemKNNConfig(), choose=True, protocol=_RETRIEVAL)


def popularity() -> RecipeConfig:
    """The most frequent items of the training part, for all users."""
    return RecipeConfig(name="own-log/popularity", model=PopularityConfig(), protocol=_RETRIEVAL)
