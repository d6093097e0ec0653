"""What a history says of the item that is asked about: the base of all readers, and those of the newest events alone.

A reader of another kind is a config that builds it and a module, both in one file, and a word in `models/histories.py`.

Letters: E input events, L entries of earlier lists, n = E + L sources, S targets, P pairs, N the model's window,
D width, W width of what a reader says.
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

PAIRS_AT_ONCE = 200_000  # of a source and a target: a tensor of them at width 64 takes 51 MB


class Reading(NamedTuple):
    """What a reader says of S targets."""

    states: Tensor  # [S, W]
    search: Tensor | None = None  # [S, A] what a search is trained by: heads of its own predict feedback from it


class HistoryReader(nn.Module):
    """A module that reads histories for the items asked about. `width` is W; `searching` is A, 0 without such heads."""

    width: int
    searching = 0

    @abstractmethod
    def forward(self, batch: SequenceBatch, items: Tensor, targets: Tensor) -> Reading:
        """[n, D] item vectors of the sources, [S, D] of the targets."""

    @abstractmethod
    def cost(self, events: int) -> tuple[float, float]:
        """Operations of one target, a row of its own, with so many events before it; bytes that its backward pass
        keeps. Matrix products alone.
        """


class HistoryConfig(Config):
    """The base of what reads a history for the item that is asked about."""

    @abstractmethod
    def reader(self, catalogue: Catalogue, window: int, width: int, std: float) -> HistoryReader:
        """The reader of a model with window N and item vectors of width D. `std`: of initial vectors."""

    def sees(self, window: int) -> int:
        """Events before a target that it looks at, in a model with window N."""
        return window

    def check(self, width: int) -> None:
        """Raises ConfigError where it does not exist at this width."""


class RecentConfig(HistoryConfig):
    """The base of what reads the last N events, each as one vector."""

    @abstractmethod
    def unit(self, width: int, std: float) -> nn.Module:
        """(sources [n, D], items asked about [S, D], pairs [P], ages [P], keys [S]) -> [S, D]."""

    @abstractmethod
    def reading_cost(self, width: int, seen: int) -> tuple[float, float]:
        """Operations of one target that sees `seen` events, and bytes that its backward pass keeps."""

    def reader(self, catalogue: Catalogue, window: int, width: int, std: float) -> RecentReader:
        return RecentReader(self, catalogue, window, width, std)


class DINConfig(RecentConfig):
    """Target attention."""

    kind: Literal["din"] = "din"
    hidden: int = Field(default=32, ge=1, description="A, width of the attention unit")

    def unit(self, width: int, std: float) -> nn.Module:
        return TargetAttention(width, self.hidden, std)

    def reading_cost(self, width: int, seen: int) -> tuple[float, float]:
        """Of the target; of each event, its product and its weight. Nothing where there is no event."""
        if not seen:
            return 0.0, 0.0
        flops = 2 * width * self.hidden + seen * (4 * width * self.hidden + 2 * self.hidden)
        return flops, 4.0 * (2 * width + 3 * self.hidden) * seen


class BSTConfig(TransformerConfig, RecentConfig):
    """A transformer over the history and the item."""

    def unit(self, width: int, std: float) -> nn.Module:
        return SequenceAttention(self, width, std)

    def reading_cost(self, width: int, seen: int) -> tuple[float, float]:
        """All events and the target see each other."""
        each = self.cost(width, seen + 1)
        return each.flops * (seen + 1), each.activation_bytes * (seen + 1)


def lists_of(catalogue: Catalogue) -> int:
    """How many earlier lists a user has."""
    return sum(field.kind == "items" for field in catalogue.users)


class RecentReader(HistoryReader):
    """[S, D] of each target: the last N events that it may see, with their feedback, and what its user had earlier."""

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
        """[n, D] vectors of the sources with their facts, [S, D] of the items asked about -> [S, D]."""
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
    """BST (Chen et al. 2019): the history and, behind it, the target through a transformer in which all see all.

    An event is told apart by its age, the paper's position, and the state of the target is read; the paper puts the
    states of all places side by side, which fixes the length of a history.
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
    """Rows [S+1] in which every token sees the whole row; random draws belong to the targets' keys [S]."""
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
