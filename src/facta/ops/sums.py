"""Sums of many numbers in an order of their own.

torch shares a sum of more than 32,768 numbers among its threads, and its last digits then tell how many there are.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

CHUNK = 1024  # far below what torch shares: one thread adds these up


def summed(x: Tensor) -> Tensor:
    """The sum of x [n] in its own type, the same bits whatever the threads; differentiable."""
    while x.numel() > CHUNK:
        x = F.pad(x, (0, -x.numel() % CHUNK)).view(-1, CHUNK).sum(dim=1)
    return x.sum()
