"""Explicit crosses of features, and experts that several tasks share.

Letters: S targets, W width of the features, r rank, E experts, X width of an expert, K tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Crosses(nn.Module):
    """DCN-v2 (Wang et al. 2021): x ← x0 ⊙ (W x + b) + x; each layer adds one order of products; with a rank W = U V."""

    def __init__(self, width: int, layers: int, rank: int | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_matrix(width, rank) for _ in range(layers))

    def forward(self, x0: Tensor) -> Tensor:
        """[S, W] -> [S, W]."""
        x = x0
        for layer in self.layers:
            x = x0 * layer(x) + x
        return x


def _matrix(width: int, rank: int | None) -> nn.Module:
    if rank is None or rank >= width:
        return nn.Linear(width, width)
    return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))


class Experts(nn.Module):
    """MMoE (Ma et al. 2018): all tasks share the experts; each task weighs them by its own softmax gate."""

    def __init__(self, width: int, experts: int, out: int, tasks: int) -> None:
        super().__init__()
        self.experts = nn.Linear(width, experts * out)
        self.gates = nn.Linear(width, tasks * experts)
        self.shape = (tasks, experts)

    def forward(self, x: Tensor) -> Tensor:
        """[S, W] -> [K, S, X]."""
        tasks, experts = self.shape
        said = F.silu(self.experts(x)).view(len(x), experts, -1)  # [S, E, X]
        gate = self.gates(x).view(len(x), tasks, experts).softmax(dim=2)  # [S, K, E]
        mixed: Tensor = torch.bmm(gate, said).transpose(0, 1)
        return mixed
