"""The composition: events → layout → tokens → encoder → states → objectives → losses or scores.

Letters: B users, T tokens, S targets, V catalogue items, D width, P query width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal, Self, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from facta.data.batches.cloze import ClozeConfig
from facta.data.batches.negatives import NegativesConfig
from facta.data.batches.spec import InputSpec
from facta.data.dataset.catalogue import Catalogue
from facta.data.split.statistics import Statistics
from facta.encoders.hstu import HSTUConfig
from facta.encoders.known import AnyEncoder
from facta.encoders.memory import Memory
from facta.errors import ConfigError
from facta.kinds import kind_of
from facta.layers.embedding import Embedder, EmbeddingConfig
from facta.layouts.layout import LAYOUTS, LayoutName, named
from facta.models.model import Model, ModelConfig, Task
from facta.models.prior import Prior, PriorConfig
from facta.objectives.feedback import Feedback, FeedbackConfig, chosen, scored
from facta.objectives.items import Items
from facta.objectives.next_item import NextItem, NextItemConfig
from facta.objectives.objective import Objective
from facta.objectives.readout import ReadOut, targets_read
from facta.similarity.similarity import Similarity
from facta.types import (
    CatalogueScores,
    Cost,
    Fact,
    FactoredScores,
    LossSum,
    Negatives,
    SequenceBatch,
    TokenBatch,
)

Named = TypeVar("Named", LossSum, Tensor)


class RecommenderConfig(ModelConfig):
    """A whole model; systems of the literature are settings of these fields (see `facta.recipes`)."""

    kind: Literal["recommender"] = "recommender"
    window: int = Field(default=200, ge=1, description="N: events of a history that the model sees")
    width: int = Field(default=50, ge=1, description="D")
    layout: LayoutName = Field(
        default="item",
        description="tokens of an event, or module:NAME of your own",
        json_schema_extra={"of": [*LAYOUTS]},
    )
    embedding: EmbeddingConfig = EmbeddingConfig()
    encoder: AnyEncoder = HSTUConfig()
    next_item: NextItemConfig | None = NextItemConfig()
    feedback: FeedbackConfig | None = None
    prior: PriorConfig | None = Field(default=None, description="pairwise rules beside the learned scores of items")
    cloze: ClozeConfig | None = Field(default=None, description="which events the layout 'cloze' masks in training")

    @model_validator(mode="after")
    def _consistent(self) -> RecommenderConfig:
        self.encoder.check(self.width)
        self._check_both_ways()
        if self.next_item is None and self.feedback is None:
            raise ConfigError("A recommender learns the next item, feedback or both; set next_item or feedback.")
        if self.next_item is None and self.prior is not None:
            raise ConfigError("Found model.prior for a model that does not learn the next item: set it to null.")
        if self.feedback is not None and self.layout == "item":
            raise ConfigError(
                "The layout 'item' shows no feedback to learn from; use 'interleaved', 'paired' or 'fused'."
            )
        in_context = self.next_item is not None and "context" in self.next_item.late
        if self.embedding.calendar and self.layout == "item" and not in_context:
            raise ConfigError(
                "Found embedding.calendar, which is context, for the layout 'item', which shows none: set it to "
                "false, or use 'interleaved', 'paired' or 'fused'."
            )
        return self

    def _check_both_ways(self) -> None:
        """Raises ConfigError for settings that do not fit a layout with masked events, and for `cloze` without one."""
        layout = f"The layout '{self.layout}'"
        if not named(self.layout).both_ways:
            if self.cloze is not None:
                raise ConfigError(f"{layout} masks no events: set model.cloze to null, or model.layout to cloze.")
            return
        if self.cloze is None:
            raise ConfigError(f"{layout} predicts masked events, whose share is in model.cloze: set it to {{}}.")
        if self.next_item is None or self.feedback is not None:
            raise ConfigError(f"{layout} predicts items alone: set model.next_item, and model.feedback to null.")
        if not self.encoder.both_ways:
            raise ConfigError(
                f"{layout} shows every token its whole row, and the encoder '{kind_of(self.encoder)}' only looks back: "
                "use transformer, ligr, hstu or hstu-production."
            )
        if self.settings_without_time:
            settings = " and ".join(f"model.{setting}" for setting in self.settings_without_time)
            raise ConfigError(f"{layout} gives a masked event a position and no time: set {settings}.")

    @property
    def tasks(self) -> tuple[Task, ...]:
        learned: dict[Task, object] = {"next_item": self.next_item, "feedback": self.feedback}
        return tuple(task for task, config in learned.items() if config is not None)

    @property
    def min_training_events(self) -> int:
        """1 for feedback if a token before it shows its event's item, otherwise 2, since
        targets need earlier events."""
        return 1 if self.next_item is None and named(self.layout).tokens_before("feedback") else 2

    @property
    def settings_without_time(self) -> list[str]:
        read = {"gaps=false": self.embedding.gaps, "calendar=false": self.embedding.calendar}
        read["rates=null"] = self.embedding.rates is not None
        without = [f"encoder.{setting}" for setting in self.encoder.settings_without_time]
        return without + [f"embedding.{setting}" for setting, on in read.items() if on]

    @property
    def of_any_fields(self) -> Self:
        """The config with all feedback and all existing features."""
        if self.feedback is None:
            return self
        return self.change(feedback=self.feedback.change(fields=None), embedding=self.embedding.change(features=None))

    def build(self, catalogue: Catalogue, seed: int = 0) -> Recommender:
        return Recommender(self, catalogue, seed)


class Recommender(Model):
    """The composition of a layout, an encoder and objectives."""

    config: RecommenderConfig
    prior: Prior | None

    def __init__(self, config: RecommenderConfig, catalogue: Catalogue, seed: int = 0) -> None:
        super().__init__()
        self.config, self.window, self.num_items = config, config.window, catalogue.items
        self.layout = named(config.layout)
        with torch.random.fork_rng(devices=[]):  # initial weights are a function of (config, seed) alone
            torch.manual_seed(seed)
            self.embedder = self._embedder(config, catalogue)
            self.encoder = config.encoder.build(config.width, config.window)
            if self.layout.prefix_stable and not self.encoder.prefix_stable:
                raise ConfigError(
                    f"The states of the encoder '{kind_of(config.encoder)}' depend on later events, which the layout "
                    f"'{config.layout}' predicts: use the layout 'cloze', which masks its targets."
                )
            self.next_item = self._next_item(config, catalogue)
            self.feedback = self._feedback(config, catalogue)
        self.prior = None if config.prior is None else Prior(config.prior, catalogue.items)

    def _embedder(self, config: RecommenderConfig, catalogue: Catalogue) -> Embedder:
        success = [] if config.feedback is None else chosen(config.feedback, catalogue.fields)
        success = [field for field in success if field.positives]
        if config.embedding.rates is not None and not success:
            raise ConfigError(
                "embedding.rates needs a predicted feedback field with 'positive' values; found none: set it to "
                "null, or declare 'positive' when the log is prepared."
            )
        late = () if config.next_item is None else config.next_item.late
        shows = self.layout.shows
        return Embedder(
            config.embedding, catalogue, config.width, config.window, shows, success,
            late=late, hides=self.layout.both_ways,
        )  # fmt: skip

    def _next_item(self, config: RecommenderConfig, catalogue: Catalogue) -> NextItem | None:
        if config.next_item is None:
            return None
        late = config.next_item.late
        if "context" in late and not (self.embedder.context or self.embedder.calendar is not None):
            raise ConfigError(
                "Found context in next_item.late for a dataset without context fields: set it to an empty list, "
                "declare context fields when the log is prepared, or set embedding.calendar to true."
            )
        return NextItem(config.next_item, config.width, catalogue.fields, self.layout.late_facts("item"))

    def _feedback(self, config: RecommenderConfig, catalogue: Catalogue) -> Feedback | None:
        if config.feedback is None:
            return None
        return Feedback(config.feedback, catalogue.fields, config.width, self.layout.late_facts("feedback"))

    @property
    def inputs(self) -> InputSpec:
        """The inputs that its batches need."""
        read = self.embedder.fields
        success = [] if self.next_item is None or self.next_item.success is None else [self.next_item.success[0]]
        users = () if self.embedder.users is None else self.embedder.users.names
        learned = [] if self.feedback is None else [field.name for field in self.feedback.fields]
        fields = tuple(dict.fromkeys([*read, *learned, *success]))
        own, series = self.feedback is not None, self.embedder.series is not None
        return InputSpec(
            fields,
            users,
            self.embedder.lists,
            series,
            targets_are_inputs=own,
            reads_token_before=own and not self.layout.tokens_before("feedback"),
            told=() if self.next_item is None else self.next_item.context,
            cloze=self.config.cloze,
        )

    @property
    def prefix_stable(self) -> bool:
        """Whether a prediction does not change if the history is cut after it, so that keys and values may be cached.
        Otherwise targets must not be inputs.
        """
        return self.layout.prefix_stable and self.encoder.prefix_stable

    @property
    def remembers(self) -> bool:
        """Whether the encoder supports a cache and the model is prefix-stable."""
        return self.encoder.remembers and self.prefix_stable

    @property
    def candidates_are_tokens(self) -> bool:
        """Whether candidates are tokens after the newest event; otherwise only the read-out sees them."""
        return self.layout.tokens_before("feedback") > 0

    @property
    def objectives(self) -> list[Objective]:
        """Its objectives, in the order of their losses."""
        return [one for one in (self.next_item, self.feedback) if one is not None]

    @property
    def predicted(self) -> list[str]:
        """Feedback fields that it scores."""
        return [] if self.feedback is None else [field.name for field in self.feedback.fields if scored(field)]

    @property
    def successes(self) -> list[str]:
        """Feedback fields of which it predicts success."""
        return [] if self.feedback is None else [field.name for field in self.feedback.fields if field.positives]

    def fit_statistics(self, statistics: Statistics) -> Self:
        """Mark the items with training events, and store rates."""
        if self.embedder.rates is not None:
            self.embedder.rates.fit_statistics(statistics)
        self.embedder.item.mark_trained(statistics.counts > 0)
        return self

    @property
    def counts_training(self) -> bool:
        """Whether it reads rates of feedback."""
        return self.embedder.rates is not None

    @property
    def settings_without_counts(self) -> list[str]:
        return ["embedding.rates=null"]

    @property
    def tokens_per_event(self) -> int:  # type: ignore[override]
        return len(self.layout.shows)

    @property
    def scoring(self) -> Similarity | None:
        """None with a prior, which needs more than vectors."""
        return None if self.next_item is None or self.prior is not None else self.next_item.similarity

    @property
    def similar_by(self) -> str:
        """Similar by its own vectors, also with a prior."""
        learned = self.next_item is not None and self.next_item.similarity.factored
        return "cosine of the item vectors" if learned else ""

    @property
    def knows_new_items(self) -> bool:
        return self.embedder.item.of_features

    @property
    def negatives(self) -> NegativesConfig | None:
        """The negatives that the loss needs in each step; None: none."""
        return None if self.config.next_item is None else self.config.next_item.negatives

    def encode(
        self, batch: SequenceBatch, predicted: tuple[Fact, ...], memory: Memory | None = None
    ) -> tuple[TokenBatch, Tensor]:
        """The tokens, with those that predict the given facts, and their states [T, D].

        With a `memory` (the cache of the batch's rows) only tokens that are not cached are computed, and all closed
        tokens are cached afterwards; for a `whole` row those of the newest event, too. Without gradients. Raises
        ConfigError if the model cannot cache.
        """
        if memory is None:
            tokens = self.layout.tokens(batch, predicted)
            return tokens, self.encoder(self.embedder.tokens(batch, tokens), tokens)
        if not self.remembers:
            kept_by = f"The encoder '{kind_of(self.config.encoder)}' under the layout '{self.config.layout}'"
            raise ConfigError(f"{kept_by} cannot cache a history: give it all events.")
        tokens = self.layout.tokens(batch, predicted, memory.cached)
        memory.kept = self.layout.closed(batch)
        if any(memory.whole):
            memory.kept = torch.where(torch.tensor(memory.whole), self.layout.open(batch), memory.kept)
        return tokens, self.encoder(self.embedder.tokens(batch, tokens), tokens, memory)

    def forward(self, batch: SequenceBatch, negatives: Negatives | None) -> dict[str, LossSum]:
        """Loss by objective, of feedback by field; targets without a read-out state have no next-item loss."""
        tokens, states = self.encode(batch, tuple(one.fact for one in self.objectives))
        table = self.embedder.item
        items = Items(self.num_items, partial(table.dropped, batch.key), table.plain)
        losses = {
            one.name: one.losses(self._read(one, batch, tokens, states), items, negatives) for one in self.objectives
        }
        return _named(losses)

    def loss_weights(self, batch: SequenceBatch, negatives: Negatives | None) -> dict[str, Tensor]:
        """Computed from the layout of the tokens, without the encoder."""
        tokens = self.layout.tokens(batch, [one.fact for one in self.objectives])
        weights = {}
        for one in self.objectives:
            events, weight, _ = targets_read(batch, tokens, one.fact, all_targets=one.without_state)
            weights[one.name] = {name: each.sum() for name, each in one.target_weights(events, weight).items()}
        return _named(weights)

    def _read(self, objective: Objective, batch: SequenceBatch, tokens: TokenBatch, states: Tensor) -> ReadOut:
        """The read-out of an objective: its targets, their states and their late facts."""
        read = tokens.reads[objective.fact]
        events, weight, target = targets_read(batch, tokens, objective.fact, all_targets=objective.without_state)
        found = states.index_select(0, read.state)
        if target is None:
            found = states.new_zeros(len(weight), states.shape[1]).index_copy(0, read.target, found)
        late = None
        if objective.late:
            which = torch.arange(len(weight), device=states.device) if target is None else target
            late = self.embedder.late(objective.late_source(batch), which, objective.late)
        return ReadOut(found, events, weight, late, target)

    def scores(self, batch: SequenceBatch, memory: Memory | None = None) -> dict[str, Tensor]:
        """Feedback field -> [S]: each target's probability of success, or its expected value."""
        if self.feedback is None:
            raise ConfigError("This model predicts no feedback; train one whose recipe sets model.feedback.")
        return self.feedback.scores(self._read(self.feedback, batch, *self.encode(batch, ("feedback",), memory)))

    def queries(self, batch: SequenceBatch, memory: Memory | None = None) -> Tensor:
        """[S, P]; zeros for a target with an empty history, so that all its scores tie."""
        if self.next_item is None:
            raise ConfigError("This model predicts feedback alone and recommends nothing; rank candidates with it.")
        read = self._read(self.next_item, batch, *self.encode(batch, ("item",), memory))
        assert read.target is not None
        queries = self.next_item.queries(read)
        empty = queries.new_zeros((len(batch.targets.num_visible), queries.shape[1]))
        return empty.index_copy(0, read.target, queries)

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        """[V, P] item vectors (or [U, P] of the given rows) for an index."""
        assert self.next_item is not None
        return self.next_item.similarity.items(self.embedder.item.vectors(rows))

    def catalogue_scores(self, batch: SequenceBatch, memory: Memory | None = None) -> CatalogueScores:
        """Scores of every item for every target; dense [S, V] if they are not factored."""
        queries, items = self.queries(batch, memory), self.item_vectors()
        if self.factored:
            return FactoredScores(queries, items)
        assert self.next_item is not None
        dense = self.next_item.similarity.all_scores(queries, items)
        return dense if self.prior is None else self.prior.added(dense, batch)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`table`: parameters with a row for every item or code; `head`: the objectives; `backbone`: the rest."""
        table = self.embedder.tables
        heads = [parameter for part in self.objectives for parameter in part.parameters()]
        named = {id(parameter) for parameter in (*table, *heads)}
        return {
            "table": table,
            "backbone": [parameter for parameter in self.parameters() if id(parameter) not in named],
            "head": heads,
        }

    def cost(self, tokens: int) -> Cost:
        """The cost of a history of `tokens` tokens: the encoder, and the losses of its targets.

        Norms, activations, biases, dropout and the embedding are not counted.
        """
        seen = tokens if self.layout.both_ways else (tokens + 1) / 2
        flops, kept, cached = self.config.encoder.cost(self.config.width, seen)
        heads = [part.flops(self.num_items) for part in self.objectives]
        cached = cached if self.prefix_stable else 0.0
        table = self.embedder.item.bytes
        return Cost(self.parameter_counts(), flops, kept, cached, flops_per_target=sum(heads), table_bytes=table)


def _named(found: Mapping[str, Mapping[str, Named]]) -> dict[str, Named]:
    """Objective -> (name -> value) becomes name -> value; a field with the name of another loss gets a longer name."""
    named: dict[str, Named] = {}
    for objective, each in found.items():
        named |= {(f"{objective}.{name}" if name in named else name): value for name, value in each.items()}
    return named
