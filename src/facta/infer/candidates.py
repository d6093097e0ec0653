"""Candidates are scored in microbatches over one encoding of a history (M-FALCON: Zhai et al. 2024, section 3.4 and
algorithm 1): none sees another, so how they are divided changes no score.

The first microbatch of a request goes with the history, as far as no memory holds it. Where more follow, these stand
over a memory of this request alone, the newest event included: all candidates of a request meet it at one moment.
Candidates that are no tokens are met in the read-out, and the newest event is computed for each microbatch of them.

Letters: B histories, M candidates of one, S of all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from facta.arrays import Floats32
from facta.data.batches.encoded import EncodedHistory
from facta.data.batches.request import Asked, request
from facta.data.batches.windows import window_start
from facta.encoders.memory import Memory, RowMemory
from facta.infer.asking import Asking
from facta.infer.memories import Memories, Remembering, remembered, remembers
from facta.models.model import Model
from facta.types import SequenceBatch

MICROBATCH = 1024  # candidates of a history that are scored together; both bound memory and change no answer
EVENTS = 16_384  # inputs and candidates of a batch


@dataclass(eq=False)
class Candidates:
    """The candidates of one history, and how far their scores are. The history must not change until they are done."""

    history: EncodedHistory
    at: int | None
    asked: Asked
    name: Hashable = None  # under which memories know the person
    done: int = 0  # candidates with scores
    memory: RowMemory | None = None  # of this request alone
    found: dict[str, list[Floats32]] = field(default_factory=dict)  # field -> scores, microbatch after microbatch

    @property
    def left(self) -> int:
        """Candidates without scores."""
        return len(self.asked.rows) - self.done

    def next(self, count: int) -> Asked:
        return Asked(self.asked.rows[self.done : self.done + count], self.asked.context)

    def cost(self, model: Model, stride: int, microbatch: int) -> int:
        """Events and candidates of the next microbatch, as if nothing were kept of the person between requests."""
        events = 0
        if self.memory is None:
            events = len(self.history) - window_start(len(self.history), model.window_of_requests, stride)
            events += sum(map(len, self.history.lists.values()))
        return events + min(self.left, microbatch)


@dataclass(frozen=True)
class Microbatch:
    """The next `count` candidates of some history."""

    of: Candidates
    count: int


def scores(model: Model, asking: Asking, microbatch: int | None = None) -> dict[str, Floats32]:
    """Field -> [S] scores of all candidates, history by history.

    A candidate is one of the N events that the model sees: where histories are longer, the last place is its own, as
    that of the newest event is in training.
    """
    kept, at = asking.kept, asking.at
    assert asking.asked is not None
    every = [
        Candidates(history, None if at is None else at[place], asked, None if kept is None else kept.names[place])
        for place, (history, asked) in enumerate(zip(asking.histories, asking.asked, strict=True))
    ]
    for step in _steps(model, every, asking.stride, microbatch or MICROBATCH):
        advance(model, step, asking.stride, None if kept is None else kept.memories, keep=kept is None or kept.keep)
    names = {name for one in every for name in one.found}
    return {name: np.concatenate([part for one in every for part in one.found.get(name, [])]) for name in names}


def _steps(model: Model, every: Sequence[Candidates], stride: int, microbatch: int) -> Iterator[list[Microbatch]]:
    """What is scored together: of many histories one microbatch each, as many as fit."""
    waiting = [one for one in every if one.left]
    while waiting:
        step: list[Microbatch] = []
        room = EVENTS
        for one in waiting:
            cost = one.cost(model, stride, microbatch)
            if step and cost > room:
                break
            step.append(Microbatch(one, min(one.left, microbatch)))
            room -= cost
        yield step
        waiting = [one for one in waiting if one.left]


def advance(
    model: Model, step: Sequence[Microbatch], stride: int, memories: Memories | None = None, *, keep: bool = True
) -> None:
    """Score a microbatch of each of some histories in one call. `memories` of people are used and, with `keep`, brought
    up to date.

    Histories at their first microbatch and others may stand side by side.
    """
    first = [part for part in step if part.of.memory is None]
    later = [part for part in step if part.of.memory is not None]
    for parts in (first, later):
        if not parts:
            continue
        every = [part.of for part in parts]
        at = [one.at for one in every if one.at is not None]
        batch = request(
            [one.history for one in every], at or None, model.window_of_requests,
            [part.of.next(part.count) for part in parts], stride=stride,
        )  # fmt: skip
        with torch.inference_mode(), _asked(model, parts, batch, memories, keep=keep) as ranker:
            found = {name: column.float().numpy() for name, column in ranker.scores(batch).items()}
        _take(parts, found)


@contextmanager
def _asked(
    model: Model, parts: Sequence[Microbatch], batch: SequenceBatch, memories: Memories | None, *, keep: bool
) -> Iterator[Model | Remembering]:
    """The model with the memories of these requests; a request that goes on afterwards has one of its own."""
    every = [part.of for part in parts]
    if not remembers(model):
        yield model
        return
    if every[0].memory is not None or memories is None:
        going_on = [model.candidates_are_tokens and part.count < part.of.left for part in parts]
        ranker = Remembering(model, Memory([one.memory for one in every], whole=going_on))
        yield ranker
    else:
        with remembered(model, memories, [one.name for one in every], batch, keep=keep) as ranker:
            yield ranker
    for part, row in zip(parts, ranker.memory.rows, strict=True):
        if part.count < part.of.left:
            shared = memories is not None and part.of.memory is None
            part.of.memory = row.copy() if shared and row is not None else row


def _take(parts: Sequence[Microbatch], found: dict[str, Floats32]) -> None:
    """The scores of a call, given to those whom they are of."""
    start = 0
    for part in parts:
        for name, column in found.items():
            part.of.found.setdefault(name, []).append(column[start : start + part.count].copy())
        part.of.done += part.count
        start += part.count
