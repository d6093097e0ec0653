"""Sets of items, one for each of Q requests, as jagged numpy arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from facta import arrays
from facta.arrays import Bools, Ints


class ItemSets(NamedTuple):
    """A set of items for each request."""

    offsets: Ints  # [Q+1]
    items: Ints  # catalogue rows


def take(sets: ItemSets, rows: Ints) -> tuple[ItemSets, Ints]:
    """The sets of some requests, and the places of their items among all."""
    lengths = np.diff(sets.offsets)[rows]
    places = arrays.spans(sets.offsets[rows], lengths)
    return ItemSets(arrays.offsets_of(lengths), sets.items[places]), places


def keep(sets: ItemSets, chosen: Bools) -> ItemSets:
    """The sets with the chosen items only."""
    return ItemSets(arrays.offsets_of(chosen)[sets.offsets], sets.items[chosen])


def owners(sets: ItemSets) -> Ints:
    """The request of each item."""
    return arrays.rows(sets.offsets)
