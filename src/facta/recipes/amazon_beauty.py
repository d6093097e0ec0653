"""Amazon Beauty (5-core 2014, the S3-Rec cut): no timestamps, so no time bias and no decayed popularity.

SASRec-SS follows the best published result of its family: one block, width 64, 256 uniform negatives, the last 50
events, and dropout of the item table for input and output. Published runs count positions from the newest event, which
would leak the number of future events into a loss within the history; rotary positions instead give the distance to
each event.
"""

from __future__ import annotations

from facta.data.batches.negatives import NegativesConfig
from facta.encoders.gru import GRUConfig
from facta.encoders.hstu import HSTUConfig
from facta.encoders.ligr import LiGRConfig
from facta.encoders.transformer import TransformerConfig
from facta.layers.embedding import EmbeddingConfig
from facta.models.baselines import ItemKNNConfig, PopularityConfig
from facta.models.prior import PriorConfig
from facta.models.recommender import RecommenderConfig
from facta.models.rules import RulesConfig
from facta.objectives.losses import BCEConfig, GBCEConfig, SampledSoftmaxConfig, SoftmaxConfig
from facta.objectives.next_item import NextItemConfig
from facta.recipes.recipe import RecipeConfig
from facta.similarity.inner import InnerProductConfig
from facta.training.trainer import TrainingConfig
from facta.training.tune import Range

_SEARCH = {
    "training.learning_rate": Range(low=2e-4, high=5e-3, log=True),
    "model.width": (64, 128, 256),
    "model.embedding.dropout": Range(low=0.1, high=0.6),
    "model.encoder.layers": (1, 2),
    "model.encoder.dropout": Range(low=0.1, high=0.6),
}
_DOT = InnerProductConfig(kind="dot", temperature=1.0)
_SAMPLED = SampledSoftmaxConfig(negatives=NegativesConfig(kind="uniform", count=256))


def sasrec_ss() -> RecipeConfig:
    """SASRec's encoder with a sampled softmax."""
    return RecipeConfig(
        name="amazon-beauty/sasrec-ss",
        model=RecommenderConfig(
            window=50,
            width=64,
            embedding=EmbeddingConfig(
                positions="none", scale_by_width=False, item_std=0.0125, dropout=0.2, table_dropout=0.2
            ),
            encoder=TransformerConfig(
                preset="sasrec", layers=1, heads=1, dropout=0.2, attention_dropout=0.2, rotary=True
            ),
            next_item=NextItemConfig(
                similarity=_DOT,
                loss=_SAMPLED,
            ),
        ),
        training=TrainingConfig(
            epochs=200, batch_size=128, learning_rate=2e-3, schedule="cosine", validate_every=5, patience=10
        ),
        search={**_SEARCH, "model.next_item.loss.negatives.count": (128, 256, 512)},
    )


def hstu() -> RecipeConfig:
    """HSTU with position bias only, and SASRec-SS's input."""
    recipe = sasrec_ss()
    model = recipe.model.change(
        encoder=HSTUConfig(layers=2, heads=2, bias="position", dropout=0.5),
        next_item=NextItemConfig(similarity=InnerProductConfig(kind="cosine", temperature=0.05), loss=_SAMPLED),
    )
    return recipe.change(name="amazon-beauty/hstu", model=model)


def hstu_large() -> RecipeConfig:
    """HSTU with 8 layers of 2 heads and position bias only."""
    recipe = hstu()
    encoder = HSTUConfig(layers=8, heads=2, bias="position", dropout=0.5)
    search = {key: choices for key, choices in recipe.search.items() if key != "model.encoder.layers"}
    return recipe.change(name="amazon-beauty/hstu-large", model=recipe.model.change(encoder=encoder), search=search)


def sasrec() -> RecipeConfig:
    """SASRec as published: learned positions, dot product, binary cross-entropy with one negative."""
    recipe = sasrec_ss()
    model = recipe.model.change(
        embedding=EmbeddingConfig(dropout=0.5),
        encoder=TransformerConfig(preset="sasrec", layers=1, heads=1, dropout=0.5),
        next_item=NextItemConfig(similarity=_DOT, loss=BCEConfig()),
    )
    return recipe.change(name="amazon-beauty/sasrec", model=model, search=_SEARCH)


def sasrec_ce() -> RecipeConfig:
    """SASRec's encoder with the full softmax."""
    recipe = sasrec_ss()
    model = recipe.model.change(next_item=NextItemConfig(similarity=_DOT, loss=SoftmaxConfig()))
    return recipe.change(name="amazon-beauty/sasrec-ce", model=model, search=_SEARCH)


def gsasrec() -> RecipeConfig:
    """gSASRec: generalised BCE with 256 negatives."""
    recipe = sasrec_ss()
    loss = GBCEConfig(negatives=NegativesConfig(kind="uniform", count=256), calibration=0.75)
    search = {**_SEARCH, "model.next_item.loss.calibration": (0.5, 0.75, 0.9)}
    model = recipe.model.change(next_item=NextItemConfig(similarity=_DOT, loss=loss))
    return recipe.change(name="amazon-beauty/gsasrec", model=model, search=search)


def gru4rec() -> RecipeConfig:
    """GRU4Rec with the full softmax."""
    recipe = sasrec_ce()
    model = recipe.model.change(
        embedding=EmbeddingConfig(positions="none", dropout=0.5),
        encoder=GRUConfig(layers=1, hidden=128, dropout=0.5),
    )
    search = {**_SEARCH, "model.encoder.hidden": (64, 128, 256)}
    return recipe.change(name="amazon-beauty/gru4rec", model=model, search=search)


def transformer_modern() -> RecipeConfig:
    """Transformer++ with SASRec-SS's loss."""
    recipe = sasrec_ss()
    model = recipe.model.change(
        embedding=EmbeddingConfig(positions="none", dropout=0.5),
        encoder=TransformerConfig(preset="modern", layers=1, heads=1, dropout=0.5),
    )
    return recipe.change(name="amazon-beauty/transformer-modern", model=model)


def ligr_ss() -> RecipeConfig:
    """LiGR's block (the block of eSASRec) with SASRec-SS's input and loss."""
    recipe = sasrec_ss()
    encoder = LiGRConfig(layers=1, heads=1, dropout=0.2, attention_dropout=0.2, rotary=True)
    return recipe.change(name="amazon-beauty/ligr-ss", model=recipe.model.change(encoder=encoder))


def sasrec_rules() -> RecipeConfig:
    """SASRec-SS with pairwise rules as a prior, their settings and weight chosen on validation."""
    recipe = sasrec_ss()
    return recipe.change(name="amazon-beauty/sasrec-rules", model=recipe.model.change(prior=PriorConfig()))


def hstu_rules() -> RecipeConfig:
    """HSTU with pairwise rules as a prior, their settings and weight chosen on validation."""
    recipe = hstu()
    return recipe.change(name="amazon-beauty/hstu-rules", model=recipe.model.change(prior=PriorConfig()))


def popularity() -> RecipeConfig:
    """The most frequent items of the training part, for all users."""
    return RecipeConfig(name="amazon-beauty/popularity", model=PopularityConfig())


def item_knn() -> RecipeConfig:
    """Item-kNN: items with common users; shrinkage and decay are chosen on validation."""
    return RecipeConfig(name="amazon-beauty/item-knn", model=ItemKNNConfig(), choose=True)


def rules() -> RecipeConfig:
    """Pairwise rules: items that follow an item, counted and not trained; settings are chosen on validation."""
    return RecipeConfig(name="amazon-beauty/rules", model=RulesConfig(), choose=True)
