"""Mixture of logits: the sum over pairs of components that its paper writes down, in losses and over catalogues."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from facta.objectives.items import Items
from facta.objectives.losses import Contrast, SampledSoftmaxConfig, SoftmaxConfig
from facta.similarity import similarity as base
from facta.similarity.mol import MoL, MoLConfig
from facta.testing import check_similarity
from facta.types import Negatives

WIDTH = 6
CONFIG = MoLConfig(query_components=3, item_components=2, component_width=5, query_hidden=7, gate_hidden=4)


def built(**changes: float) -> MoL:
    torch.manual_seed(0)
    mol = CONFIG.change(**changes).build(WIDTH).double()
    with torch.no_grad():
        for parameter in mol.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
    return mol.eval()


def slow(mol: MoL, state: Tensor, vector: Tensor) -> float:
    """One score, pair of components by pair of components."""

    def linear(layer: object, x: Tensor) -> Tensor:
        return layer.weight @ x + layer.bias  # type: ignore[attr-defined, no-any-return]

    def silu(x: Tensor) -> Tensor:
        return x / (1 + torch.exp(-x))

    def gate(layers: torch.nn.Sequential, x: Tensor) -> Tensor:
        return linear(layers[2], silu(linear(layers[0], x)))

    inner = linear(mol.query_inner, state)
    f = linear(mol.query_outer, silu(inner[:7]) * inner[7:])
    h = linear(mol.item, vector)
    cosines = [float(a @ b / a.norm() / b.norm()) for a in (f[0:5], f[5:10], f[10:15]) for b in (h[0:5], h[5:10])]
    u, v = gate(mol.query_gate, state), gate(mol.item_gate, vector)
    w = gate(mol.pair_gate, torch.tensor(cosines, dtype=torch.float64))
    exponent = [math.exp(float(silu(u[g] * v[g] + w[g]))) for g in range(6)]
    return sum(e * c for e, c in zip(exponent, cosines, strict=True)) / sum(exponent) / 0.05


def test_a_score_is_the_gated_sum_over_pairs_of_components() -> None:
    mol, states, vectors = built(), torch.randn(4, WIDTH).double(), torch.randn(9, WIDTH).double()
    with torch.no_grad():
        wanted = torch.tensor([[slow(mol, state, vector) for vector in vectors] for state in states])
    queries, items = mol.queries(states), mol.items(vectors)
    assert torch.allclose(mol.scores(queries, items), wanted.double(), atol=1e-10)
    rows = torch.tensor([[0, 8, 3], [2, 2, 1], [7, 0, 5], [4, 4, 4]])
    assert torch.allclose(mol.scores(queries, items, rows), wanted.double().gather(1, rows), atol=1e-10)


@pytest.mark.parametrize("cells", [1, 33, 100, 10_000])
def test_all_scores_are_the_scores_of_some_pairs_at_a_time(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mol = built()
    monkeypatch.setattr(base, "CELLS_AT_ONCE", cells)
    queries, items = mol.queries(torch.randn(5, WIDTH).double()), mol.items(torch.randn(17, WIDTH).double())
    assert torch.allclose(mol.all_scores(queries, items), mol.scores(queries, items), atol=1e-12)


def contrast(mol: MoL, negatives: Negatives) -> tuple[Contrast, Tensor]:
    """Five targets among twelve items."""
    torch.manual_seed(1)
    vectors = torch.randn(12, WIDTH, dtype=torch.float64, requires_grad=True)
    items = Items.of(vectors).through(mol.items)
    states, positive = torch.randn(5, WIDTH).double(), torch.tensor([0, 3, 3, 11, 7])
    keys = torch.arange(100, 105)
    weight = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0]).double()
    return Contrast(mol.queries(states), items, positive, weight, negatives, keys, mol), vectors


def test_losses_are_those_of_the_dense_scores() -> None:
    mol = built()
    found, _ = contrast(mol, Negatives(shared=torch.tensor([1, 3, 8])))
    dense = mol.scores(found.queries, found.items.vectors(None))
    own = dense.gather(1, found.positive[:, None])
    wanted = ((torch.logsumexp(dense, 1) - own[:, 0]) * found.weight).sum()
    assert torch.allclose(SoftmaxConfig().total(found).total, wanted)
    others = dense[:, [1, 3, 8]].masked_fill(torch.tensor([1, 3, 8]) == found.positive[:, None], -5e4)
    wanted = ((torch.logsumexp(torch.cat([own, others], 1), 1) - own[:, 0]) * found.weight).sum()
    assert torch.allclose(SampledSoftmaxConfig().total(found).total, wanted)


def test_items_that_no_target_meets_have_no_gradient() -> None:
    found, vectors = contrast(built(), Negatives(shared=torch.tensor([1, 8])))
    SampledSoftmaxConfig().total(found).total.backward()
    assert vectors.grad is not None
    assert torch.nonzero(vectors.grad.abs().sum(1)).flatten().tolist() == [0, 1, 3, 7, 8, 11]


@pytest.mark.parametrize("negatives", [Negatives(shared=torch.tensor([1, 8, 2])), Negatives(each=6)])
def test_dropout_of_a_pair_is_its_own_whatever_is_computed_with_it(
    negatives: Negatives, monkeypatch: pytest.MonkeyPatch
) -> None:
    mol = built(gate_dropout=0.5)
    kept, _ = contrast(mol, negatives)
    without = SampledSoftmaxConfig().total(kept).total
    mol.train()
    whole = SampledSoftmaxConfig().total(kept).total
    monkeypatch.setattr("facta.objectives.chunked.CHUNK_LOGITS", 1)  # one target at a time
    assert torch.allclose(SampledSoftmaxConfig().total(kept).total, whole, rtol=1e-12)
    assert not torch.allclose(whole, without)
    assert torch.allclose(SoftmaxConfig().total(kept).total, SoftmaxConfig().total(kept).total, rtol=1e-12)


def test_dropout_takes_its_share_of_the_pairs() -> None:
    mol = built(gate_dropout=0.25).train()
    queries, items = mol.queries(torch.randn(50, WIDTH).double()), mol.items(torch.randn(40, WIDTH).double())
    mean = torch.stack(
        [mol.scores(queries, items, None, torch.arange(2000).view(50, 40) + 2000 * i) for i in range(40)]
    )
    assert torch.allclose(mean.mean(), mol.scores(queries, items).mean(), atol=0.05)
    assert float(mean.detach().std(dim=0).mean()) > 1


def test_operations_are_those_that_torch_counts() -> None:
    mol = built()
    queries, items = mol.queries(torch.randn(1, WIDTH).double()), mol.items(torch.randn(100, WIDTH).double())
    with FlopCounterMode(display=False) as counter:
        mol.scores(queries, items)
    weighted = 2 * 2 * 100 * 6  # the products that make π and its sum, which the counter leaves out
    assert mol.flops(100) == counter.get_total_flops() + weighted


def test_it_keeps_the_contract() -> None:
    check_similarity(CONFIG)


def test_the_rough_score_of_the_mean_item_is_its_score() -> None:
    """Among equal items each is the mean; among others the shares are those of the mean."""
    mol, states = built(), torch.randn(4, WIDTH).double()
    queries, items = mol.queries(states), mol.items(torch.randn(1, WIDTH).double()).expand(3, -1)
    rough = mol.rough_queries(queries, items[:1]) @ mol.rough_items(items).T
    assert torch.allclose(rough, mol.scores(queries, items), atol=1e-10)


def test_every_pair_of_a_target_has_draws_of_its_own() -> None:
    mol = built(gate_dropout=0.5).train()
    found, _ = contrast(mol, Negatives())
    vector = found.items.vectors(torch.tensor([4])).expand(30, -1)
    scores = found.logits(slice(0, 2), torch.arange(30), vector)
    assert len(set(scores[0].tolist())) > 10 and not torch.equal(scores[0], scores[1])
    again = found.logits(slice(0, 2), torch.arange(30), vector, torch.tensor([[7, 3], [7, 3]]))
    assert torch.equal(again, scores[:, [7, 3]])
