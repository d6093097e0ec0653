"""Cached keys and values of the tokens before those of a call.

Letters: B rows, T tokens of this call, n cached tokens of a row, H heads, dqk, dv head widths.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from facta import jagged
from facta.errors import ConfigError
from facta.ops import backend
from facta.types import TokenBatch


@dataclass(frozen=True)
class PastLayer:
    """One row's cache at one attention layer: the leading tokens of the row, which are not in the call."""

    k: Tensor  # [n, H, dqk]
    v: Tensor  # [n, H, dv]
    position: Tensor  # [n]
    time: Tensor | None  # [n] int64 ms


Past = Sequence[PastLayer | None]
"""The cache of each row of a batch; None: the row has none."""


class AddressedPast(Sequence[PastLayer | None]):
    """The past of a batch whose addresses are known. A kernel then needs none of its tensors: handing over four tensors
    a row takes longer than the attention of a short request."""

    addresses: Tensor  # [B, 5] int64: where keys, values, positions and times begin (0: there are none), and n

    @property
    @abstractmethod
    def timed(self) -> bool:
        """Whether all of it has times."""

    @abstractmethod
    def fits(self, k: Tensor, v: Tensor) -> bool:
        """Whether all keys and values have the heads, widths and type of those of the call, [T, H, d]."""

    def __iter__(self) -> Iterator[PastLayer | None]:
        return (self[row] for row in range(len(self)))


def check(tokens: TokenBatch, past: Past, *, timed: bool) -> None:
    """Raises ConfigError if rows and their past do not match."""
    rows = len(tokens.offsets) - 1
    if len(past) != rows:
        raise ConfigError(f"Found the past of {len(past)} rows for a batch of {rows}; expected one (or None) each.")
    if timed and not _all_timed(past):
        raise ConfigError(
            "This model's attention uses time, but cached keys and values have no times: cache them with their times."
        )


def _all_timed(past: Past) -> bool:
    if isinstance(past, AddressedPast):
        return past.timed
    return all(one is None or one.time is not None for one in past)


def flat(k: Tensor, v: Tensor, past: Past) -> list[Tensor]:
    """Four tensors a row, as an operator of torch takes them; nothing is copied."""
    none = torch.empty(0, dtype=torch.int64)
    empty = PastLayer(k.new_empty(0, *k.shape[1:]), v.new_empty(0, *v.shape[1:]), none, none)
    rows = [one or empty for one in past]
    return [x for one in rows for x in (one.k, one.v, one.position, none if one.time is None else one.time)]


def handed(k: Tensor, v: Tensor, past: Past) -> AddressedPast | list[Tensor]:
    """What an attention is called with: flat tensors where torch's dispatch has to see them."""
    if isinstance(past, AddressedPast) and backend.direct(k):
        return past
    return flat(k, v, past)


def addresses(k: Tensor, v: Tensor, past: AddressedPast | Sequence[Tensor]) -> Tensor:
    """What kernels read of a past, or of its flat tensors: [B, 5] int64 as in `AddressedPast`; [0, 5] of none.

    The tensors have to live until the kernel has ended. Raises ValueError where they do not fit the call's k and v.
    """
    if isinstance(past, AddressedPast):
        if not past.fits(k, v):
            raise ValueError("shape mismatch: past keys and values must have the heads, widths and type of the call")
        return past.addresses
    rows = [tuple(past[start : start + 4]) for start in range(0, len(past), 4)]
    for row in rows:
        _check_row(k, v, *row)
    found = [[x.data_ptr() for x in row[:3]] + [row[3].data_ptr() if len(row[3]) else 0, len(row[0])] for row in rows]
    return torch.tensor(found, dtype=torch.int64).view(-1, 5)


def _check_row(k: Tensor, v: Tensor, *row: Tensor) -> None:
    """Raises ValueError."""
    count = len(row[0])
    for kept, of_call in zip(row[:2], (k, v), strict=True):
        if kept.dtype != of_call.dtype:
            raise ValueError("type mismatch: the past must have the type of the call")
        if len(kept) != count or kept.shape[1:] != of_call.shape[1:] or not kept.is_contiguous():
            raise ValueError("shape mismatch: past keys and values must be [n, H, d], contiguous")
    for numbers in row[2:]:
        timeless = numbers is row[3] and not len(numbers)
        if numbers.dtype != torch.int64 or not numbers.is_contiguous() or (len(numbers) != count and not timeless):
            raise ValueError("shape mismatch: past positions and times must be [n] int64")


def whole(
    q: Tensor, k: Tensor, v: Tensor, tokens: TokenBatch, past: Past
) -> tuple[Tensor, Tensor, Tensor, TokenBatch, Tensor]:
    """The definition: q, k, v and tokens of the whole rows, the past first; and [T] the places of this call's tokens.

    Queries of the past are zeros, and their outputs are not used.
    """
    lengths = jagged.lengths(tokens.offsets)
    kept = torch.tensor([0 if one is None else len(one.k) for one in past], device=lengths.device)
    offsets = jagged.offsets_of(kept + lengths)
    own = jagged.places(tokens.offsets) + (offsets[:-1] + kept)[jagged.rows(tokens.offsets)]
    old = torch.ones(int(offsets[-1]), dtype=torch.bool, device=own.device)
    old[own] = False

    def joined(of_call: Tensor, of_past: list[Tensor]) -> Tensor:
        out = of_call.new_zeros((len(old), *of_call.shape[1:]))
        out[own] = of_call
        out[old] = torch.cat(of_past) if of_past else out[:0]
        return out

    rows = [one for one in past if one is not None]
    timed = tokens.time is not None and all(one.time is not None for one in rows)
    time = joined(tokens.time, [one.time for one in rows]) if timed else None  # type: ignore[arg-type, misc]
    query_time = None if time is None or tokens.query_time is None else time.index_copy(0, own, tokens.query_time)
    place = jagged.places(offsets)
    return (
        q.new_zeros((len(old), *q.shape[1:])).index_copy(0, own, q),
        joined(k, [one.k for one in rows]),
        joined(v, [one.v for one in rows]),
        replace(
            tokens,
            offsets=offsets,
            kind=torch.zeros_like(place),
            source=torch.zeros_like(place),
            time=time,
            query_time=query_time,
            position=joined(tokens.position, [one.position for one in rows]),
            sees=place.index_copy(0, own, tokens.sees),
            key=place.index_copy(0, own, tokens.key),
        ),
        own,
    )
