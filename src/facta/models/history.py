"""Readers of a history for the target's item: the base of all, and those of the newest events.

A new kind of reader is a config and the module that it builds, in one file, and a line in `models/histories.py`.

Letters: E input events, L entries of earlier lists, n = E + L sources, S targets, P pairs, N the model's window, D
width, W width of a reader's output.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from facta import draws, jagged
from facta.config import Config
from facta.data.dataset.catalogue import Catalogue
from facta.draws import Purpose
from facta.encoders.transformer import Transformer, TransformerConfig
from facta.layers.codes import CodeTable
from facta.layers.recent import AGES, Recent, ages, recent
from facta.layers.target_attention import TargetAttention
from facta.types import SequenceBatch, TokenBatch

PAIRS_AT_ONCE = 200_000  # pairs of a source and a target: at width 64 a tensor of 51 MB


class Reading(NamedTuple):
    """A reader's output for S targets."""

    states: Tensor  # [S, W]
    search: Tensor | None = None  # [S, A] input of a search's own heads, whose losses train it


class HistoryReader(nn.Module):
    """A module that reads histories for the targets' items. `width` is W; `searching` is
    A, 0 without a search's heads."""

    width: int
    searching = 0

    @abstractmethod
    def forward(self, batch: SequenceBatch, items: Tensor, targets: Tensor) -> Reading:
        """[n, D] item vectors of the sources, [S, D] of the targets."""

    @abstractmethod
    def cost(self, events: int) -> tuple[float, float]:
        """(operations, bytes kept for the backward pass) of one target in its own row with `events` events before it.
        Only matrix products count.
        """


class HistoryConfig(Config):
    """The base of the configs of readers."""

    @abstractmethod
    def reader(self, catalogue: Catalogue, window: int, width: int, std: float) -> HistoryReader:
        """The reader of a model with window N and item vectors of width D. `std`: of initial vectors."""

    def sees(self, window: int) -> int:
        """Events before a target that the reader reads, in a model with window N."""
        return window

    def check(self, width: int) -> None:
        """Raises ConfigError if the reader does not support this width."""


class RecentConfig(HistoryConfig):
    """The base of readers of the last N events, each as one vector."""

    @abstractmethod
    def unit(self, width: int, std: float) -> nn.Module:
        """(sources [n, D], targets' items [S, D], pairs [P], ages [P], keys [S]) -> [S, D]."""

    @abstractmethod
    def reading_cost(self, width: int, seen: int) -> tuple[float, float]:
        """(operations, bytes kept for the backward pass) of one target that sees `seen` events."""

    def reader(self, catalogue: Catalogue, window: int, width: int, std: float) -> RecentReader:
        return RecentReader(self, catalogue, window, width, std)


class DINConfig(RecentConfig):
    """Target attention."""

    kind: Literal["din"] = "din"
    hidden: int = Field(default=32, ge=1, description="A, width of the attention unit")

    def unit(self, width: int, std: float) -> nn.Module:
        return TargetAttention(width, self.hidden, std)

    def reading_cost(self, width: int, seen: int) -> tuple[float, float]:
        """The target's part, and each event's product and weight; zero without events."""
        if not seen:
            return 0.0, 0.0
        flops = 2 * width * self.hidden + seen * (4 * width * self.hidden + 2 * self.hidden)
        return flops, 4.0 * (2 * width + 3 * self.hidden) * seen


class BSTConfig(TransformerConfig, RecentConfig):
    """A transformer over the history and the item."""

    def unit(self, width: int, std: float) -> nn.Module:
        return SequenceAttention(self, width, std)

    def reading_cost(self, width: int, seen: int) -> tuple[float, float]:
        """All events and the target attend to each other."""
        each = self.cost(width, seen + 1)
        return each.flops * (seen + 1), each.activation_bytes * (seen + 1)


def lists_of(catalogue: Catalogue) -> int:
    """The number of earlier lists of a user."""
    return sum(field.kind == "items" for field in catalogue.users)


