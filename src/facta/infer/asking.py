"""What is asked of histories: any of them at a time become a batch, with a memory of these people where one is kept.

Letters: B histories, M candidates of one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from facta.arrays import Ints
from facta.data.batches.encoded import EncodedHistory
from facta.data.batches.request import Asked, request
from facta.infer.memories import Memories, Remembering, remembered, remembers
from facta.models.model import Model
from facta.types import SequenceBatch


@dataclass(frozen=True)
class KeptUnder:
    """Where memories of people are kept, and under which names [B] those of the histories."""

    memories: Memories
    names: Sequence[Hashable]
    keep: bool = True  # whether they grow


@dataclass(frozen=True)
class Asking:
    """B histories, when they are asked, and what for."""

    histories: Sequence[EncodedHistory]
    at: Sequence[int] | None = None  # [B] as in `request`
    asked: Sequence[Asked] | None = None  # [B] as in `request`
    stride: int = 1
    kept: KeptUnder | None = None

    def __len__(self) -> int:
        return len(self.histories)

    def batch(self, places: Ints | Sequence[int], window: int) -> SequenceBatch:
        """Some of them, each with its window."""
        at = None if self.at is None else [self.at[place] for place in places]
        asked = None if self.asked is None else [self.asked[place] for place in places]
        return request([self.histories[place] for place in places], at, window, asked, stride=self.stride)

    @contextmanager
    def opened(self, model: Model, places: Ints | Sequence[int]) -> Iterator[tuple[Model | Remembering, SequenceBatch]]:
        """The batch of some histories and who is asked about it: the model, or the model with its memory of them."""
        batch = self.batch(places, model.window_of_requests)
        if self.kept is None or not remembers(model):
            yield model, batch
            return
        kept, names = self.kept, [self.kept.names[place] for place in places]
        with remembered(model, kept.memories, names, batch, keep=kept.keep) as asked:
            yield asked, batch
