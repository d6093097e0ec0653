"""Cached keys and values of the tokens before those of a call.

Letters: B rows, T tokens of this call, n cached tokens of a row, H heads, dqk, dv head widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from facta import jagged
from facta.errors import ConfigError
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


def check(tokens: TokenBatch, past: Past, *, timed: bool) -> None:
    """Raises ConfigError if rows and their past do not match."""
    rows = len(tokens.offsets) - 1
    if len(past) != rows:
        raise ConfigError(f"Found the past of {len(past)} rows for a batch of {rows}; expected one (or None) each.")
    if timed and any(one is not None and one.time is None for one in past):
        raise ConfigError(
            "This model's attention uses time, but cached keys and values have no times: cache them with their times."
        )


def flat(k: Tensor, v: Tensor, past: Past) -> list[Tensor]:
    """Four tensors a row, as the kernels take them; nothing is copied."""
    none = torch.empty(0, dtype=torch.int64)
    empty = PastLayer(k.new_empty(0, *k.shape[1:]), v.new_empty(0, *v.shape[1:]), none, none)
    rows = [one or empty for one in past]
    return [x for one in rows for x in (one.k, one.v, one.position, none if one.time is None else one.time)]


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
