"""Cloze: some events of a row are masked, and each is predicted from both sides (BERT4Rec, Sun et al. 2019).

Letters: B rows, E events.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from facta import draws, jagged
from facta.config import Config
from facta.draws import Purpose

_DRAWS = 1 << 30


class ClozeConfig(Config):
    """The authors' code makes eleven copies of a row: ten with random events masked, and one with only the newest event
    masked, as in a request.
    """

    share: float = Field(default=0.2, gt=0, lt=1, description="of a row's events that are masked; at least one")
    last: float = Field(default=1 / 11, ge=0, le=1, description="share of rows with only the newest event masked")


def hidden_events(offsets: Tensor, events: Tensor, rows: Tensor, config: ClozeConfig) -> Tensor:
    """Offsets of rows [B+1], keys of events [E] and of rows [B] -> [E] which events are masked.

    Each event by its own draw. The event with a row's smallest draw is always masked and the one with its largest draw
    never, so that each row has a target and an input. (In a row of one event that event is masked.)
    """
    row, place = jagged.rows(offsets), jagged.places(offsets)
    drawn = draws.below(draws.mix(events, Purpose.CLOZE), _DRAWS)
    hidden = (drawn < config.share * _DRAWS) & (drawn != _of_rows(drawn, row, len(rows), "amax")[row])
    hidden |= drawn == _of_rows(drawn, row, len(rows), "amin")[row]
    alone = draws.below(draws.mix(rows, Purpose.CLOZE), _DRAWS) < config.last * _DRAWS
    return torch.where(alone[row], place == jagged.lengths(offsets)[row] - 1, hidden)


def _of_rows(values: Tensor, row: Tensor, count: int, reduce: str) -> Tensor:
    """[E] values -> [B] the smallest or largest of each row."""
    return values.new_zeros(count).scatter_reduce(0, row, values, reduce, include_self=False)
