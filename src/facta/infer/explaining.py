"""Why an item stands in a list: how its score changes when one event of the history is left out, computed.

The history is made without the event and asked at the same moment. A model is asked also where nothing is left that it
could read. What is kept of a person serves here too: without an event the tokens before it are the same.

Letters: M items, n events that are left out one at a time.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from facta.arrays import Floats, Ints
from facta.data.batches.encoded import EncodedHistory
from facta.data.batches.request import Asked
from facta.data.dataset.ids import ItemId
from facta.infer import candidates
from facta.infer.answer import Because
from facta.infer.asking import Asking, KeptUnder
from facta.infer.memories import Memories
from facta.infer.verbs import Verbs
from facta.store.protocol import StoredEvent

NEWEST = 50  # events that are left out, one at a time
TOKENS = 2048  # of the histories that are asked together, as if nothing were kept; bounds a step


@dataclass(eq=False)
class Explaining:
    """The items of one history, and how far their scores without an event are."""

    verbs: Verbs
    history: EncodedHistory
    at: int | None
    rows: Ints  # [M] of the catalogue of `verbs`
    stride: int
    name: Hashable  # under which memories know the person
    context: Mapping[str, int] | None = None  # codes; None: none is said
    by: Mapping[str, float] | None = None  # weights of predicted feedback; None: the score that recommends
    found: list[Floats] = field(default_factory=list)  # [M] with all events, then without each

    @property
    def places(self) -> list[int]:
        """[n] the events that are left out, newest first."""
        return list(range(len(self.history)))[: -NEWEST - 1 : -1]

    @property
    def left(self) -> int:
        """Histories without scores."""
        return 1 + len(self.places) - len(self.found)

    @property
    def next(self) -> int:
        """How many histories are asked together."""
        return min(max(TOKENS // self._tokens, 1), self.left)

    @property
    def cost(self) -> int:
        """Tokens of the histories that are asked next, as if nothing were kept."""
        return self.next * self._tokens

    @property
    def _tokens(self) -> int:
        model = self.verbs.model
        return 1 + min(len(self.history), model.window) * model.tokens_per_event + len(self.rows)

    def advance(self, memories: Memories) -> None:
        """Ask some histories more."""
        done = len(self.found)
        chosen = [None, *self.places][done : done + self.next]
        histories = [self.history if place is None else self.history.without(place) for place in chosen]
        kept = KeptUnder(memories, [self.name] * len(histories), keep=False)
        at = None if self.at is None else [self.at] * len(histories)
        rows = self.rows if self.by is not None else np.array([-1])
        said = self.by is not None or self.context is not None
        asked = [Asked(rows, self.context or {})] * len(histories) if said else None
        asking = Asking(histories, at, asked, self.stride, kept)
        self.found += [*self._scores(asking).astype(np.float64)]

    def _scores(self, asking: Asking) -> Any:
        """[B, M]."""
        if self.by is None:
            return self.verbs.lists.scores_of(asking, self.rows)
        raw = candidates.scores(self.verbs.model, asking)
        return self.verbs.values(raw, self.by).reshape(len(asking), len(self.rows))

    def changes(self) -> Floats:
        """[M, n]."""
        assert not self.left
        return np.stack([self.found[0] - without for without in self.found[1:]], axis=1)

    def because(self, events: Sequence[StoredEvent]) -> dict[ItemId, list[Because]]:
        """Item -> what each event does to it, largest change first. `events`: of the whole history, oldest first."""
        there = [events[place] for place in self.history.places[self.places].tolist()]
        titles = self.verbs.items.titles(self.history.rows[self.places])
        found = []
        for line in self.changes().tolist():
            why = [Because(event.id, event.item, *one) for event, *one in zip(there, titles, line, strict=True)]
            found.append(sorted(why, key=lambda one: -abs(one.change)))  # equal ones: newest first
        return dict(zip(self.verbs.items.ids(self.rows), found, strict=True))
