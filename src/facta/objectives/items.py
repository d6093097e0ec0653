"""The item vectors that a loss meets, made where they are used: of the whole catalogue, or of rows that it asks for.

A loss that asks for few rows leaves a row-sparse gradient in the table, whatever is done to the vectors on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Items:
    """`vectors(rows)`: [U] rows -> [U, P]; `vectors(None)`: all of them, [V, P], in row order.

    `plain`: all of them are at hand (`layers/tables.py`). Losses that read few items then pick them from all, as the
    fused kernels do; else they ask for those that they meet.
    """

    count: int  # V
    vectors: Callable[[Tensor | None], Tensor]
    plain: bool = True

    @classmethod
    def of(cls, vectors: Tensor) -> Items:
        """[V, P] that are there already."""
        return cls(len(vectors), lambda rows: vectors if rows is None else vectors.index_select(0, rows))

    def through(self, change: Callable[[Tensor], Tensor]) -> Items:
        """The same with every vector changed by a function of that vector alone."""
        return Items(self.count, lambda rows: change(self.vectors(rows)), self.plain)
