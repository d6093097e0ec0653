"""The same numbers again, bit by bit: a layer's own operators and the losses, from run to run and batch to batch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from facta import jagged, ops
from facta.encoders.hstu import HSTUConfig, HSTULayer
from facta.ops import backend
from facta.ops.loss import EPS
from facta.types import TokenBatch
from tests.numerics.test_kernels import KERNELS, random_like, row_of, tokens_of

LENGTHS = [70, 1, 300, 0, 140]
pytestmark = pytest.mark.skipif(not KERNELS, reason="facta was installed without its compiled kernels")


@pytest.fixture(params=KERNELS or ["none"])
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    with backend.use(request.param):
        yield request.param


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def a_layer(width: int) -> HSTULayer:
    torch.manual_seed(0)
    config = HSTUConfig(heads=2, qk_width=9, v_width=20, dropout=0.3, init_std=0.3)
    return HSTULayer(config, width=width, window=300, salt=1)


@pytest.mark.parametrize("width", [20, 64])
def test_gradients_of_a_layer_are_the_same_bits_on_every_run(kernels: str, threads: None, width: int) -> None:
    """At a fixed number of threads: each adds up the weights' gradient of its own tokens."""
    tokens, (x, grad) = tokens_of(LENGTHS, seed=8), random_like(9, *[(sum(LENGTHS), width)] * 2)
    layer = a_layer(width)

    def once() -> list[Tensor]:
        leaf = x.clone().requires_grad_()
        out = layer(leaf, tokens, ops.Geometry(tokens))
        return [out.detach(), *torch.autograd.grad(out, [leaf, *layer.parameters()], grad)]

    first = once()
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(once(), first, strict=True))


def joined(rows: list[TokenBatch]) -> TokenBatch:
    """Rows in another order, or fewer of them."""
    names = ("kind", "source", "time", "query_time", "position", "sees", "key")
    parts = {name: torch.cat([getattr(row, name) for row in rows]) for name in names}
    lengths = torch.tensor([len(row.sees) for row in rows])
    return TokenBatch(offsets=jagged.offsets_of(lengths), reads={}, **parts)


@pytest.mark.parametrize("width", [20, 64])
def test_a_row_through_a_layer_does_not_depend_on_the_batch(kernels: str, threads: None, width: int) -> None:
    """Dropout included: it is drawn for a token's key, and who else is there changes nothing."""
    tokens, (x,) = tokens_of(LENGTHS, seed=8), random_like(9, (sum(LENGTHS), width))
    layer, bounds = a_layer(width), tokens.offsets.tolist()
    places = [torch.arange(start, end) for start, end in pairwise(bounds)]
    rows = [row_of(tokens, start, end) for start, end in pairwise(bounds)]

    def out(chosen: list[int]) -> Tensor:
        batch, at = joined([rows[b] for b in chosen]), torch.cat([places[b] for b in chosen])
        with torch.no_grad():
            return layer(x[at], batch, ops.Geometry(batch))

    everything = out([0, 1, 2, 3, 4])
    for chosen in ([4, 2, 0, 3, 1], [2], [1], [1, 4], [2, 2, 0]):
        assert torch.equal(out(chosen), everything[torch.cat([places[b] for b in chosen])]), chosen


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("width", [20, 64])
def test_a_target_s_loss_does_not_depend_on_the_order_of_the_batch(
    kernels: str, threads: None, width: int, binary: bool
) -> None:
    queries, items = random_like(3, (600, width), (90, width))
    positive, keys, weight = torch.arange(600) % 90, torch.arange(600), torch.rand(600)
    native = backend.module()
    assert native is not None

    def each(at: Tensor) -> list[Tensor]:
        rows = torch.empty(len(at), 17, dtype=torch.int32)
        slopes, losses, d_queries = torch.empty(len(at), 17), torch.empty(len(at)), torch.empty(len(at), width)
        native.sampled_loss(
            kernels, torch.get_num_threads(), queries[at], items, positive[at], keys[at], weight[at], True, EPS,
            binary, 1.0, rows, slopes, losses, d_queries,
        )  # fmt: skip
        return [rows, slopes, losses, d_queries]

    everything = each(torch.arange(600))
    order = torch.randperm(600, generator=torch.Generator().manual_seed(1))
    for at in (order, order[:70], order[:1], torch.tensor([7, 7, 3])):
        assert all(torch.equal(found, whole[at]) for found, whole in zip(each(at), everything, strict=True))
