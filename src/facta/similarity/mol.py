"""Mixture of logits, MoL (Zhai et al., KDD 2023; Ding and Zhai, arXiv 2407.15462): a learned similarity.

    score(q, x) = Σ_g π_g(q, x) · ⟨f_a(q), h_b(x)⟩ / T          g = (a, b) of the A x B pairs of components
    π(q, x)     = softmax(SiLU(u(q) ⊙ v(x) + w(l)))             l the G = A · B cosines of this pair

f is a SwiGLU layer, h is linear, all components have length 1; u, v and w are gates of two linear layers. `queries` and
`items` hold the parts that depend on a query or an item alone, computed once: the components, followed by u or v.

Letters: S states, U items, K items of each state, D width, A and B components of a query and an item, d their width,
G = A · B pairs of components, H hidden width of a gate.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from facta.ops.mol import Gate, Mixture, mixed, mol, native
from facta.similarity.similarity import Similarity, SimilarityConfig

EPS = 1e-6
DROPOUT_SALT = 900  # salt of the dropout of π


class MoLConfig(SimilarityConfig):
    """The defaults are the published sizes for MovieLens 1M."""

    kind: Literal["mol"] = "mol"
    query_components: int = Field(default=8, ge=1, description="A")
    item_components: int = Field(default=4, ge=1, description="B")
    component_width: int = Field(default=64, ge=1, description="d")
    query_hidden: int = Field(default=512, ge=1, description="hidden width of f")
    gate_hidden: int = Field(default=128, ge=1, description="H")
    gate_dropout: float = Field(default=0.2, ge=0, lt=1, description="of π, pair by pair")
    temperature: float = Field(default=0.05, gt=0, description="T")

    @property
    def pairs(self) -> int:
        """G."""
        return self.query_components * self.item_components

    def build(self, width: int) -> MoL:
        return MoL(self, width)


def _gate(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


class MoL(Similarity):
    """Components of queries and items, and gates that weigh their pairs."""

    def __init__(self, config: MoLConfig, width: int) -> None:
        super().__init__()
        self.config, self.width = config, width
        self.mixture = Mixture(
            config.query_components, config.item_components, config.temperature, config.gate_dropout, DROPOUT_SALT
        )
        made = config.query_components * config.component_width
        self.query_inner = nn.Linear(width, 2 * config.query_hidden)
        self.query_outer = nn.Linear(config.query_hidden, made)
        self.item = nn.Linear(width, config.item_components * config.component_width)
        self.query_gate = _gate(width, config.gate_hidden, config.pairs)
        self.item_gate = _gate(width, config.gate_hidden, config.pairs)
        self.pair_gate = _gate(config.pairs, config.gate_hidden, config.pairs)

    def cells(self, queries: Tensor) -> int:
        """The kernels store only score, index and key of a pair."""
        config = self.config
        made = 5 * config.pairs + 2 * config.gate_hidden + config.item_components * config.component_width
        return made if native(queries) is None else 5

    @property
    def draws(self) -> bool:
        return self.training and self.config.gate_dropout > 0

    def queries(self, states: Tensor) -> Tensor:
        """[S, D] -> [S, A d + G]."""
        gate, value = self.query_inner(states).chunk(2, dim=1)
        return self._joined(self.query_outer(F.silu(gate) * value), self.query_gate(states))

    def items(self, vectors: Tensor) -> Tensor:
        """[U, D] -> [U, B d + G]."""
        return self._joined(self.item(vectors), self.item_gate(vectors))

    def _joined(self, components: Tensor, gates: Tensor) -> Tensor:
        unit = F.normalize(components.view(len(components), -1, self.config.component_width), dim=-1, eps=EPS)
        return torch.cat([unit.flatten(1), gates], dim=1)

    def scores(self, queries: Tensor, items: Tensor, index: Tensor | None = None, keys: Tensor | None = None) -> Tensor:
        return mol(self.mixture, queries, items, self._gate, index, keys)

    @property
    def _gate(self) -> Gate:
        first, second, third, fourth = self.pair_gate.parameters()
        return first, second, third, fourth

    def rough_items(self, items: Tensor) -> Tensor:
        """The components [U, B d]."""
        return items[:, : -self.config.pairs]

    def rough_queries(self, queries: Tensor, mean: Tensor) -> Tensor:
        """Σ_a π_ab f_a of each b, with the shares π of the mean item."""
        config = self.config
        _, share = mixed(self.mixture, queries, mean, self._gate)
        share = share.view(len(queries), config.query_components, config.item_components)
        components = queries[:, : -config.pairs].reshape(len(queries), config.query_components, -1)
        return torch.einsum("sab,sad->sbd", share, components).flatten(1) / config.temperature

    def flops(self, count: int) -> float:
        c = self.config
        return 2.0 * count * c.pairs * (c.component_width + 2 * c.gate_hidden + 2)
