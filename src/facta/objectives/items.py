"""Item vectors for a loss, computed on demand: of the whole catalogue, or of given rows.

A loss over few rows leaves a row-sparse gradient in the table, also if the vectors are transformed in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Items:
    """`vectors(rows)`: [U] rows -> [U, P]; `vectors(None)`: all of them, [V, P], in row order.

    `plain`: all vectors exist already (`layers/tables.py`), and losses index into them, as the fused kernels do;
    otherwise losses ask for the rows that they need.
    """

    count: int  # V
    vectors: Callable[[Tensor | None], Tensor]
    plain: bool = True

    @classmethod
    def of(cls, vectors: Tensor) -> Items:
        """From existing vectors [V, P]."""
        return cls(len(vectors), lambda rows: vectors if rows is None else vectors.index_select(0, rows))

    def through(self, change: Callable[[Tensor], Tensor]) -> Items:
        """Items with a function applied to every vector."""
        return Items(self.count, lambda rows: change(self.vectors(rows)), self.plain)
