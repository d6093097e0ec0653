"""BPR-MF (Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009): matrix factorisation
that ranks what somebody met above what they did not.

    x_ui = b_i + p_u · q_i,    maximise Σ ln σ(x_ui - x_uj) - λ/2 (|p_u|² + |q_i|² + |q_j|² + b_i² + b_j²)

over the pairs (u, i) of training and items j that u did not meet (LearnBPR: gradient steps on drawn j). Neither order
nor repetition counts. The bias b_i is that of the authors' code (MyMediaLite); the paper leaves it out.

A request names nobody: it gives a history. So the vector of a person is always folded in, that of a known person too:
it is the p that the same objective has its optimum at, given the item vectors and the history (`_folded_in`). The
vectors of users are learned beside those of items and not kept; decision 027 says what that is worth.

Letters: V items, U users, E pairs of training, D width, S targets of a batch, n distinct items of a history, M items
that folding in compares them with.
"""

from __future__ import annotations

from collections.abc import Iterator
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

REGULARISATIONS = (0.01, 0.02, 0.04)
STD = 0.1  # of initial vectors
DRAWS = 5  # of a j that the user did not meet; a pair whose draws were all met waits for the next epoch
OTHERS = 256  # M at most
STEPS = 20  # of folding in
CELLS = 1 << 19  # comparisons of folding in at a time: 4 MB, which stay in the cache


class BPRMFConfig(CountedConfig):
    """Fitted at once, as counted models are: `epochs` and the rest belong to the model and not to a training."""

    kind: Literal["bpr-mf"] = "bpr-mf"
    window: int = Field(default=2000, ge=1, description="newest events of a history that are read")
    width: int = Field(default=64, ge=1, description="D")
    regularisation: float = Field(default=0.02, gt=0, description="λ, of every vector and bias that a step moves")
    learning_rate: float = Field(default=0.1, gt=0, description="at first; it falls to 0 in a straight line")
    epochs: int = Field(default=40, ge=1, description="passes over all pairs of a person and an item")
    batch_size: int = Field(default=1024, ge=1, description="pairs whose gradients are added up in a step")
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
        every = torch.arange(num_items, device="cpu")  # no file holds it: not on the meta device
        order = torch.argsort(draws.mix(every, draws.mix_int(config.seed, Purpose.NEGATIVES)))
        self.register_buffer("others", order[:OTHERS].sort().values, persistent=False)

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
        """[S, D + 1]; of an empty history p = 0, so that biases rank. Targets see their row's events up to `after`."""
        targets = batch.targets
        row = jagged.rows(targets.offsets)
        read = jagged.spans(batch.offsets[row], targets.after)
        request = torch.repeat_interleave(torch.arange(len(row)), targets.after)
        met = torch.unique(torch.stack([request, batch.events.item[read]]), dim=1)  # an item counts once
        offsets = jagged.offsets_of(torch.bincount(met[0], minlength=len(row)))
        found = self.vectors.new_ones(len(row), self.config.width + 1)
        for some in _chunks(offsets, len(self.others)):
            own = offsets[some.start : some.stop + 1]
            found[some, :-1] = self._folded_in(own - own[0], met[1, own[0] : own[-1]].contiguous()).to(found)
        return found

    def catalogue_scores(self, batch: SequenceBatch) -> FactoredScores:
        """[S, V] in factors."""
        return FactoredScores(self.queries(batch), self.vectors)

    def _folded_in(self, offsets: Tensor, met: Tensor) -> Tensor:
        """Histories of distinct items, jagged -> [S, D] float64: the p that minimises

            mean over i of the history and j of `others` outside it of -ln σ(x_i - x_j), + λ/2 |p|²

        by steps from 0 that cannot fail: a logistic loss curves at most a quarter as much as the square of what it is
        given (Böhning & Lindsay 1988), so with ¼ Σ (q_i - q_j)(q_i - q_j)ᵀ + λ I in the Hessian's place each step
        lowers the loss. A step costs n · M.
        """
        own, r = jagged.to_padded(self.vectors[met].double(), offsets), self.vectors[self.others].double()
        q, b, r, c = own[..., :-1], own[..., -1:], r[:, :-1], r[:, -1:]
        i, j = self._weights(offsets, met)
        penalty = self.config.regularisation * torch.eye(self.config.width, dtype=torch.float64)
        bound = torch.linalg.cholesky(_curvature(q, i, r, j) + penalty)
        p = q.new_zeros(len(q), self.config.width, 1)
        for _ in range(STEPS):
            x, y = q @ p + b, r @ p + c  # [S, n, 1], [S, M, 1]
            wrong = (x.exp() * (-y).exp().mT).add_(1.0).reciprocal_()  # [S, n, M]: 1 - σ(x_i - x_j)
            slope = r.T @ (wrong.mT @ i * j) - q.mT @ (wrong @ j * i) + self.config.regularisation * p
            p = p - torch.cholesky_solve(slope, bound)
        return p[..., 0]

    def _weights(self, offsets: Tensor, met: Tensor) -> tuple[Tensor, Tensor]:
        """[S, n, 1] of the items of a history and [S, M, 1] of the others: each adds up to 1, or all are 0."""
        i = jagged.to_padded(torch.ones(len(met), 1, dtype=torch.float64), offsets)
        place = torch.searchsorted(self.others, met).clamp_max(len(self.others) - 1)
        both = self.others[place] == met
        j = torch.ones(len(i), len(self.others), 1, dtype=torch.float64)
        j[jagged.rows(offsets)[both], place[both]] = 0.0
        return i / i.sum(1, keepdim=True).clamp_min(1), j / j.sum(1, keepdim=True).clamp_min(1)


