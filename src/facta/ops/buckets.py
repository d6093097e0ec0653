"""Time differences to bias buckets by integer boundaries.

The HSTU research code computes `clamp(floor(ln(max(1, |Δ|)) / 0.301), 0, 128)` with Δ in seconds as a float, so that
backends may put a difference on a boundary into different buckets. Here the boundaries are whole milliseconds, and
every backend compares integers.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

BUCKET_WIDTH = 0.301  # log10(2) of a natural logarithm (HSTU research code): buckets are a factor 1.351 wide
LAST_BUCKET = 128


@cache
def boundaries() -> Tensor:
    """[128] int64 milliseconds, ascending: boundary k is the smallest difference that belongs to bucket k + 1 or
    later.
    """
    smallest = [math.ceil(1000 * math.exp(BUCKET_WIDTH * k)) for k in range(1, LAST_BUCKET + 1)]
    return torch.tensor([min(value, 2**62) for value in smallest], dtype=torch.int64)


def bucket(difference: Tensor) -> Tensor:
    """int64 milliseconds of any sign and shape -> int32 bucket 0..128 of the same shape."""
    return torch.bucketize(difference.abs(), boundaries().to(difference.device), out_int32=True, right=True)
