"""Sums that do not depend on the number of threads.

torch shares a sum of more than 32,768 numbers among its threads, so its last digits depend on their number.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

CHUNK_NUMBERS = 1024  # numbers; torch adds up so few in one thread


def summed(x: Tensor) -> Tensor:
    """The sum of x [n] in its own type, with the same bits for any number of threads; differentiable."""
    while x.numel() > CHUNK_NUMBERS:
        x = F.pad(x, (0, -x.numel() % CHUNK_NUMBERS)).view(-1, CHUNK_NUMBERS).sum(dim=1)
    return x.sum()
