"""Target attention: the weight of each event of a history for the target's item (DIN, Zhou et al. 2018).

Letters: S targets, n sources (events and entries of earlier lists), P pairs, D width, A width of the attention unit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facta.layers.recent import AGES, Recent


class TargetAttention(nn.Module):
    """h, t -> Σ σ(a(h, t)) (h + age), a of one hidden layer over [h, t, h - t, h ⊙ t] and the age of h.

    The weights are not normalised, as in the paper, so that more matching events give a larger sum. Two things differ.
    The hidden layer is SiLU, not Dice, which standardises by the batch, so that batch mates would change a score. And h
    - t has no weights of its own, since it is linear in h and t.
    """

    def __init__(self, width: int, hidden: int, std: float) -> None:
        super().__init__()
        self.of_source = nn.Linear(width, hidden)
        self.of_target = nn.Linear(width, hidden, bias=False)
        self.of_product = nn.Linear(width, hidden, bias=False)
        self.of_age = nn.Parameter(torch.zeros(AGES, hidden))
        self.weigh = nn.Linear(hidden, 1)
        self.age = nn.Parameter(torch.randn(AGES, width) * std)

    def forward(self, sources: Tensor, targets: Tensor, pairs: Recent, age: Tensor, _: Tensor) -> Tensor:
        """[n, D], [S, D], ages of the pairs [P] -> [S, D]; zeros for a target without sources."""
        if not len(pairs.source):
            return torch.zeros_like(targets)
        product = F.embedding(pairs.source, sources) * F.embedding(pairs.target, targets)
        inner = self.of_product(product) + F.embedding(pairs.source, self.of_source(sources))
        inner = inner + F.embedding(pairs.target, self.of_target(targets)) + F.embedding(age, self.of_age)
        weight = torch.sigmoid(self.weigh(F.silu(inner))).squeeze(1)
        return _weighted(pairs.source, sources, pairs, weight) + _weighted(age, self.age, pairs, weight)


def _weighted(index: Tensor, table: Tensor, pairs: Recent, weight: Tensor) -> Tensor:
    """[S, D]: Σ over each target's pairs of weight · table[index], without a tensor of all pairs."""
    return F.embedding_bag(index, table, pairs.offsets[:-1], mode="sum", per_sample_weights=weight)
