"""Sets of items, one for each of Q requests, as jagged numpy arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class ItemSets(NamedTuple):
    """A set of items for each request."""

    offsets: Ints  # [Q+1]
    items: Ints  # catalogue rows


def spans(starts: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """[Q] ranges -> the places in them, one range after the other, and their offsets [Q+1]."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths), offsets


def take(sets: ItemSets, rows: Ints) -> tuple[ItemSets, Ints]:
    """The sets of some requests, and where their items stand among all."""
    places, offsets = spans(sets.offsets[rows], np.diff(sets.offsets)[rows])
    return ItemSets(offsets, sets.items[places]), places


def keep(sets: ItemSets, chosen: NDArray[np.bool_]) -> ItemSets:
    """Only the chosen ones of all items."""
    before = np.concatenate([[0], np.cumsum(chosen)])
    return ItemSets(before[sets.offsets], sets.items[chosen])


def owners(sets: ItemSets) -> Ints:
    """The request of each item."""
    return np.repeat(np.arange(len(sets.offsets) - 1), np.diff(sets.offsets))
