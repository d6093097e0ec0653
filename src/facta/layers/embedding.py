"""Token vectors: the facts that a token shows, its position and its time. A masked event shows the mask vector.

Letters: V catalogue items, D width, T tokens, E input events, S targets, N window.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from facta import jagged
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.schema import Field as FeedbackField
from facta.layers.codes import CodeTable
from facta.layers.dropout import Dropout
from facta.layers.items import ItemsConfig
from facta.layers.rates import SmoothedRates
from facta.types import HIDDEN, LIST, PREFIX, SERIES, Events, Fact, SequenceBatch, TokenBatch

MINUTE, HOUR = 60_000, 3_600_000
Shows = tuple[tuple[Fact, ...], ...]
"""Facts that each token of an event shows (`layouts`)."""
GAP_BUCKETS = 2049  # buckets of √minutes; the last one begins at eight years


class EmbeddingConfig(ItemsConfig):
    """How facts become vectors; the defaults are those of the HSTU research code."""

    scale_by_width: bool = Field(default=True, description="multiply vectors of facts by √D at the input")
    positions: Literal["learned", "none"] = "learned"
    gaps: bool = Field(default=False, description="add a vector for the √minutes since the previous event")
    calendar: bool = Field(
        default=False, description="hour of the day and day of the week (UTC) are part of the context"
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="of the token vectors")
    rates: float | None = Field(
        default=None,
        gt=0,
        description="counting features of item tokens, also with hidden ids: success rates of item, features and "
        "context, smoothed towards the mean by so many events",
    )


class Embedder(nn.Module):
    """x = √D · (sum of the facts shown) + position [+ gap], then dropout; [T, D]."""

    SALT = 1

    def __init__(
        self,
        config: EmbeddingConfig,
        catalogue: Catalogue,
        width: int,
        window: int,
        shows: Shows = (("item",),),
        success: Sequence[FeedbackField] = (),
        *,
        late: Collection[Fact] = (),
        hides: bool = False,
    ) -> None:
        """`late`: facts that heads read beside the state; `hides`: whether there are masked events."""
        super().__init__()
        self.shows, self.width, std = shows, width, config.item_std
        self.item = config.build(catalogue, width)
        self.scale = width**0.5 if config.scale_by_width else 1.0
        self.position = nn.Embedding(window + 1, width) if config.positions == "learned" else None
        if self.position is not None:
            nn.init.xavier_normal_(self.position.weight)
        self.gap = nn.Embedding(GAP_BUCKETS, width) if config.gaps else None
        if self.gap is not None:
            nn.init.uniform_(self.gap.weight, -(GAP_BUCKETS**-0.5), GAP_BUCKETS**-0.5)
        shown = {*late, *(fact for token in shows for fact in token)}  # late facts have vectors, too
        self.facts = nn.ModuleDict()
        for role in ("context", "feedback"):
            fields = [field for field in catalogue.fields if field.role == role]
            if role in shown and fields:
                self.facts[role] = CodeTable(fields, width, std)
        tells = config.calendar and "context" in shown
        self.calendar = nn.Parameter(torch.randn(24 + 7, width) * std) if tells else None
        constant = [field for field in catalogue.users if field.kind != "items"]
        self.users = CodeTable(constant, width, std) if constant else None
        self.lists = tuple(field.name for field in catalogue.users if field.kind == "items")
        self.list = nn.Parameter(torch.randn(len(self.lists), width) * std) if self.lists else None
        self.series = CodeTable(catalogue.series, width, std) if catalogue.series else None
        self.rates, self.rate = None, None
        if config.rates is not None:
            self.rates = SmoothedRates(catalogue, success, config.rates, history=False, ordered=True)
            self.rate = nn.Linear(self.rates.width, width, bias=False)
            nn.init.normal_(self.rate.weight, std=std)
        self.hidden = nn.Parameter(torch.randn(width) * std) if hides else None  # the mask vector
        self.dropout = Dropout(config.dropout, self.SALT)

    @property
    def fields(self) -> list[str]:
        """Context and feedback that tokens or heads read."""
        return [name for table in self.facts.values() if isinstance(table, CodeTable) for name in table.names]

    @property
    def context(self) -> tuple[str, ...]:
        """Fields of context."""
        if "context" not in self.facts:
            return ()
        table = self.facts["context"]
        assert isinstance(table, CodeTable)
        return table.names

    @property
    def tables(self) -> list[nn.Parameter]:
        """Parameters with a row for every item or code; a step changes few rows."""
        coded = [*self.facts.values(), self.users, self.series]
        return [*self.item.tables, *(table.weight for table in coded if isinstance(table, CodeTable))]

    def tokens(self, batch: SequenceBatch, tokens: TokenBatch) -> Tensor:
        """[T, D]: the sum of the facts that each token shows, and its position."""
        plain = not batch.user and batch.lists is None and batch.series is None and self.hidden is None
        if plain and self.shows == (("item",),):
            x = self.item.read(batch.key, batch.events.item[tokens.source], tokens.key) * self.scale
        else:
            x = self._shown(batch, tokens) * self.scale
        if self.position is not None:
            x = x + self.position(tokens.position if self.hidden is None else _from_newest(tokens))
        if self.gap is not None:
            x = x + self._gaps(batch, tokens)
        dropped: Tensor = self.dropout(x, tokens.key)
        return dropped

    def late(self, batch: SequenceBatch, target: Tensor, facts: tuple[Fact, ...]) -> Tensor:
        """[S', D · facts]: the late facts of the targets."""
        columns = _Columns(batch, len(batch.events.item))
        return torch.cat([self._fact(batch, columns, fact, columns.inputs + target) for fact in facts], dim=1)

    def _shown(self, batch: SequenceBatch, tokens: TokenBatch) -> Tensor:
        columns = _Columns(batch, len(batch.events.item))
        x = torch.zeros(len(tokens.kind), self.width, device=tokens.kind.device)
        made: dict[int, Callable[[Tensor], Tensor]] = {PREFIX: lambda at: self._prefix(batch, tokens.source[at])}
        made[SERIES] = lambda at: self._series(batch, tokens.source[at])
        made[LIST] = lambda at: self._listed(batch, tokens.source[at], tokens.key[at])
        made[HIDDEN] = self._hidden
        for kind, facts in enumerate(self.shows):
            made[kind] = partial(self._facts, batch, columns, tokens, facts)
        for kind, make in made.items():
            at = torch.nonzero(tokens.kind == kind).squeeze(1)
            if len(at):
                vectors = make(at)
                x = x.to(vectors.dtype).index_copy(0, at, vectors)
        return x

    def _facts(
        self, batch: SequenceBatch, columns: _Columns, tokens: TokenBatch, facts: tuple[Fact, ...], at: Tensor
    ) -> Tensor:
        parts = [self._fact(batch, columns, fact, tokens.source[at], tokens.key[at]) for fact in facts]
        return torch.stack(parts).sum(dim=0) if len(parts) > 1 else parts[0]

    def _fact(
        self, batch: SequenceBatch, columns: _Columns, fact: Fact, source: Tensor, key: Tensor | None = None
    ) -> Tensor:
        """[n] events or targets -> [n, D]; zeros for a fact without fields in the data."""
        if fact == "item":
            vectors = self.item.read(batch.key, columns.item[source], key)
            return vectors if self.rate is None else vectors + self._rated(columns, source)
        vectors = torch.zeros(len(source), self.width, device=source.device)
        if fact in self.facts:
            table = self.facts[fact]
            assert isinstance(table, CodeTable)
            vectors = table({name: columns.field(name) for name in table.names}, source)
        if fact == "context" and self.calendar is not None:
            vectors = vectors + self._calendar(columns.time()[source])
        return vectors

    def _rated(self, columns: _Columns, source: Tensor) -> Tensor:
        """[n, D]: smoothed success rates of the items, of their features and of their context."""
        assert self.rates is not None and self.rate is not None
        context = {field.name: columns.field(field.name)[source] for field in self.rates.context}
        events = Events(columns.item[source], columns.time()[source], source, context)
        vectors: Tensor = self.rate(self.rates.of(events))
        return vectors

    def _calendar(self, time: Tensor) -> Tensor:
        """[n] milliseconds -> [n, D]: hour of the day and day of the week, UTC."""
        assert self.calendar is not None
        hours = time // HOUR
        places = torch.stack([hours % 24, 24 + hours // 24 % 7], dim=1)
        return nn.functional.embedding_bag(places, self.calendar, mode="sum")

    def _prefix(self, batch: SequenceBatch, source: Tensor) -> Tensor:
        assert self.users is not None
        values = torch.stack([batch.user[name] for name in self.users.names], dim=1)  # [B, P]
        row, fact = source // values.shape[1], source % values.shape[1]
        return self.users.each(values[row, fact], fact)

    def _listed(self, batch: SequenceBatch, source: Tensor, key: Tensor) -> Tensor:
        assert self.list is not None and batch.lists is not None
        item = batch.lists.item[source]
        known = (item >= 0)[:, None]
        return self.list[batch.lists.which[source]] + known * self.item.read(batch.key, item.clamp_min(0), key)

    def _hidden(self, at: Tensor) -> Tensor:
        assert self.hidden is not None
        return self.hidden.expand(len(at), -1)

    def _series(self, batch: SequenceBatch, source: Tensor) -> Tensor:
        assert self.series is not None and batch.series is not None
        return self.series.each(batch.series.value[source], batch.series.field[source])

    def _gaps(self, batch: SequenceBatch, tokens: TokenBatch) -> Tensor:
        """[T, D]: time since the previous event; zeros for tokens that are not of events."""
        assert self.gap is not None
        minutes = (_since_previous(batch).clamp_min(0) // MINUTE).double()
        bucket = minutes.sqrt().long().clamp_max(GAP_BUCKETS - 1)
        shown = tokens.kind >= 0
        x = self.gap(bucket[torch.where(shown, tokens.source, 0)])
        return torch.where(shown[:, None], x, 0.0)


class _Columns:
    """Events and targets as one sequence of E + S, indexed by the sources of tokens."""

    def __init__(self, batch: SequenceBatch, inputs: int) -> None:
        self.batch, self.inputs = batch, inputs
        self.item = torch.cat([batch.events.item, batch.targets.events.item])

    def time(self) -> Tensor:
        """[E + S] milliseconds."""
        events, targets = self.batch.events.time, self.batch.targets.events.time
        assert events is not None and targets is not None
        return torch.cat([events, targets])

    def field(self, name: str) -> Tensor:
        """[E + S] codes; undefined for targets without a code."""
        given = self.batch.targets.events.fields.get(name)
        asked = torch.zeros_like(self.batch.targets.events.item) if given is None else given
        return torch.cat([self.batch.events.fields[name], asked])


def _since_previous(batch: SequenceBatch) -> Tensor:
    """[E + S] milliseconds since the previous input event; 0 for the first one."""
    time, targets = batch.events.time, batch.targets
    assert time is not None
    own = time if targets.events.time is None else torch.cat([time, targets.events.time])
    before = torch.cat([torch.arange(len(time), device=time.device) - 1, _first(batch) + targets.num_visible - 1])
    some = torch.cat([jagged.places(batch.offsets) > 0, targets.num_visible > 0])
    return torch.where(some, own - time[torch.where(some, before, 0)], 0) if len(time) else own * 0


def _from_newest(tokens: TokenBatch) -> Tensor:
    """[T] positions counted back from the newest event of the row. In `cloze` a request then has position 0, which
    every row trains; counted from the oldest event its position may be beyond all of training. Such rows are never
    cached, so their positions may move.
    """
    row = jagged.rows(tokens.offsets)
    newest = tokens.position.new_zeros(len(tokens.offsets) - 1)
    return newest.scatter_reduce(0, row, tokens.position, "amax")[row] - tokens.position


def _first(batch: SequenceBatch) -> Tensor:
    """[S] the first input event of each target's row."""
    return batch.offsets[jagged.rows(batch.targets.offsets)]
