"""Mixture of logits as an operator: scores of pairs and their gradients, a block of pairs at a time.

Letters: S queries, U items, K pairs of each query, A and B components of a query and an item, d their width, G = A · B,
H hidden numbers of the gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from facta.ops import backend
from facta.ops.once import first_derivatives
from facta.ops.pointwise import dropout

PADDED_WIDTH = 16  # components are padded to whole SIMD vectors of the widest instruction set


@dataclass(frozen=True)
class Mixture:
    """The settings of the mixture, without parameters."""

    query_components: int  # A
    item_components: int  # B
    temperature: float
    dropout: float = 0.0  # of the shares π
    salt: int = 0

    @property
    def pairs(self) -> int:
        """G."""
        return self.query_components * self.item_components


Gate = tuple[Tensor, Tensor, Tensor, Tensor]
"""Two linear layers: weight [H, G] and bias [H], weight [G, H] and bias [G]."""


def mol(
    mixture: Mixture,
    queries: Tensor,
    items: Tensor,
    gate: Gate,
    index: Tensor | None = None,
    keys: Tensor | None = None,
) -> Tensor:
    """Σ_g π_g cos_g / T: queries [S, A d + G], items [U, B d + G], index [S, K] into the items -> [S, K].

    Components have length 1 and are followed by u of a query or v of an item; π = softmax(SiLU(u ⊙ v + w(cos))).
    Without an index each query is scored with all items, K = U. `keys` [S, K] of the pairs, for the dropout of π; None:
    no dropout.
    """
    kernels = native(queries, items)
    if kernels is None or (items.shape[1] - mixture.pairs) // mixture.item_components % PADDED_WIDTH:
        return reference(mixture, queries, items, gate, index, keys)
    scores: Tensor = _MoL.apply(mixture, kernels, index, keys, queries, items, *gate)  # type: ignore[no-untyped-call]
    return scores


def native(*tensors: Tensor) -> str | None:
    """The kernels that compute these tensors."""
    return backend.native_for(*tensors) if all(one.dtype == torch.float32 for one in tensors) else None


def reference(
    mixture: Mixture, queries: Tensor, items: Tensor, gate: Gate, index: Tensor | None, keys: Tensor | None
) -> Tensor:
    """The definition; memory grows with S · K · (G + H)."""
    cosines, share = mixed(mixture, queries, items, gate, index)
    if keys is not None:
        share = dropout(share.flatten(0, 1), mixture.dropout, keys.flatten(), mixture.salt).view_as(share)
    return (share * cosines).sum(dim=-1) / mixture.temperature


def mixed(
    mixture: Mixture, queries: Tensor, items: Tensor, gate: Gate, index: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """cos and π [S, K, G], with the query's components outermost."""
    a, b, g = mixture.query_components, mixture.item_components, mixture.pairs
    of_query, of_item = queries[:, :-g].reshape(len(queries), a, -1), items[:, :-g].reshape(len(items), b, -1)
    u, v = queries[:, None, -g:], items[:, -g:]
    if index is None:
        cosines = torch.einsum("sad,ubd->suab", of_query, of_item).flatten(2)
    else:
        cosines, v = torch.einsum("sad,skbd->skab", of_query, of_item[index]).flatten(2), v[index]
    w = F.linear(F.silu(F.linear(cosines, gate[0], gate[1])), gate[2], gate[3])
    return cosines, F.silu(u * v + w).softmax(dim=-1)


@torch.library.custom_op("facta::mol", mutates_args=(), device_types="cpu")
def _scores(
    kernels: str,
    queries: Tensor,
    items: Tensor,
    index: Tensor | None,
    gate: Sequence[Tensor],
    query_components: int,
    item_components: int,
    scale: float,
    keys: Tensor | None,
    p: float,
    salt: int,
) -> Tensor:
    scores = queries.new_empty(len(queries), len(items) if index is None else index.shape[1])
    module: Any = backend.module()
    module.mol(
        kernels, torch.get_num_threads(), queries, items, index, list(gate), query_components, item_components, scale,
        keys, p, salt, scores,
    )  # fmt: skip
    return scores


@_scores.register_fake
def _(kernels: str, queries: Tensor, items: Tensor, index: Tensor | None, *_: Any) -> Tensor:
    return queries.new_empty(len(queries), len(items) if index is None else index.shape[1])


@torch.library.custom_op("facta::mol_backward", mutates_args=(), device_types="cpu")
def _gradients(
    kernels: str,
    queries: Tensor,
    items: Tensor,
    index: Tensor | None,
    gate: Sequence[Tensor],
    query_components: int,
    item_components: int,
    scale: float,
    keys: Tensor | None,
    p: float,
    salt: int,
    d_scores: Tensor,
) -> list[Tensor]:
    """Gradients in queries, items and the four tensors of the gate."""
    found = [torch.zeros_like(one) for one in (queries, items, *gate)]
    module: Any = backend.module()
    module.mol_backward(
        kernels, torch.get_num_threads(), queries, items, index, list(gate), query_components, item_components, scale,
        keys, p, salt, d_scores, *found,
    )  # fmt: skip
    return found


@_gradients.register_fake
def _(kernels: str, queries: Tensor, items: Tensor, index: Tensor | None, gate: Any, *_: Any) -> list[Tensor]:
    return [torch.empty_like(one) for one in (queries, items, *gate)]


class _MoL(torch.autograd.Function):
    """The backward pass recomputes everything, block by block."""

    @staticmethod
    def forward(ctx: Any, mixture: Mixture, kernels: str, index: Any, keys: Any, *tensors: Tensor) -> Tensor:
        queries, items, *gate = (one.contiguous() for one in tensors)
        index, keys = (None if one is None else one.contiguous() for one in (index, keys))
        sizes = (mixture.query_components, mixture.item_components, 1 / mixture.temperature)
        ctx.rest = (*sizes, keys, mixture.dropout, mixture.salt)
        ctx.kernels, ctx.index = kernels, index
        ctx.save_for_backward(queries, items, *gate)
        scores: Tensor = _scores(kernels, queries, items, index, gate, *ctx.rest)
        return scores

    @staticmethod
    @first_derivatives
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        queries, items, *gate = ctx.saved_tensors
        found = _gradients(ctx.kernels, queries, items, ctx.index, gate, *ctx.rest, grads[0].contiguous())
        return (None, None, None, None, *found)
