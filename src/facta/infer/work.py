"""Requests of live people on their way to an answer.

Letters: M candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from facta.arrays import Floats32, Ints
from facta.data.batches.encoded import EncodedHistory
from facta.data.batches.request import Asked
from facta.errors import FactaError
from facta.infer.answer import Source
from facta.infer.candidates import Candidates
from facta.infer.explaining import Explaining
from facta.infer.filters import Selection
from facta.store.protocol import Person, StoredEvent, UserId


class Found(NamedTuple):
    """The best items of the catalogue."""

    rows: Ints  # [k'] best first
    scores: Floats32  # [k']
    source: Source


@dataclass(eq=False)
class Work:
    """A request of one person. It first gets the best items of the catalogue (`k`), or candidates, or both: the best
    items of the catalogue become candidates then.

    `deadline`: on the clock of `time.monotonic`; None: never too late.
    """

    user: UserId
    at: int | None = None  # ms; None: now
    k: int | None = None  # items to be found in the catalogue; None: `candidates` are given
    selection: Selection | None = None  # which items may be found
    context: Mapping[str, int] | None = None  # codes that the retriever is told; None: none is said
    said: Mapping[str, int] | None = None  # codes that the ranker is told of what was found
    candidates: Asked | None = None  # rows of the artifact that ranks
    by: Mapping[str, float] | None = None  # weights of scores; None: items are not ranked after they are found
    explain: bool = False  # whether it is asked how events change the scores
    deadline: float | None = None
    given: Person | None = None  # what is known of the user; None: what the store knows
    # what becomes of it
    moment: int | None = None  # ms of the request, once it has been begun
    histories: Sequence[EncodedHistory] = ()  # in each coding of the engine's people
    kept: bool = False  # whether it began from keys and values that were kept
    found: Found | None = None
    ranking: Candidates | None = None
    events: Sequence[StoredEvent] = ()  # of the whole history, where it is explained
    explaining: Explaining | None = None
    error: FactaError | None = None
    done: bool = False
    cancelled: bool = False  # nobody waits for the answer any more

    def fail(self, error: FactaError) -> None:
        """End without an answer."""
        self.error, self.done = error, True

    def scores(self, field: str) -> Floats32:
        """[M] of the candidates."""
        assert self.ranking is not None
        return np.concatenate([np.zeros(0, dtype=np.float32), *self.ranking.found.get(field, [])])
