"""Logits of a few chosen items per query, without the [S, R, P] tensor of their vectors.

Letters: S queries, R chosen items each, U item vectors, P width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from facta import jagged
from facta.ops.once import first_derivatives


class _GatheredLogits(torch.autograd.Function):
    """Both gradients are weighted sums of rows, which `embedding_bag` computes without materialising them; the logits
    equal the gradient of its weights. Ten times as fast as gathering vectors, with S·R instead of S·R·P memory. The
    item side sorts the indexes so that no two threads add to one row.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(queries, items, index)
        flat = index.flatten()
        starts = torch.arange(0, flat.numel(), index.shape[1], device=index.device)
        owner = torch.repeat_interleave(torch.arange(len(index), device=index.device), index.shape[1])
        logits: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            queries.contiguous(), items.contiguous(), flat, starts, owner, 0, -1
        )
        return logits.view(index.shape)

    @staticmethod
    @first_derivatives
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        queries, items, index = ctx.saved_tensors
        weight = grads[0].contiguous()
        d_queries = F.embedding_bag(index, items, mode="sum", per_sample_weights=weight)
        flat = index.flatten()
        order = torch.argsort(flat)
        starts = jagged.offsets_of(torch.bincount(flat, minlength=len(items)))[:-1]
        d_items = F.embedding_bag(
            order // index.shape[1], queries, starts, mode="sum", per_sample_weights=weight.flatten()[order]
        )
        return d_queries, d_items, None


def gathered_logits(queries: Tensor, items: Tensor, index: Tensor) -> Tensor:
    """queries [S, P], items [U, P], index [S, R] into the items -> [S, R] inner products; differentiable in both."""
    if index.numel() == 0:
        return queries.new_zeros(index.shape)
    logits: Tensor = _GatheredLogits.apply(queries, items, index)  # type: ignore[no-untyped-call]
    return logits
