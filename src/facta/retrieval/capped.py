"""Lists in which no value of a column stands too often: the best k items under caps.

The whole catalogue is walked in the order of its scores, and an item is taken unless one of its values has been taken
as often as it may be. `retrieval.reference` does just that. Here only the best k are looked at in each round: a value
that is full stays full, so its items are hidden, and the next round asks for the best k of what is left.

Letters: V catalogue items, n pairs of an item and one of its values, G values, k items of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from facta import arrays
from facta.arrays import Floats32, Ints

Best = Callable[[Ints], tuple[Ints, Floats32]]
"""Hidden rows -> the best k of the others [k'], best first, and their scores; k' < k where no more are left."""


class Groups(NamedTuple):
    """Which values the items of a catalogue have, and which items have a value."""

    offsets: Ints  # [V+1]
    values: Ints  # [n] of each item, 0 … G-1
    member_offsets: Ints  # [G+1]
    members: Ints  # [n] items of each value

    @classmethod
    def of(cls, item: Ints, value: Ints, count: int, values: int) -> Groups:
        """From n pairs [n], [n] in any order; a pair that comes twice counts once."""
        pairs = np.unique(item * max(values, 1) + value)
        item, value = np.divmod(pairs, max(values, 1))
        of_items = arrays.offsets_of(np.bincount(item, minlength=count))
        of_values = arrays.offsets_of(np.bincount(value, minlength=values))
        return cls(of_items, value, of_values, item[np.argsort(value, kind="stable")])

    def of_item(self, row: int) -> Ints:
        """Its values."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def having(self, value: int) -> Ints:
        """The rows that have a value."""
        return self.members[self.member_offsets[value] : self.member_offsets[value + 1]]


class Cap(NamedTuple):
    """How many items of a list may have the same value. Items without a value are not counted."""

    groups: Groups
    most: int


class Limits(NamedTuple):
    """What a list may hold: no row of `hidden`, and of each value no more than the caps say."""

    hidden: Ints  # catalogue rows; one may stand there twice
    caps: tuple[Cap, ...] = ()


class Counted:
    """How often the values of the items that were taken have been taken."""

    def __init__(self, caps: Sequence[Cap]) -> None:
        self._caps = [(cap, np.zeros(len(cap.groups.member_offsets) - 1, dtype=np.int64)) for cap in caps]

    def take(self, row: int) -> bool:
        """Count an item; False where one of its values is full."""
        own = [(count, cap.most, cap.groups.of_item(row)) for cap, count in self._caps]
        if any((count[values] >= most).any() for count, most, values in own):
            return False
        for count, _, values in own:
            count[values] += 1
        return True

    def full(self) -> list[Ints]:
        """The rows that cannot be taken any more."""
        return [
            cap.groups.having(value)
            for cap, count in self._caps
            for value in np.flatnonzero(count >= cap.most).tolist()
        ]


def best_under_caps(best: Best, limits: Limits, k: int) -> tuple[Ints, Floats32]:
    """The best k rows [k'] under the caps, best first, and their scores."""
    counted, rows, scores = Counted(limits.caps), list[int](), list[np.float32]()
    left = np.ones(len(limits.caps[0].groups.offsets) - 1, dtype=np.bool_)  # [V]
    left[limits.hidden] = False
    while len(rows) < k:
        for full in counted.full():
            left[full] = False
        found, values = best(np.flatnonzero(~left))
        for row, score in zip(found.tolist(), values, strict=True):
            if len(rows) < k and counted.take(row):
                rows.append(row)
                scores.append(score)
        if len(found) < k:  # nothing is left behind them
            break
        left[found] = False
    return np.array(rows, dtype=np.int64), np.array(scores, dtype=np.float32)