class RecentReader(HistoryReader):
    """[S, D] of each target, from the last N events that it may see, with their feedback,
    and the user's earlier lists."""

    def __init__(self, config: RecentConfig, catalogue: Catalogue, window: int, width: int, std: float) -> None:
        super().__init__()
        events, lists = catalogue.fields, lists_of(catalogue)
        self.config, self.window, self.width = config, window, width
        self.facts = CodeTable(events, width, std) if events else None
        self.list = nn.Parameter(torch.randn(lists, width) * std) if lists else None
        self.attention = config.unit(width, std)

    def forward(self, batch: SequenceBatch, items: Tensor, targets: Tensor) -> Reading:
        return Reading(self.read(batch, self.sources(batch, items), targets))

    def read(self, batch: SequenceBatch, sources: Tensor, targets: Tensor) -> Tensor:
        """Vectors of the sources with their facts [n, D], of the targets' items [S, D] -> [S, D]."""
        keys, first, found = batch.targets.events.key, 0, []
        lists = 0 if self.list is None else len(self.list)
        for pairs in recent(batch, self.window, lists).pieces(PAIRS_AT_ONCE):
            last = first + len(pairs.offsets) - 1
            age = ages(batch, pairs, first)
            found.append(self.attention(sources, targets[first:last], pairs, age, keys[first:last]))
            first = last
        return torch.cat(found)

    def sources(self, batch: SequenceBatch, items: Tensor) -> Tensor:
        """[n, D]: item + context + feedback of events, item + list of earlier entries."""
        count = len(batch.events.item)
        shown = items[:count]
        if self.facts is not None:
            shown = shown + self.facts(batch.events.fields, torch.arange(count, device=items.device))
        if self.list is None or batch.lists is None:
            return shown
        return torch.cat([shown, items[count:] + F.embedding(batch.lists.which, self.list)])

    def cost(self, events: int) -> tuple[float, float]:
        return self.config.reading_cost(self.width, min(events, self.window))


class SequenceAttention(nn.Module):
    """BST (Chen et al. 2019): a bidirectional transformer over the history followed by the target.

    Ages stand for positions, as in the paper. The target's state is read; the paper concatenates the states of all
    places, which fixes the length of a history.
    """

    def __init__(self, config: TransformerConfig, width: int, std: float) -> None:
        super().__init__()
        self.encoder = Transformer(config, width)
        self.age = nn.Parameter(torch.randn(AGES, width) * std)
        self.target = nn.Parameter(torch.randn(width) * std)

    def forward(self, sources: Tensor, targets: Tensor, pairs: Recent, age: Tensor, keys: Tensor) -> Tensor:
        """[n, D], [S, D], ages of the pairs [P], keys of the targets [S] -> [S, D]."""
        length = jagged.lengths(pairs.offsets) + 1
        offsets = jagged.offsets_of(length)
        newest = offsets[1:] - 1
        shown = F.embedding(pairs.source, sources) + F.embedding(age, self.age)
        at = torch.arange(len(pairs.source), device=age.device) + pairs.target
        x = targets.new_zeros(int(offsets[-1]), targets.shape[1])
        x = x.index_copy(0, at, shown).index_copy(0, newest, targets + self.target)
        found: Tensor = self.encoder(x, all_see_all(offsets, keys)).index_select(0, newest)
        return found


def all_see_all(offsets: Tensor, keys: Tensor) -> TokenBatch:
    """Rows [S+1] in which every token sees the whole row; random draws are functions of the targets' keys [S]."""
    row, place = jagged.rows(offsets), jagged.places(offsets)
    return TokenBatch(
        offsets=offsets,
        kind=torch.zeros_like(row),
        source=row,
        time=None,
        query_time=None,
        position=place,
        sees=jagged.lengths(offsets)[row],
        key=draws.mix(draws.mix(keys[row], Purpose.TARGET), place),
        reads={},
    )
