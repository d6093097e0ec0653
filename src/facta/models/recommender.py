"""The composition: events → layout → tokens → encoder → states → objectives → losses or scores.

Letters: B users, T tokens, S targets, V catalogue items, D width, P query width.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from facta.config import Config
from facta.data.negatives import NegativesConfig
from facta.encoders.gru import GRU, GRUConfig
from facta.encoders.hstu import HSTU, HSTUConfig
from facta.encoders.transformer import Transformer, TransformerConfig
from facta.errors import ConfigError
from facta.layers.embedding import Embedder, EmbeddingConfig
from facta.layouts.layout import ITEM
from facta.models.cost import cost
from facta.objectives.items import Items
from facta.objectives.next_item import NextItem, NextItemConfig, ReadOut
from facta.types import Cost, Events, LossSum, Negatives, Product, SequenceBatch, TokenBatch

EncoderConfig = Annotated[HSTUConfig | TransformerConfig | GRUConfig, Field(discriminator="kind")]


class RecommenderConfig(Config):
    """A whole model; a system of the literature is a choice of these fields (see `facta.recipes`)."""

    trained: ClassVar[bool] = True
    kind: Literal["recommender"] = "recommender"
    window: int = Field(default=200, ge=1, description="N: events of a history that the model sees")
    width: int = Field(default=50, ge=1, description="D")
    layout: Literal["item"] = "item"
    embedding: EmbeddingConfig = EmbeddingConfig()
    encoder: EncoderConfig = HSTUConfig()
    next_item: NextItemConfig = NextItemConfig()

    @model_validator(mode="after")
    def _consistent(self) -> RecommenderConfig:
        heads = getattr(self.encoder, "heads", 1)
        given = isinstance(self.encoder, HSTUConfig) and self.encoder.qk_width and self.encoder.v_width
        if self.width % heads and not given:
            raise ConfigError(f"width {self.width} is not a multiple of encoder.heads {heads}; change one of them.")
        return self

    @property
    def uses_time(self) -> bool:
        """Whether a request must say when it is made."""
        return isinstance(self.encoder, HSTUConfig) and self.encoder.bias in ("time", "both")


class Recommender(nn.Module):
    """A model of the next item; single-device mathematics."""

    def __init__(self, config: RecommenderConfig, num_items: int, seed: int = 0) -> None:
        super().__init__()
        self.config, self.window, self.num_items = config, config.window, num_items
        self.layout = ITEM
        with torch.random.fork_rng(devices=[]):  # initial weights are a function of (config, seed) alone
            torch.manual_seed(seed)
            self.embedder = Embedder(config.embedding, num_items, config.width, config.window)
            self.encoder = self._encoder(config)
            self.next_item = NextItem(config.next_item)

    @staticmethod
    def _encoder(config: RecommenderConfig) -> nn.Module:
        match config.encoder:
            case HSTUConfig() as hstu:
                return HSTU(hstu, config.width, config.window)
            case TransformerConfig() as transformer:
                return Transformer(transformer, config.width)
            case GRUConfig() as gru:
                return GRU(gru, config.width)

    @property
    def negatives(self) -> NegativesConfig | None:
        """What the loss wants drawn for each step; None: nothing."""
        return self.config.next_item.negatives

    def encode(self, batch: SequenceBatch) -> tuple[TokenBatch, Tensor]:
        """The tokens and their states [T, D]."""
        tokens = self.layout.tokens(batch, ["item"])
        return tokens, self.encoder(self.embedder.tokens(batch, tokens), tokens)

    def losses(self, batch: SequenceBatch, negatives: Negatives | None) -> dict[str, LossSum]:
        """Loss by objective; targets without anything to read from contribute nothing."""
        tokens, states = self.encode(batch)
        read = tokens.reads["item"]
        targets = batch.targets
        chosen = ReadOut(
            states.index_select(0, read.state), _pick(targets.events, read.target), targets.weight[read.target]
        )
        if negatives is not None and negatives.log_q_positive is not None:
            negatives = replace(negatives, log_q_positive=negatives.log_q_positive[read.target])
        items = Items(self.num_items, partial(self.embedder.item.dropped, batch.key))
        return {"next_item": self.next_item.loss(chosen, items, negatives)}

    def queries(self, batch: SequenceBatch) -> Tensor:
        """[S, P]; zeros for a target with an empty history, so that all its scores tie."""
        tokens, states = self.encode(batch)
        read = tokens.reads["item"]
        queries = self.next_item.similarity.queries(states.index_select(0, read.state))
        empty = queries.new_zeros((len(batch.targets.after), queries.shape[1]))
        return empty.index_copy(0, read.target, queries)

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        """[V, P] (or of the given rows [U, P]): what an index stores."""
        return self.next_item.similarity.items(self.embedder.item.vectors(rows))

    def catalogue_scores(self, batch: SequenceBatch) -> Product:
        """Scores of every item for every target."""
        return Product(self.queries(batch), self.item_vectors())

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`table`: the item vectors; `head`: the objective; `backbone`: all else."""
        return {
            "table": list(self.embedder.item.parameters()),
            "backbone": [
                *([] if self.embedder.position is None else self.embedder.position.parameters()),
                *self.encoder.parameters(),
            ],
            "head": list(self.next_item.parameters()),
        }

    def cost(self, tokens: int) -> Cost:
        """For a history of `tokens` tokens."""
        return cost(self.config, sum(p.numel() for p in self.parameters()), tokens)


def _pick(events: Events, chosen: Tensor) -> Events:
    return Events(
        item=events.item[chosen],
        time=None if events.time is None else events.time[chosen],
        key=events.key[chosen],
        fields={name: column[chosen] for name, column in events.fields.items()},
    )
