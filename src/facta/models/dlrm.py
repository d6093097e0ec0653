"""Deep rankers (the baselines of generative ones): target attention over the history, crosses, experts by task.

    item, context, facts of the user, counts ─┐
    history ── attention by the item ─────────┴─ x0 ── crosses ── experts ── one head per feedback field

DIN (Zhou et al. 2018), DCN-v2 (Wang et al. 2021) and MMoE (Ma et al. 2018) as Zhai et al. 2024 combine them in their
baseline. `history` chooses the reader of the history: DIN, BST (Chen et al. 2019), SIM (Pi et al. 2020), TWIN (Chang et
al. 2023), TransAct (Xia et al. 2023).

Letters: S targets, n sources (events and entries of earlier lists), D width, W width of x0, X width of an expert, K
fields, A width of the input of a search's heads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from facta import draws, jagged
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.schema import Field as FeedbackField
from facta.data.split.statistics import Statistics
from facta.draws import Purpose
from facta.errors import ConfigError
from facta.layers.codes import CodeTable
from facta.layers.crosses import Crosses, Experts
from facta.layers.dropout import Dropout
from facta.layers.items import ItemsConfig
from facta.layers.rates import SmoothedRates
from facta.layers.recent import recent
from facta.layers.tables import AnyTable
from facta.models.histories import AnyHistory
from facta.models.history import DINConfig, Reading
from facta.models.impressions import ImpressionModel
from facta.models.model import ModelConfig, Task
from facta.objectives.feedback import Feedback, FeedbackConfig, chosen, scored
from facta.objectives.readout import ReadOut
from facta.types import Cost, LossSum, Negatives, SequenceBatch

INITIAL_STD = 0.1  # of initial vectors, which the crosses multiply


class DLRMConfig(ModelConfig):
    """A whole model. `features`: all; without counts, as a generative ranker; or without the history."""

    kind: Literal["dlrm"] = "dlrm"
    window: int = Field(
        default=50,
        ge=1,
        description="events before a target that counts and `history` see, and entries of each earlier list; "
        "searched histories have their own length",
    )
    width: int = Field(default=32, ge=1, description="D, of items and events")
    table: AnyTable | None = Field(
        default=None,
        description="table of id vectors: null: a row for every item; hashed: a fixed number of rows",
    )
    code_width: int = Field(default=8, ge=1, description="width of each field of context and of users in x0")
    features: Literal["all", "gr", "no-history"] = "all"
    history: AnyHistory = DINConfig()
    crosses: int = Field(default=2, ge=0, description="layers")
    rank: int | None = Field(default=64, ge=1, description="of the crosses' matrices; null: full")
    experts: int = Field(default=4, ge=1)
    expert_width: int = Field(default=64, ge=1)
    feedback: FeedbackConfig = FeedbackConfig(hidden=32)
    prior: float = Field(default=20.0, gt=0, description="pseudo-events that smooth a rate towards the expected one")
    midnight: int = Field(default=0, ge=0, le=23, description="UTC hour at which the days of counts begin")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="of x0")
    hidden_ids: float = Field(default=0.1, ge=0, lt=1, description="share of items whose ids are hidden in training")

    @model_validator(mode="after")
    def _consistent(self) -> DLRMConfig:
        self.history.check(self.width)
        if self.feedback.late is not None:
            raise ConfigError("Found feedback.late for a dlrm, whose heads read all features: set it to null.")
        return self

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ("feedback",)

    @property
    def min_training_events(self) -> int:
        """An event is its own example."""
        return 1

    @property
    def uses_time(self) -> bool:
        """Ages of events and days of counts."""
        return True

    @property
    def sees(self) -> int:
        """The most events before a target that a part of the model reads."""
        return self.window if self.features == "no-history" else max(self.window, self.history.sees(self.window))

    @property
    def of_any_fields(self) -> Self:
        """All feedback."""
        return self.change(feedback=self.feedback.change(fields=None))

    def build(self, catalogue: Catalogue, seed: int = 0) -> DLRM:
        return DLRM(self, catalogue, seed)


class DLRM(ImpressionModel):
    """Scores of one impression from the facts known before it."""

    SALT = 300
    config: DLRMConfig

    def __init__(self, config: DLRMConfig, catalogue: Catalogue, seed: int = 0) -> None:
        super().__init__(catalogue, config.sees)
        self.config, width = config, config.width
        with torch.random.fork_rng(devices=[]):  # initial weights are a function of (config, seed) alone
            torch.manual_seed(seed)
            described = bool(catalogue.features)
            hidden = config.hidden_ids * described
            items = ItemsConfig(item_std=INITIAL_STD, table=config.table, features=described, hidden_ids=hidden)
            self.item = items.build(catalogue, width)
            self.facts = CodeTable(self.known, config.code_width, INITIAL_STD) if self.known else None
            fields = chosen(config.feedback, catalogue.fields)
            success = [field for field in fields if field.positives]
            history = config.features != "no-history"
            counted = config.features != "gr" and success
            self.rates = self._rates(catalogue, success, history) if counted else None
            self.history = config.history.reader(catalogue, config.window, width, INITIAL_STD) if history else None
            wide = width + config.code_width * len(self.known)
            wide += 0 if self.history is None else self.history.width
            wide += 0 if self.rates is None else self.rates.width
            self.dropout = Dropout(config.dropout, self.SALT)
            self.norm = nn.LayerNorm(wide)
            self.crosses = Crosses(wide, config.crosses, config.rank)
            self.experts = Experts(wide, config.experts, config.expert_width, len(fields))
            self.heads = nn.ModuleList(
                Feedback(config.feedback.of(field.name), catalogue.fields, config.expert_width) for field in fields
            )
            searching = 0 if self.history is None else self.history.searching
            self.search = Feedback(config.feedback, catalogue.fields, searching) if searching else None

    def _rates(self, catalogue: Catalogue, success: list[FeedbackField], history: bool) -> SmoothedRates:
        prior, midnight = self.config.prior, self.config.midnight
        return SmoothedRates(catalogue, success, prior, history=history, midnight=midnight)

    @property
    def predicted(self) -> list[str]:
        """Feedback fields that it scores."""
        return [head.fields[0].name for head in self._heads() if scored(head.fields[0])]

    @property
    def successes(self) -> list[str]:
        """Predicted feedback fields with success."""
        return [head.fields[0].name for head in self._heads() if head.fields[0].positives]

    def fit_statistics(self, statistics: Statistics) -> Self:
        """Store counts, and mark the items with training events."""
        self.item.mark_trained(statistics.counts > 0)
        return super().fit_statistics(statistics)

    @property
    def settings_without_counts(self) -> list[str]:
        return ["features=gr"]

    def states(self, batch: SequenceBatch) -> Tensor:
        """[K, S, X]: the state of each task."""
        return self._read(batch)[0]

    def _read(self, batch: SequenceBatch) -> tuple[Tensor, Tensor | None]:
        """The states [K, S, X], and [S, A] the input of a search's heads."""
        targets = batch.targets
        every = torch.arange(len(targets.num_visible), device=targets.num_visible.device)
        vectors, items = self._items(batch)
        parts, read = [items], Reading(items)
        if self.facts is not None:
            parts.append(self.facts.side_by_side(self.target_codes(batch), every))
        if self.history is not None:
            read = self.history(batch, vectors, items)
            parts.append(read.states)
        if self.rates is not None:
            parts.append(self.rates(batch, recent(batch, self.config.window)))
        x0 = self.dropout(self.norm(torch.cat(parts, dim=1)), targets.events.key)
        return self.experts(self.crosses(x0)), read.search

    def _items(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Item vectors of the sources [n, D] (zeros for items that are not in the
        catalogue) and of the targets [S, D]."""
        events, targets = batch.events, batch.targets
        rows, keys = [events.item, targets.events.item], [events.key, targets.events.key]
        if batch.lists is not None and self.history is not None:
            own = draws.mix(keys[1][targets.offsets[:-1].clamp_max(len(keys[1]) - 1)], Purpose.PREFIX)  # of the row
            rows.insert(1, batch.lists.item)
            keys.insert(1, draws.mix(own[jagged.rows(batch.lists.offsets)], jagged.places(batch.lists.offsets)))
        row = torch.cat(rows)
        vectors = self.item.read(batch.key, row.clamp_min(0), torch.cat(keys)) * (row >= 0)[:, None]
        count = len(row) - len(targets.num_visible)
        return vectors[:count], vectors[count:]

    def forward(self, batch: SequenceBatch, negatives: Negatives | None) -> dict[str, LossSum]:
        """Loss by field; "FIELD by search" for the heads of a search."""
        found: dict[str, LossSum] = {}
        states, search = self._read(batch)
        for state, head in zip(states, self._heads(), strict=True):
            found |= head.losses(ReadOut(state, batch.targets.events, batch.targets.weight))
        if self.search is not None and search is not None:
            of_search = self.search.losses(ReadOut(search, batch.targets.events, batch.targets.weight))
            found |= {f"{name} by search": loss for name, loss in of_search.items()}
        return found

    def loss_weights(self, batch: SequenceBatch, negatives: Negatives | None) -> dict[str, Tensor]:
        """Field -> the number of targets that define it."""
        targets = batch.targets
        each = [head.target_weights(targets.events, targets.weight) for head in self._heads()]
        if self.search is not None:
            of_search = self.search.target_weights(targets.events, targets.weight)
            each.append({f"{name} by search": weight for name, weight in of_search.items()})
        return {name: weight.sum() for found in each for name, weight in found.items()}

    def scores(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Feedback field -> [S]: each target's probability of success, or its expected value."""
        found: dict[str, Tensor] = {}
        for state, head in zip(self.states(batch), self._heads(), strict=True):
            found |= head.scores(ReadOut(state, batch.targets.events, batch.targets.weight))
        return found

    def _heads(self) -> Iterable[Feedback]:
        """One head for each field; each reads its own state."""
        return cast("Iterable[Feedback]", self.heads)

    @property
    def tables(self) -> list[nn.Parameter]:
        """Parameters with a row for every item or code."""
        return [*self.item.tables, *([] if self.facts is None else [self.facts.weight])]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`table`: parameters with a row for every item or code; `head`: experts and all
        heads; `backbone`: the rest."""
        search = [] if self.search is None else self.search.parameters()
        table, head = self.tables, [*self.experts.parameters(), *self.heads.parameters(), *search]
        named = {id(parameter) for parameter in (*table, *head)}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in named]
        return {"table": table, "backbone": rest, "head": head}

    def cost(self, tokens: int) -> Cost:
        """Of one target, a row of its own, with a history of `tokens` events; matrix products alone."""
        config = self.config
        parts = [self.crosses, self.experts, self.heads, *([] if self.search is None else [self.search])]
        matrices = sum(p.numel() for part in parts for p in part.parameters() if p.ndim == 2)
        mixed = len(self.heads) * config.experts * config.expert_width
        flops = 2.0 * (matrices + mixed)
        kept = 4.0 * (len(self.norm.weight) * (2 + 2 * config.crosses) + 2 * config.experts * config.expert_width)
        if self.history is not None:
            of_history, kept_of_history = self.history.cost(tokens)
            flops, kept = flops + of_history, kept + kept_of_history
        return Cost(self.parameter_counts(), flops, kept, table_bytes=self.item.bytes)
