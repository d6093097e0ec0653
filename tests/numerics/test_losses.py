"""Losses against their definitions, written the slow way."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from facta.data.batches.negatives import NegativesConfig
from facta.errors import ConfigError
from facta.objectives import chunked
from facta.objectives.gathered import gathered_logits
from facta.objectives.items import Items
from facta.objectives.losses import BCEConfig, Contrast, gbce_beta, generalised_bce, sampled_softmax, softmax, uniform
from facta.ops import backend
from facta.ops.loss import sampled_loss
from facta.ops.sums import summed
from facta.types import Negatives

S, V, P = 9, 15, 4
STATM = Path("/proc/self/statm")  # pages of this process: its size, then those in memory
World = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture
def world() -> World:
    torch.manual_seed(0)
    queries = torch.randn(S, P, dtype=torch.float64, requires_grad=True)
    items = torch.randn(V, P, dtype=torch.float64, requires_grad=True)
    return queries, items, torch.randint(0, V, (S,)), torch.rand(S, dtype=torch.float64), torch.arange(S) * 77


def detached(tensors: World) -> World:
    queries, items, positive, weight, keys = tensors
    return queries.detach(), items.detach(), positive, weight, keys


def test_gathered_logits_and_gradients_equal_plain_indexing(world: World) -> None:
    queries, items, *_ = world
    index = torch.randint(0, V, (S, 6))
    fast, slow = gathered_logits(queries, items, index), (queries[:, None] * items[index]).sum(-1)
    torch.testing.assert_close(fast, slow)
    weight = torch.randn_like(slow)
    for a, b in zip(
        torch.autograd.grad((fast * weight).sum(), (queries, items)),
        torch.autograd.grad((slow * weight).sum(), (queries, items)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    assert gathered_logits(queries, items, index[:, :0]).shape == (S, 0)


def test_softmax(world: World) -> None:
    queries, items, positive, weight, _ = detached(world)
    loss = softmax(Contrast(queries, Items.of(items), positive, weight))
    expected = [
        -w * math.log(math.exp(q @ items[p]) / sum(math.exp(q @ i) for i in items))
        for q, p, w in zip(queries, positive, weight.tolist(), strict=True)
    ]
    assert loss.total.item() == pytest.approx(sum(expected))
    assert loss.weight.item() == pytest.approx(weight.sum().item())


def test_sampled_softmax_with_draws_of_its_own_masks_collisions(world: World) -> None:
    queries, items, positive, weight, keys = detached(world)
    drawn = uniform(keys, 40, V)  # 40 draws out of 15: the positive is among them
    assert (drawn == positive[:, None]).any(dim=1).sum() >= S - 2
    loss = sampled_softmax(Contrast(queries, Items.of(items), positive, weight, Negatives(each=40), keys))
    expected = 0.0
    for s in range(S):
        own = math.exp(queries[s] @ items[positive[s]])
        others = sum(math.exp(queries[s] @ items[r]) for r in drawn[s] if r != positive[s])
        expected -= weight[s].item() * math.log(own / (own + others))
    assert loss.total.item() == pytest.approx(expected)


def test_shared_negatives_equal_the_same_negatives_for_each(world: World) -> None:
    queries, items, positive, weight, keys = detached(world)
    shared = torch.tensor([1, 3, 3, 8])
    loss = sampled_softmax(Contrast(queries, Items.of(items), positive, weight, Negatives(shared=shared), keys))
    expected = 0.0
    for s in range(S):
        own = math.exp(queries[s] @ items[positive[s]])
        others = sum(math.exp(queries[s] @ items[r]) for r in shared if r != positive[s])
        expected -= weight[s].item() * math.log(own / (own + others))
    assert loss.total.item() == pytest.approx(expected)


def test_log_q_makes_popularity_samples_estimate_the_full_softmax() -> None:
    """Negatives drawn from a skewed law, many: the corrected loss approaches the full one, the plain does not."""
    torch.manual_seed(3)
    queries, items = torch.randn(1, P, dtype=torch.float64), torch.randn(V, P, dtype=torch.float64)
    law = torch.linspace(0.01, 1, V, dtype=torch.float64)
    law = law / law.sum()
    count = 200_000
    shared = torch.multinomial(law, count, replacement=True)
    positive, one, keys = torch.tensor([2]), torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    log_expected = torch.log(law * count)
    kept = Negatives(shared, log_q=log_expected[shared])
    full = softmax(Contrast(queries, Items.of(items), positive, one)).total.item()
    given = queries, Items.of(items), positive, one
    assert sampled_softmax(Contrast(*given, kept, keys)).total.item() == pytest.approx(full, rel=0.02)
    plain = sampled_softmax(Contrast(*given, Negatives(shared), keys)).total.item()
    assert abs(plain - full) > 0.5


def test_bce_and_gbce_follow_the_paper(world: World) -> None:
    queries, items, positive, weight, keys = detached(world)
    drawn = uniform(keys, 5, V)

    def sigmoid(x: torch.Tensor) -> float:
        return 1 / (1 + math.exp(-x))

    for calibration in (0.0, 0.75, 1.0):
        alpha = 5 / (V - 1)
        beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
        expected = 0.0
        for s in range(S):
            loss = -math.log(sigmoid(queries[s] @ items[positive[s]]) ** beta)
            loss -= sum(math.log(1 - sigmoid(queries[s] @ items[r])) for r in drawn[s] if r != positive[s])
            expected += weight[s].item() * loss
        given = Items.of(items), positive, weight, Negatives(each=5), keys
        got = generalised_bce(Contrast(queries, *given), calibration=calibration)
        assert got.total.item() == pytest.approx(expected)
    assert alpha * (1 - 1 / alpha) + 1 == pytest.approx(alpha)  # t = 1: β = α


def test_draws_are_functions_of_the_key(world: World) -> None:
    *_, keys = world
    drawn = uniform(keys, 50, V)
    order = torch.randperm(S)
    assert torch.equal(uniform(keys[order], 50, V), drawn[order])
    assert torch.equal(uniform(keys[:3], 7, V), drawn[:3, :7])
    assert drawn.min() == 0 and drawn.max() == V - 1


def test_a_correction_that_would_not_be_applied_is_refused() -> None:
    with pytest.raises(ConfigError, match="drawn for each target and not corrected"):
        NegativesConfig(kind="uniform", correction="negatives")
    with pytest.raises(ConfigError, match="correction for a binary loss"):
        BCEConfig(negatives=NegativesConfig(kind="in-batch", correction="negatives"))


@pytest.mark.parametrize("size", [chunked.CHUNK_LOGITS, 2 * V, 1])  # all targets at once, two at a time, one at a time
@pytest.mark.parametrize("kind", ["softmax", "sampled", "gbce"])
def test_chunks_change_neither_losses_nor_gradients(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str, size: int
) -> None:
    queries, items, positive, weight, keys = world
    rows = torch.randperm(V)[:V]
    log_q, log_q_positive = torch.randn(V, dtype=torch.float64), torch.randn(S, dtype=torch.float64)
    monkeypatch.setattr(chunked, "CHUNK_LOGITS", size)
    logits = queries @ items.T
    own, others = logits.gather(1, positive[:, None])[:, 0], logits[:, rows]
    mine = rows == positive[:, None]
    if kind == "softmax":
        found = softmax(Contrast(queries, Items.of(items), positive, weight)).total
        plain = torch.logsumexp(logits, 1) - own
    elif kind == "sampled":
        shared = Negatives(shared=rows, log_q=log_q, log_q_positive=log_q_positive)
        found = sampled_softmax(Contrast(queries, Items.of(items), positive, weight, shared, keys)).total
        own = own - log_q_positive
        plain = torch.logsumexp(torch.cat([own[:, None], (others - log_q).masked_fill(mine, -torch.inf)], 1), 1) - own
    else:
        others_ = Negatives(shared=rows)
        found = generalised_bce(
            Contrast(queries, Items.of(items), positive, weight, others_, keys), calibration=0.75
        ).total
        negative = -torch.log1p(-torch.sigmoid(others)).masked_fill(mine, 0)
        plain = -gbce_beta(V, V, 0.75) * torch.log(torch.sigmoid(own)) + negative.sum(1)
    expected = (plain * weight).sum()
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(3 * found, (queries, items)),
        torch.autograd.grad(3 * expected, (queries, items)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


Total = Callable[[], torch.Tensor]


def totals_of_many() -> dict[str, Total]:
    """More targets than torch adds up with one thread."""
    random = torch.Generator().manual_seed(0)
    queries, items, weight = (torch.randn(shape, generator=random) for shape in ((40_000, 3), (20, 3), (40_000,)))
    keys = torch.arange(40_000)
    given = queries, Items.of(items), keys % 20, weight
    fused = {
        name: lambda name=name: sampled_loss(
            name, queries, items, keys % 20, keys, weight, negatives=2, cosine=True, binary=True
        )
        for name in backend.available()
        if name != backend.REFERENCE
    }
    return {
        **fused,
        "weight": lambda: softmax(Contrast(queries, Items.of(items), keys % 20, weight)).weight,
        "softmax": lambda: softmax(Contrast(queries, Items.of(items), keys % 20, weight)).total,
        "sampled": lambda: sampled_softmax(Contrast(*given, Negatives(each=2), keys)).total,
        "shared": lambda: generalised_bce(Contrast(*given, Negatives(shared=torch.arange(5)), keys)).total,
    }


@pytest.mark.parametrize("of", totals_of_many())
def test_a_total_does_not_tell_how_many_threads_there_are(of: str, threads: None) -> None:
    total = totals_of_many()[of]
    torch.set_num_threads(1)
    alone = total()
    torch.set_num_threads(2)
    assert torch.equal(total(), alone)


@pytest.mark.parametrize("count", [0, 1, 1024, 1025, 40_000, 2_000_000])
def test_summed_is_the_sum(count: int) -> None:
    x = torch.rand(count, generator=torch.Generator().manual_seed(1)).requires_grad_()
    total = summed(x)
    assert total.dtype == x.dtype and total.item() == pytest.approx(x.double().sum().item(), rel=1e-6)
    assert torch.equal(torch.autograd.grad(total, x)[0], torch.ones(count))


@pytest.mark.parametrize("kernels", [name for name in backend.available() if name != backend.REFERENCE])
@pytest.mark.skipif(not STATM.exists(), reason="reads Linux's count of pages")
def test_a_sampled_cosine_reads_the_drawn_rows_alone(kernels: str, tmp_path: Path) -> None:
    """A step's cost follows its targets, not the catalogue: of a table of half a GiB hardly a page is ever loaded."""
    rows, width = 2**21, 64
    with (tmp_path / "table").open("wb") as file:
        file.truncate(4 * rows * width)
    table = torch.from_file(str(file.name), shared=True, size=rows * width).view(rows, width).requires_grad_()
    queries, positive, keys = torch.randn(16, width), torch.arange(16), torch.arange(16)
    before = int(STATM.read_text().split()[1])
    sampled_loss(kernels, queries, table, positive, keys, torch.ones(16), negatives=4, cosine=True).backward()
    loaded = (int(STATM.read_text().split()[1]) - before) * resource.getpagesize()
    assert loaded < 64 << 20, f"{loaded >> 20} MiB more of the 512 that the table has"
    assert table.grad is not None and table.grad.is_sparse and len(table.grad.coalesce().indices()[0]) <= 16 * 5
