"""BPR-MF (Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009): matrix factorisation
that ranks a user's items above all others.

    x_ui = b_i + p_u · q_i,    maximise Σ ln σ(x_ui - x_uj) - λ/2 (|p_u|² + |q_i|² + |q_j|² + b_i² + b_j²)

over the training pairs (u, i) and items j without events of u (LearnBPR: gradient steps on drawn j). Order and
repetition of events do not count. The bias b_i is from the authors' code (MyMediaLite); the paper has none.

A request gives a history, not a user. So the user vector is always folded in: the p at which the same objective is
optimal, given the item vectors and the history (`folded_in`). The learned user vectors are not stored; decision 027
says what that is worth.

Letters: V items, U users, E training pairs, D width, S targets of a batch, n distinct items of a history, M other items
in folding in.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from facta import draws, jagged
from facta.data.dataset.catalogue import Catalogue
from facta.data.split.statistics import Statistics
from facta.draws import Purpose
from facta.models.counted import CountedConfig
from facta.models.model import Judge, Model
from facta.similarity.inner import InnerProductConfig
from facta.similarity.similarity import Similarity
from facta.types import FactoredScores, SequenceBatch

REGULARISATIONS = (0.005, 0.01, 0.02)
INITIAL_STD = 0.1  # of initial vectors
DRAWS_PER_PAIR = 5  # attempts to draw a j without events of the user; if all fail, the pair waits for the next epoch
MOST_OTHERS = 256  # largest M
FOLD_IN_STEPS = 20  # Newton steps of folding in


class BPRMFConfig(CountedConfig):
    """Fitted at once, as counted models: `epochs` and the like are settings of the model, not of a training."""

    kind: Literal["bpr-mf"] = "bpr-mf"
    window: int = Field(default=2000, ge=1, description="newest events of a history that are read")
    width: int = Field(default=64, ge=1, description="D")
    regularisation: float = Field(default=0.01, gt=0, description="λ, of every vector and bias that a step changes")
    learning_rate: float = Field(default=0.1, gt=0, description="at first; it falls linearly to 0")
    epochs: int = Field(default=40, ge=1, description="passes over all pairs of a user and an item")
    batch_size: int = Field(default=1024, ge=1, description="pairs of a step, whose gradients are added up")
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)

    def build(self, catalogue: Catalogue, seed: int = 0) -> BPRMF:
        return BPRMF(self, catalogue.items)

    def tuned(self, statistics: Statistics, judge: Judge) -> Model:
        """The best λ."""
        configs = [BPRMFConfig(positive=self.positive, regularisation=value) for value in REGULARISATIONS]
        return judge(BPRMF(config, statistics.items).fit_statistics(statistics) for config in configs)


class BPRMF(Model):
    """Scores are products of (p, 1) and (q_i, b_i)."""

    config: BPRMFConfig
    vectors: Tensor  # [V, D + 1]: q_i, b_i
    others: Tensor  # [M] rows, ascending

    def __init__(self, config: BPRMFConfig, num_items: int) -> None:
        super().__init__()
        self.config, self.window = config, config.window
        self.register_buffer("vectors", torch.zeros(num_items, config.width + 1))
        every = torch.arange(num_items, device="cpu")  # not stored in a file, so not on the meta device
        order = torch.argsort(draws.mix(every, draws.mix_int(config.seed, Purpose.NEGATIVES)))
        self.register_buffer("others", order[:MOST_OTHERS].sort().values, persistent=False)

    def fit_statistics(self, statistics: Statistics) -> Self:
        """Learn the vectors, on the CPU: a million pairs take 3 s an epoch on one core."""
        user, item = map(torch.from_numpy, statistics.events(self.config.positive).met(statistics.items))
        self.vectors = learned(self.config, user, item, statistics.users, statistics.items)
        return self

    @property
    def scoring(self) -> Similarity:
        return InnerProductConfig(kind="dot", temperature=1.0).build(self.config.width + 1)

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        """[V, D + 1], or of the given rows."""
        return self.vectors if rows is None else self.vectors[rows]

    @torch.no_grad()
    def queries(self, batch: SequenceBatch) -> Tensor:
        """[S, D + 1]; p = 0 for an empty history, so that biases rank. Targets see the first `after` events of their
        row.
        """
        targets = batch.targets
        row = jagged.rows(targets.offsets)
        read = jagged.spans(batch.offsets[row], targets.num_visible)
        request = torch.repeat_interleave(torch.arange(len(row)), targets.num_visible)
        met = torch.unique(torch.stack([request, batch.events.item[read]]), dim=1)  # an item counts once
        found = self.vectors.new_ones(len(row), self.config.width + 1)
        found[:, :-1] = 0.0
        others = self.vectors[self.others].double()
        for place, items in enumerate(torch.split(met[1], torch.bincount(met[0], minlength=len(row)).tolist())):
            outside = others[~torch.isin(self.others, items)]
            if len(items) and len(outside):
                found[place, :-1] = folded_in(self.vectors[items].double(), outside, self.config.regularisation)
        return found

    def catalogue_scores(self, batch: SequenceBatch) -> FactoredScores:
        """[S, V] in factors."""
        return FactoredScores(self.queries(batch), self.vectors)


def folded_in(own: Tensor, others: Tensor, regularisation: float) -> Tensor:
    """(q, b) of the items of a history [n, D + 1] and of others [M, D + 1] -> [D], the p that minimises

        mean over i of the history and j of the others of -ln σ(x_i - x_j), + λ/2 |p|²

    by Newton steps from 0 with a bound on the Hessian: the second derivative of a logistic loss is at most ¼ (Böhning &
    Lindsay 1988), so with ¼ mean (q_i - q_j)(q_i - q_j)ᵀ + λ I as Hessian each step lowers the loss. A step costs n ·
    M. Histories are folded in one at a time: [n, M] stays in the CPU's cache, and a result does not depend on the
    batch.
    """
    q, b, r, c = own[:, :-1], own[:, -1], others[:, :-1], others[:, -1]
    cross = torch.outer(q.mean(0), r.mean(0))
    curvature = 0.25 * (q.T @ q / len(q) + r.T @ r / len(r) - cross - cross.T)
    inverse = torch.linalg.inv(curvature + regularisation * torch.eye(len(cross), dtype=q.dtype, device=q.device))
    p = q.new_zeros(len(cross))
    for _ in range(FOLD_IN_STEPS):
        wrong = torch.sigmoid((r @ p + c) - (q @ p + b)[:, None])  # [n, M]: 1 - σ(x_i - x_j)
        slope = wrong.mean(0) @ r / len(r) - wrong.mean(1) @ q / len(q) + regularisation * p
        p = p - inverse @ slope
    return p


def learned(config: BPRMFConfig, user: Tensor, item: Tensor, users: int, items: int) -> Tensor:
    """Distinct pairs (user, item) [E], ascending -> [V, D + 1]. Every draw is a function of (seed, epoch, pair)."""
    of_users, of_items = (_initial(config, number, count) for number, count in enumerate((users, items)))
    of_users[:, -1], of_items[:, -1] = 1.0, 0.0  # so that a bias is one more product
    pairs, rate = user * items + item, config.learning_rate
    for epoch in range(config.epochs):
        shuffled = torch.argsort(draws.mix(pairs, draws.mix_int(config.seed, epoch, Purpose.SHUFFLE)))
        for step, some in enumerate(torch.split(shuffled, config.batch_size)):
            done = (epoch + step * config.batch_size / max(len(pairs), 1)) / config.epochs
            other, unmet = _unmet(pairs, some, user, items, draws.mix_int(config.seed, epoch, Purpose.NEGATIVES))
            _step(of_users, of_items, (user[some][unmet], item[some][unmet], other[unmet]), rate * (1 - done), config)
    return of_items


def _initial(config: BPRMFConfig, number: int, count: int) -> Tensor:
    random = torch.Generator().manual_seed(draws.mix_int(config.seed, number))
    return INITIAL_STD * torch.randn(count, config.width + 1, generator=random)


def _unmet(pairs: Tensor, some: Tensor, user: Tensor, items: int, key: int) -> tuple[Tensor, Tensor]:
    """For each pair a uniformly drawn item, and whether its user has no event of it; items with events are drawn again,
    up to DRAWS_PER_PAIR times.
    """
    own, keys = user[some] * items, draws.mix(pairs[some], key)
    other = draws.below(draws.mix(keys, 0), items)
    for again in range(1, DRAWS_PER_PAIR + 1):
        unmet = pairs[torch.searchsorted(pairs, own + other).clamp_max(len(pairs) - 1)] != own + other
        if again == DRAWS_PER_PAIR or bool(unmet.all()):
            break
        other = torch.where(unmet, other, draws.below(draws.mix(keys, again), items))
    return other, unmet


def _step(
    of_users: Tensor, of_items: Tensor, triples: tuple[Tensor, Tensor, Tensor], rate: float, config: BPRMFConfig
) -> None:
    """One gradient step on (u, i, j), in place; a vector in several triples moves by the sum."""
    u, i, j = triples
    p, q, r = of_users[u], of_items[i], of_items[j]
    pull = torch.sigmoid(((r - q) * p).sum(1, keepdim=True))
    move = rate * (pull * (q - r) - config.regularisation * p)
    move[:, -1] = 0.0  # the 1 beside p
    of_users.index_add_(0, u, move)
    of_items.index_add_(0, i, rate * (pull * p - config.regularisation * q))
    of_items.index_add_(0, j, rate * (-pull * p - config.regularisation * r))
