"""A column that grows at its end."""

from __future__ import annotations

import numpy as np

from facta.arrays import Ints


class Growing:
    """[n] whole numbers; room doubles, so that a new value costs O(1) on average.

    The first values are not copied: the column owns them from then on.
    """

    __slots__ = ("_count", "_room")

    def __init__(self, values: Ints) -> None:
        self._room, self._count = values, len(values)

    @property
    def values(self) -> Ints:
        """[n] a view: later values are not in it."""
        return self._room[: self._count]

    @property
    def nbytes(self) -> int:
        """Memory, spare capacity included."""
        return self._room.nbytes

    def copy(self) -> Growing:
        """Values of their own."""
        return Growing(self.values.copy())

    def extend(self, new: Ints) -> None:
        """Add values [m] at the end."""
        count = self._count + len(new)
        if not self._count:
            self._room, self._count = new, count
            return
        if count > len(self._room):
            room = np.empty(max(count, 2 * len(self._room)), dtype=np.int64)
            room[: self._count] = self.values
            self._room = room
        self._room[self._count : count] = new
        self._count = count

    def cut(self, count: int) -> None:
        """Keep the first values. Views that were given out before stay as they were."""
        self._room, self._count = self._room[:count].copy(), count
