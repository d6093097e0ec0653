"""Layout `item`: one token per event, showing the item (and, on the key side, its time).

item_t reads the last token before t; a token looks back from the time of the next event, which precedes that event's
item in the order of facts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from facta import jagged
from facta.types import Fact, Read, SequenceBatch, TokenBatch


class ItemLayout:
    shows: tuple[tuple[Fact, ...], ...] = (("item",),)
    prefix_stable = True

    def tokens(self, batch: SequenceBatch) -> TokenBatch:
        """Tokens are the input events; every target with a visible event reads the newest of these."""
        place = jagged.places(batch.offsets)
        return TokenBatch(
            offsets=batch.offsets,
            kind=torch.zeros_like(place),
            source=torch.arange(place.numel(), device=place.device),
            time=batch.events.time,
            query_time=batch.next_time,
            position=batch.index,
            sees=place,
            key=batch.events.key,
            reads={"item": self._read(batch)},
        )

    @staticmethod
    def _read(batch: SequenceBatch) -> Read:
        first = batch.offsets[:-1][jagged.rows(batch.targets.offsets)]  # [S]
        target: Tensor = torch.nonzero(batch.targets.after > 0).squeeze(1)
        return Read(state=(first + batch.targets.after - 1)[target], target=target)
