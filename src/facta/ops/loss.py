"""Losses against sampled negatives as one compiled operator: draws, logits, losses and both gradients in one pass.

Letters: S targets, V items, P width, R negatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facta.ops import backend

EPS = 1e-6  # the shortest length that an item vector is divided by, as in F.normalize


@torch.library.custom_op("facta::sampled_loss", mutates_args=(), device_types="cpu")
def _loss(
    kernels: str,
    queries: Tensor,
    table: Tensor,
    positive: Tensor,
    keys: Tensor,
    weight: Tensor,
    negatives: int,
    cosine: bool,
    binary: bool,
    beta: float,
    d_queries: bool,
    d_table: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.empty(len(queries), negatives + 1, dtype=torch.int32)
    slopes, losses = queries.new_empty(rows.shape), queries.new_empty(len(queries))
    of_queries = torch.empty_like(queries) if d_queries else None
    of_table = torch.empty_like(table) if d_table else None
    native: Any = backend.module()
    native.sampled_loss(
        kernels, torch.get_num_threads(), queries, table, positive, keys, weight, cosine, EPS, binary, beta, rows,
        slopes, losses, of_queries, of_table,
    )  # fmt: skip
    return (losses * weight).sum(), *_given(queries, of_queries, of_table)


@_loss.register_fake
def _(kernels: str, queries: Tensor, table: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    wanted = [torch.empty_like(x) if want else None for x, want in zip((queries, table), rest[-2:], strict=True)]
    return queries.new_empty(()), *_given(queries, *wanted)


def _given(like: Tensor, d_queries: Tensor | None, d_table: Tensor | None) -> tuple[Tensor, Tensor]:
    """An operator returns tensors only, no two of them the same: an empty one for each gradient not asked for."""
    return like.new_empty(0) if d_queries is None else d_queries, like.new_empty(0) if d_table is None else d_table


class _SampledLoss(torch.autograd.Function):
    """The loss is a sum, so its gradients are known up to one factor when it is: they are kept and scaled."""

    @staticmethod
    def forward(ctx: Any, kernels: str, queries: Tensor, table: Tensor, *rest: Any) -> Tensor:
        wanted = ctx.needs_input_grad[1], ctx.needs_input_grad[2]
        found: tuple[Tensor, ...] = _loss(kernels, queries.contiguous(), table.contiguous(), *rest, *wanted)
        ctx.save_for_backward(*found[1:])
        return found[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        d_queries, d_table = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1], ctx.needs_input_grad[2]
        scaled = [
            gradient * grads[0] if want else None for gradient, want in zip((d_queries, d_table), wanted, strict=True)
        ]
        return (None, *scaled, None, None, None, None, None, None, None)


def sampled_loss(
    kernels: str,
    queries: Tensor,
    table: Tensor,
    positive: Tensor,
    keys: Tensor,
    weight: Tensor,
    *,
    negatives: int,
    cosine: bool,
    binary: bool = False,
    beta: float = 1.0,
) -> Tensor:
    """Σ weight · loss of S targets, each against its own R draws; differentiable in queries [S, P] and table [V, P].

    `cosine` divides item vectors by their length, inside: the table is the raw one. `binary` is (generalised) BCE with
    `beta` on the positive's term; otherwise the softmax among the positive and its negatives.
    """
    total: Tensor = _SampledLoss.apply(  # type: ignore[no-untyped-call]
        kernels, queries, table, positive, keys, weight, negatives, cosine, binary, beta
    )
    return total
