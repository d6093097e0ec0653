"""Cloze: some events of a row are hidden, and each is predicted from those on both sides (BERT4Rec, Sun et al. 2019).

Letters: B rows, E events.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from facta import draws, jagged
from facta.config import Config
from facta.draws import Purpose

_BITS = 1 << 30


class ClozeConfig(Config):
    """The authors' code makes eleven copies of a row: ten with a share of random events hidden, and one whose newest
    event alone is hidden, which is what a request asks for."""

    share: float = Field(default=0.2, gt=0, lt=1, description="of a row's events that are hidden; one at the least")
    last: float = Field(default=1 / 11, ge=0, le=1, description="share of rows that hide their newest event alone")


def hidden_events(offsets: Tensor, events: Tensor, rows: Tensor, config: ClozeConfig) -> Tensor:
    """Rows [B+1] and the keys of events [E] and of rows [B] -> [E] which events are hidden.

    Each event by a draw of its own; besides, the smallest draw of a row is hidden and its largest one is not, so that
    something is predicted and something is seen. (A row of one event hides it.)
    """
    row, place = jagged.rows(offsets), jagged.places(offsets)
    drawn = draws.below(draws.mix(events, Purpose.CLOZE), _BITS)
    hidden = (drawn < config.share * _BITS) & (drawn != _of_rows(drawn, row, len(rows), "amax")[row])
    hidden |= drawn == _of_rows(drawn, row, len(rows), "amin")[row]
    alone = draws.below(draws.mix(rows, Purpose.CLOZE), _BITS) < config.last * _BITS
    return torch.where(alone[row], place == jagged.lengths(offsets)[row] - 1, hidden)


def _of_rows(values: Tensor, row: Tensor, count: int, reduce: str) -> Tensor:
    """[E] values -> [B] the smallest or largest one of each row."""
    return values.new_zeros(count).scatter_reduce(0, row, values, reduce, include_self=False)