def _curvature(q: Tensor, i: Tensor, r: Tensor, j: Tensor) -> Tensor:
    """¼ Σ_ij i j (q_i - q_j)(q_i - q_j)ᵀ: [S, D, D]; 0 without a history."""
    own, other, some = q.mT @ i, r.T @ j, i.sum(1, keepdim=True) * j.sum(1, keepdim=True)
    cross = own @ other.mT
    return 0.25 * some * ((i * q).mT @ q + (j * r).mT @ r - cross - cross.mT)


def _chunks(offsets: Tensor, others: int) -> Iterator[slice]:
    """Runs of requests whose padded comparisons are about CELLS."""
    lengths, first, longest = jagged.lengths(offsets).tolist(), 0, 0
    for place, length in enumerate(lengths):
        longest = max(longest, length)
        if first < place and (place + 1 - first) * longest * others > CELLS:
            yield slice(first, place)
            first, longest = place, length
    if lengths:
        yield slice(first, len(lengths))


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
    return STD * torch.randn(count, config.width + 1, generator=random)


def _unmet(pairs: Tensor, some: Tensor, user: Tensor, items: int, key: int) -> tuple[Tensor, Tensor]:
    """For each of some pairs an item drawn uniformly, and whether its user did not meet it: drawn again where they did,
    a few times."""
    own, keys = user[some] * items, draws.mix(pairs[some], key)
    other = draws.below(draws.mix(keys, 0), items)
    for again in range(1, DRAWS + 1):
        unmet = pairs[torch.searchsorted(pairs, own + other).clamp_max(len(pairs) - 1)] != own + other
        if again == DRAWS or bool(unmet.all()):
            break
        other = torch.where(unmet, other, draws.below(draws.mix(keys, again), items))
    return other, unmet


def _step(
    of_users: Tensor, of_items: Tensor, triples: tuple[Tensor, Tensor, Tensor], rate: float, config: BPRMFConfig
) -> None:
    """One gradient step on (u, i, j), in place; what stands in several triples moves by the sum."""
    u, i, j = triples
    p, q, r = of_users[u], of_items[i], of_items[j]
    pull = torch.sigmoid(((r - q) * p).sum(1, keepdim=True))
    move = rate * (pull * (q - r) - config.regularisation * p)
    move[:, -1] = 0.0  # the 1 beside p
    of_users.index_add_(0, u, move)
    of_items.index_add_(0, i, rate * (pull * p - config.regularisation * q))
    of_items.index_add_(0, j, rate * (-pull * p - config.regularisation * r))
