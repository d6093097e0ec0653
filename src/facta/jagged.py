"""Jagged tensors: values [T, …] beside offsets [B+1]; row b holds values[offsets[b] : offsets[b+1]].

Letters: B rows, T values in all, N the longest row.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lengths(offsets: Tensor) -> Tensor:
    """[B+1] -> [B]."""
    return offsets[1:] - offsets[:-1]


def offsets_of(row_lengths: Tensor) -> Tensor:
    """[B] lengths -> [B+1] offsets, int64."""
    offsets = row_lengths.new_zeros(row_lengths.numel() + 1, dtype=torch.int64)
    torch.cumsum(row_lengths, 0, out=offsets[1:])
    return offsets


def rows(offsets: Tensor) -> Tensor:
    """[B+1] -> [T]: the row that each value belongs to."""
    count = lengths(offsets)
    return torch.repeat_interleave(torch.arange(count.numel(), device=offsets.device), count)


def places(offsets: Tensor) -> Tensor:
    """[B+1] -> [T]: the place of each value within its row, from 0."""
    total = int(offsets[-1])
    return torch.arange(total, device=offsets.device) - offsets[rows(offsets)]


def spans(starts: Tensor, row_lengths: Tensor) -> Tensor:
    """Flat indexes of the ranges [start, start + length), one after the other: [B], [B] -> [sum of lengths]."""
    offsets = offsets_of(row_lengths)
    return places(offsets) + torch.repeat_interleave(starts, row_lengths)


def to_padded(values: Tensor, offsets: Tensor, longest: int | None = None) -> Tensor:
    """[T, …] -> [B, N, …], zeros after the end of each row. For the reference implementation and for tests."""
    width = int(lengths(offsets).max()) if longest is None else longest
    padded = values.new_zeros((offsets.numel() - 1, width, *values.shape[1:]))
    padded[rows(offsets), places(offsets)] = values
    return padded


def from_padded(padded: Tensor, offsets: Tensor) -> Tensor:
    """[B, N, …] -> [T, …]: the inverse of `to_padded`."""
    return padded[rows(offsets), places(offsets)]
