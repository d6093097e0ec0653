"""Losses over many items, a few targets at a time: memory does not grow with targets x items.

A loss here is a sum, so its gradients are known up to one factor as soon as a chunk is computed: they are stored, and
the logits are not. The cost: gradients are computed even if a caller then drops them.

Letters: S targets, V items (or those shared by all targets), P width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from facta.ops.once import first_derivatives
from facta.ops.sums import summed

CHUNK_LOGITS = 1 << 26  # most logits of a chunk: 256 MB in float32
Logits = Callable[[Tensor, slice], Tensor]


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
        total, needed = queries.new_zeros(()), ctx.needs_input_grad[:2]
        grads = [torch.zeros_like(x) if need else None for x, need in zip((queries, items), needed, strict=True)]
        for chunk in _chunks(len(queries), len(items)):
            logits = queries[chunk] @ items.T
            lse = torch.logsumexp(logits, dim=1)
            own = logits.gather(1, positive[chunk, None])[:, 0]
            total += summed((lse - own) * weight[chunk])
            slopes = torch.exp(logits.sub_(lse[:, None]), out=logits).mul_(weight[chunk, None])
            slopes.scatter_add_(1, positive[chunk, None], -weight[chunk, None])
            if grads[0] is not None:
                torch.mm(slopes, items, out=grads[0][chunk])
            if grads[1] is not None:
                grads[1].addmm_(slopes.T, queries[chunk])
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @first_derivatives
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        scaled = (None if kept is None else kept * grads[0] for kept in ctx.saved_tensors)
        return (*scaled, None, None)


def softmax(queries: Tensor, items: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """Σ weight · (-log softmax over all items): queries [S, P], items [V, P], positive and weight [S]."""
    total: Tensor = _Softmax.apply(queries, items, positive, weight)  # type: ignore[no-untyped-call]
    return total


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Any, shared: Tensor, *each: Tensor) -> Tensor:
        total = shared.new_zeros(())
        needed = ctx.needs_input_grad[1:]
        grads = [torch.zeros_like(x) if need else None for x, need in zip((shared, *each), needed, strict=True)]
        for chunk in _chunks(len(each[0]), len(shared)):
            ours = (shared, *(x[chunk] for x in each))
            parts = [x.detach().requires_grad_(need) for x, need in zip(ours, needed, strict=True)]
            with torch.enable_grad():
                part = loss(chunk, *parts)
            total += part.detach()
            wanted = [x for x in parts if x.requires_grad]
            for kept, at, new in zip(
                [g for g in grads if g is not None],
                [slice(None) if x is parts[0] else chunk for x in wanted],
                torch.autograd.grad(part, wanted) if wanted else (),
                strict=True,
            ):
                kept[at] += new
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @first_derivatives
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return (None, *(None if kept is None else kept * grads[0] for kept in ctx.saved_tensors))


def shared(loss: Callable[..., Tensor], items: Tensor, *each: Tensor) -> Tensor:
    """Σ over chunks of loss(chunk, items, *each[chunk]): items [R, P] shared by all targets, `each` [S, …] of each.

    `loss` returns the chunk's summed loss and must be a function of its arguments alone.
    """
    total: Tensor = _Shared.apply(loss, items, *each)  # type: ignore[no-untyped-call]
    return total


def recomputed(loss: Callable[[slice], Tensor], targets: int, cells: int) -> Tensor:
    """Σ over chunks of loss(chunk), for a loss with its own parameters. With several chunks its intermediate tensors
    (`cells` numbers a target) are recomputed in the backward pass, so all random draws must be functions of keys.
    """
    chunks = _chunks(targets, cells)
    if len(chunks) == 1:
        return loss(chunks[0])
    parts = [checkpoint(loss, chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
    return torch.stack(parts).sum() if parts else torch.zeros(())


def _chunks(targets: int, items: int) -> list[slice]:
    size = max(1, CHUNK_LOGITS // max(items, 1))
    return [slice(start, min(start + size, targets)) for start in range(0, targets, size)]
