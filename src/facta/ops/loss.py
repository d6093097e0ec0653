"""Losses against sampled negatives as compiled operators: draws, logits, losses and the queries' gradient in one pass,
the items' gradient in another.

Letters: S targets, V items, P width, R negatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facta.ops import backend
from facta.ops.once import first_derivatives
from facta.ops.sums import summed

EPS = 1e-6  # least length that an item vector is divided by, as in F.normalize
SPARSE_ROW_FACTOR = 4  # a table with this many times more rows than draws gets a row-sparse gradient


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Σ weight · loss; its gradient in the queries (empty if not needed); rows and slopes [S, 1 + R]."""
    rows = torch.empty(len(queries), negatives + 1, dtype=torch.int32)
    slopes, losses = queries.new_empty(rows.shape), queries.new_empty(len(queries))
    gradient = torch.empty_like(queries) if d_queries else None
    native: Any = backend.module()
    native.sampled_loss(
        kernels, torch.get_num_threads(), queries, table, positive, keys, weight, cosine, EPS, binary, beta, rows,
        slopes, losses, gradient,
    )  # fmt: skip
    return summed(losses * weight), queries.new_empty(0) if gradient is None else gradient, rows, slopes


@_loss.register_fake
def _(kernels: str, queries: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape, wanted = (len(queries), rest[4] + 1), rest[-1]
    gradient = torch.empty_like(queries) if wanted else queries.new_empty(0)
    return queries.new_empty(()), gradient, queries.new_empty(shape, dtype=torch.int32), queries.new_empty(shape)


@torch.library.custom_op("facta::sampled_items", mutates_args=(), device_types="cpu")
def _items(kernels: str, queries: Tensor, vectors: Tensor, rows: Tensor, slopes: Tensor, cosine: bool) -> Tensor:
    """The gradient in the item vectors [U, P], which `rows` index."""
    gradient = torch.empty_like(vectors)
    native: Any = backend.module()
    native.sampled_items(kernels, torch.get_num_threads(), queries, vectors, rows, slopes, cosine, EPS, gradient)
    return gradient


@_items.register_fake
def _(kernels: str, queries: Tensor, vectors: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(vectors)


class _SampledLoss(torch.autograd.Function):
    """The loss is a sum, so the forward pass knows its gradients up to one factor; they are stored and scaled later."""

    @staticmethod
    def forward(ctx: Any, few: bool, kernels: str, queries: Tensor, table: Tensor, *rest: Any) -> Tensor:
        queries, table, cosine = queries.contiguous(), table.contiguous(), rest[4]
        total: Tensor
        total, d_queries, rows, slopes = _loss(kernels, queries, table, *rest, ctx.needs_input_grad[2])
        ctx.used, d_items = None, None
        if ctx.needs_input_grad[3]:
            vectors = table
            if few:
                ctx.used, places = torch.unique(rows, return_inverse=True)
                vectors, rows = table[ctx.used], places.int()
            d_items = _items(kernels, queries, vectors, rows, slopes, cosine)
        ctx.save_for_backward(d_queries, d_items)
        ctx.shape = table.shape
        return total

    @staticmethod
    @first_derivatives
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        d_queries, d_items = ctx.saved_tensors
        of_table = None if d_items is None else d_items * grads[0]
        if of_table is not None and ctx.used is not None:
            of_table = torch.sparse_coo_tensor(
                ctx.used[None], of_table, ctx.shape, is_coalesced=True, check_invariants=False
            )
        return (None, None, d_queries * grads[0] if ctx.needs_input_grad[2] else None, of_table, *[None] * 7)


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

    `cosine` divides item vectors by their length; `table` has the raw ones. `binary` is (generalised) BCE with `beta`
    on the positive's term; otherwise softmax over the positive and its negatives. The gradient of a parameter is
    row-sparse if S · (1 + R) rows are few; a computed table needs a dense one, and so does torch.compile, which traces
    no sparse tensors.
    """
    few = (
        table.is_leaf
        and len(queries) * (1 + negatives) * SPARSE_ROW_FACTOR < len(table)
        and not torch.compiler.is_compiling()
    )
    total: Tensor = _SampledLoss.apply(  # type: ignore[no-untyped-call]
        few, kernels, queries, table, positive, keys, weight, negatives, cosine, binary, beta
    )
    return total
