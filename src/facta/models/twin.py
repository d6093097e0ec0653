"""TWIN: one attention both finds the events of a long history and weighs them (Chang et al. 2023).

    score(event, item) = ⟨W_h h, W_q q⟩ / √d + bias of the event's facts + bias of its age      of each head

h is the vector of an event's item, by id and features, and equal for all users. Context, feedback and age are of the
event; each adds one number to the score (the paper's K_c W_c β). The search takes the K events with the highest scores,
heads in turn; the exact unit takes the softmax of the same scores over them, so the search finds the events of largest
weight.

Letters: n sources, S targets, s those of a piece, e sources of a piece, K events found, H heads, d head width, D width.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from facta.data.dataset.catalogue import Catalogue
from facta.encoders.encoder import check_heads
from facta.layers.codes import CodeTable
from facta.layers.recent import AGES, age_of
from facta.layers.search import Found, Piece, best, pieces, together, weights
from facta.models.history import HistoryConfig, HistoryReader, Reading, lists_of
from facta.types import SequenceBatch


class TWINConfig(HistoryConfig):
    """Settings of a search by the attention that follows it."""

    kind: Literal["twin"] = "twin"
    long: int = Field(
        default=1000, ge=1, description="events before a target that are searched, and entries of each earlier list"
    )
    found: int = Field(default=100, ge=1, description="K, events found at most")
    heads: int = Field(default=4, ge=1)

    def reader(self, catalogue: Catalogue, window: int, width: int, std: float) -> TWIN:
        return TWIN(self, catalogue, width, std)

    def sees(self, window: int) -> int:
        return self.long

    def check(self, width: int) -> None:
        check_heads(width, self.heads, "history.heads")


class _Sources(NamedTuple):
    key: Tensor  # [n, D]
    bias: Tensor  # [n, H]
    value: Tensor  # [n, D]


class TWIN(HistoryReader):
    """[S, D] of each target. Only the ranker's loss trains it: the search shares the weights of the exact unit.

    Differences: a code of a fact has a bias for each head and a value vector. The paper multiplies an embedding of 8
    numbers by W_c β and by W_v; here the products are learned. Keys are computed once for each event of a batch; the
    paper caches those of each item between requests.
    """

    def __init__(self, config: TWINConfig, catalogue: Catalogue, width: int, std: float) -> None:
        super().__init__()
        events, lists = catalogue.fields, lists_of(catalogue)
        self.config, self.width = config, width
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.fact_bias = CodeTable(events, config.heads, std) if events else None
        self.fact_value = CodeTable(events, width, std) if events else None
        self.list_bias = nn.Parameter(torch.randn(lists, config.heads) * std) if lists else None
        self.list_value = nn.Parameter(torch.randn(lists, width) * std) if lists else None
        self.age_bias = nn.Parameter(torch.zeros(AGES, config.heads))
        self.age_value = nn.Parameter(torch.randn(AGES, width) * std)

    def forward(self, batch: SequenceBatch, items: Tensor, targets: Tensor) -> Reading:
        """[n, D], [S, D] -> [S, D]; zeros for a target without sources."""
        sources, query = self._sources(batch, items), self.query(targets)
        lists = 0 if self.list_bias is None else len(self.list_bias)
        every = pieces(batch, self.config.long, lists=lists)
        found = together([self._search(batch, piece, query, sources) for piece in every], batch)
        target, said = torch.arange(len(targets), device=targets.device)[:, None], [targets[:0]]
        for some, part in found.parts():
            said.append(self._attend(part, query[some], sources, age_of(batch, part.source, target[some])))
        return Reading(self.out(torch.cat(said)))

    def _sources(self, batch: SequenceBatch, items: Tensor) -> _Sources:
        """Keys, biases and values of the sources: items, facts of events, and lists of earlier entries."""
        bias = self._facts(batch, self.fact_bias, self.list_bias, items.new_zeros(len(items), self.config.heads))
        value = self._facts(batch, self.fact_value, self.list_value, self.value(items))
        return _Sources(self.key(items), bias, value)

    @staticmethod
    def _facts(batch: SequenceBatch, facts: CodeTable | None, lists: Tensor | None, x: Tensor) -> Tensor:
        """x [n, C] of the sources -> [n, C], with the vectors of their facts added."""
        count = len(batch.events.item)
        events, entries = x[:count], x[count:]
        if facts is not None:
            events = events + facts(batch.events.fields, torch.arange(count, device=x.device))
        if lists is not None and batch.lists is not None:
            entries = entries + F.embedding(batch.lists.which, lists)
        return torch.cat([events, entries])

    @torch.no_grad()
    def _search(self, batch: SequenceBatch, piece: Piece, query: Tensor, sources: _Sources) -> Found:
        """The K sources with the highest scores."""
        if len(piece.source) <= self.config.found:
            return piece.every
        queries, keys = self._heads(query[piece.first : piece.last]), self._heads(sources.key[piece.source])
        age = age_of(batch, piece.source, torch.arange(piece.first, piece.last, device=query.device)[:, None])
        score = torch.einsum("shd,ehd->hse", queries, keys) * queries.shape[2] ** -0.5
        score += sources.bias[piece.source].T[:, None] + F.embedding(age, self.age_bias).permute(2, 0, 1)
        return best(score, piece, self.config.found)

    def _attend(self, found: Found, query: Tensor, sources: _Sources, age: Tensor) -> Tensor:
        """[s, D] from queries [s, D] and ages [s, K]: softmax attention with the same scores over the found sources."""
        queries, keys = self._heads(query), self._heads(F.embedding(found.source, sources.key))
        score = torch.einsum("shd,skhd->skh", queries, keys) * queries.shape[2] ** -0.5
        score = score + F.embedding(found.source, sources.bias) + F.embedding(age, self.age_bias)
        value = self._heads(F.embedding(found.source, sources.value) + F.embedding(age, self.age_value))
        return torch.einsum("skh,skhd->shd", weights(score, found.there), value).flatten(1)

    def _heads(self, x: Tensor) -> Tensor:
        """[…, D] -> […, H, d]."""
        return x.reshape(*x.shape[:-1], self.config.heads, self.width // self.config.heads)

    def cost(self, events: int) -> tuple[float, float]:
        """The cost: query and output of the target, key and value of each event; with more than K events, scores of
        all.
        """
        width, seen = self.width, min(events, self.config.long)
        found = min(seen, self.config.found)
        searched = seen if seen > found else 0
        flops = 2.0 * width * (2 * width + 2 * width * seen + searched + 2 * found)
        kept = 4.0 * (2 * width * seen + found * (2 * width + 3 * self.config.heads))
        return flops, kept
