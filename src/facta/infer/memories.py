"""What a model keeps of people between requests, and how much of it is still true when the next one comes.

Letters: B rows of a batch, S targets, P width of a query.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import torch
from torch import Tensor

from facta.encoders.memory import Memory, RowMemory
from facta.infer.cache import OBJECTS, Cache
from facta.infer.content import RowContent, contents
from facta.layouts.layout import Layout
from facta.models.model import Model
from facta.similarity.similarity import Similarity
from facta.types import CatalogueScores, SequenceBatch


@dataclass(frozen=True)
class Kept:
    """The memory of a person, and what its tokens were made of."""

    memory: RowMemory
    content: RowContent

    @property
    def nbytes(self) -> int:
        return self.memory.nbytes + self.content.nbytes + OBJECTS


Memories = Cache[Hashable, Kept]
"""Of people, by any name that tells them apart."""


class Rememberer(Protocol):
    """A model that keeps what it computed of histories, and computes only what is new."""

    layout: Layout

    @property
    def candidates_are_tokens(self) -> bool: ...
    @property
    def scoring(self) -> Similarity | None: ...
    def queries(self, batch: SequenceBatch, memory: Memory | None = None) -> Tensor: ...
    def item_vectors(self, rows: Tensor | None = None) -> Tensor: ...
    def catalogue_scores(self, batch: SequenceBatch, memory: Memory | None = None) -> CatalogueScores: ...
    def scores(self, batch: SequenceBatch, memory: Memory | None = None) -> dict[str, Tensor]: ...


def remembers(model: Model) -> TypeGuard[Rememberer]:
    """Whether a model says that it is one."""
    return model.remembers


class Remembering:
    """A model that is asked with a memory: for whoever ranks, a ranker like any other."""

    def __init__(self, model: Rememberer, memory: Memory) -> None:
        self.model, self.memory = model, memory

    @property
    def scoring(self) -> Similarity | None:
        return self.model.scoring

    def queries(self, batch: SequenceBatch) -> Tensor:
        """[S, P]."""
        return self.model.queries(batch, self.memory)

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        return self.model.item_vectors(rows)

    def catalogue_scores(self, batch: SequenceBatch) -> CatalogueScores:
        return self.model.catalogue_scores(batch, self.memory)

    def scores(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Feedback field -> [S]."""
        return self.model.scores(batch, self.memory)


@contextmanager
def remembered(
    model: Rememberer, memories: Memories, names: Sequence[Hashable], batch: SequenceBatch, *, keep: bool = True
) -> Iterator[Remembering]:
    """The model with what is kept of the people of a batch [B]; afterwards `memories` hold what was added. Without
    `keep` they stay as they are: the batch shows histories as they were not."""
    content = contents(batch)
    kept = [memories.get(name) for name in names]
    rows = _true_rows(model, kept, content, batch)
    asked = Remembering(model, Memory(rows))
    yield asked
    if not keep:
        return
    for name, old, row, now in zip(names, kept, asked.memory.rows, content, strict=True):
        if row is None:
            memories.drop(name)
        elif old is None or row is not old.memory:
            found = Kept(row, now.until(max(now.columns.shape[1] - 1, 0)))
            memories.put(name, found, found.nbytes)


def _true_rows(
    model: Rememberer, kept: Sequence[Kept | None], content: Sequence[RowContent], batch: SequenceBatch
) -> list[RowMemory | None]:
    """[B] of each memory what is made of the same events as the row of the batch, and closed there."""
    same = [0 if one is None else one.content.common(now) for one, now in zip(kept, content, strict=True)]
    events = torch.tensor(same)
    tokens = torch.where(events > 0, model.layout.first_tokens(batch, events), 0)
    closed = tokens.minimum(model.layout.closed(batch)).tolist()
    return [None if one is None else one.memory.cut(count) for one, count in zip(kept, closed, strict=True)]
