"""Stochastic Length: long histories are shortened at random while training (Zhai et al. 2024, section 3.2, eq. 4).

Letters: B rows, E events, n events of a row, N the longest history, L = ⌊N^(α/2)⌋.

    n <= L    all events
    n >  L    all events with probability N^α / n², L of them otherwise

so that the mean cost of attention is at most N^α a row. Draws are functions of the rows' keys: of (seed, epoch, user).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from facta import draws, jagged
from facta.config import Config
from facta.draws import Purpose


class StochasticLengthConfig(Config):
    """How many events are kept, and which."""

    alpha: float = Field(default=1.6, gt=1, le=2, description="2 keeps everything")
    subsequence: Literal["recent", "uniform", "weighted"] = Field(
        default="weighted", description="the newest L; any L; or L drawn with weight 1 - age / sum of ages"
    )


def threshold(alpha: float, longest: int) -> int:
    """L: events of a shortened history."""
    return int(longest ** (alpha / 2) + 1e-9)  # 1024^.6 is 64, and its float lies below


def whole_probability(lengths: Tensor, alpha: float, longest: int) -> Tensor:
    """[B] the probability that a history of that length stays whole."""
    chance = longest**alpha / lengths.double().clamp_min(1).square()
    return torch.where(lengths <= threshold(alpha, longest), torch.ones_like(chance), chance)


def kept_events(
    offsets: Tensor, time: Tensor | None, keys: Tensor, config: StochasticLengthConfig, longest: int
) -> Tensor:
    """Indexes of the kept events among the E events of the rows, ascending.

    `offsets` [B+1]; `time` [E] in any unit, None where there is only an order (ages count events then); `keys` [B]
    int64, one a row. `longest` is N, of the recipe and not of the batch.
    """
    lengths = jagged.lengths(offsets)
    keys = draws.mix(keys, Purpose.STOCHASTIC_LENGTH)
    whole = _uniform(draws.mix(keys, 0)) < whole_probability(lengths, config.alpha, longest)
    row, place = jagged.rows(offsets), jagged.places(offsets)
    age = _ages(offsets, time)
    score = _scores(config, age, draws.mix(draws.mix(keys, 1)[row], place), row, len(lengths))
    order = torch.argsort(score, descending=True, stable=True)
    order = order[torch.argsort(row[order], stable=True)]  # rows one after the other, the best of each first
    stays = whole[row] | (place < threshold(config.alpha, longest))  # by rank: `order` is row by row, as the events are
    return order[stays].sort().values


def _ages(offsets: Tensor, time: Tensor | None) -> Tensor:
    """[E] float64: how much older than its row's newest event."""
    row = jagged.rows(offsets)
    stamp = jagged.places(offsets) if time is None else time
    newest = (offsets[1:] - 1)[row]
    return (stamp[newest] - stamp).double()


def _scores(config: StochasticLengthConfig, age: Tensor, bits: Tensor, row: Tensor, rows: int) -> Tensor:
    """[E] scores; the L highest of a row are kept. Keys u^(1/w) draw without replacement by weight (Efraimidis and
    Spirakis 2006).
    """
    if config.subsequence == "recent":
        return torch.arange(len(age), device=age.device).double()
    exponential = -torch.log(_uniform(bits))
    if config.subsequence == "uniform":
        return -exponential
    total = age.new_zeros(rows).index_add(0, row, age)[row]
    weight = 1 - age / total.clamp_min(1e-300)
    return -exponential / weight.clamp_min(1e-300)


def _uniform(bits: Tensor) -> Tensor:
    """64 random bits -> (0, 1], float64."""
    return (((bits >> 11) & ((1 << 53) - 1)) + 1).double() * 2.0**-53
