"""What callers rarely give and may: other strides, dtypes and scales, endless numbers, sizes that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from facta import ops
from facta.encoders.hstu import HSTUConfig, HSTULayer
from facta.ops import backend
from facta.ops.buckets import LAST
from facta.ops.loss import sampled_loss
from tests.numerics.test_kernels import far, gradients, random_like, tokens_of

KERNELS = [name for name in backend.available() if name != backend.REFERENCE]
pytestmark = pytest.mark.skipif(not KERNELS, reason="facta was installed without its compiled kernels")


@pytest.fixture(params=KERNELS or ["none"])
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    with backend.use(request.param):
        yield request.param


def test_what_lies_in_memory_another_way_is_computed_alike(kernels: str) -> None:
    tokens, (x, grad) = tokens_of([30, 11], seed=2), random_like(3, (41, 12), (41, 12))
    torch.manual_seed(0)
    layer = HSTULayer(HSTUConfig(heads=2, dropout=0.0, init_std=0.3), width=12, window=50, salt=1)
    with torch.no_grad():
        layer.uvqk.set_(layer.uvqk.t().contiguous().t())
    leaves = [layer.uvqk, layer.out.weight]

    def run(x: Tensor) -> list[Tensor]:
        x = x.requires_grad_()
        out = layer(x, tokens, ops.Geometry(tokens))
        return [out.detach(), *torch.autograd.grad(out, [x, *leaves], grad)]

    turned = x.t().contiguous().t()
    assert not turned.is_contiguous() and not layer.uvqk.is_contiguous()
    found, plain = run(turned), run(x.clone())
    with ops.backend.use(ops.backend.REFERENCE):
        expected = run(x.clone())
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    assert all(far(a, b.double()) < 1e-4 for a, b in zip(found, expected, strict=True))


def test_tables_stored_as_bfloat16_have_gradients(kernels: str) -> None:
    tokens = tokens_of([50, 7], seed=3)
    q, k, v, grad = (x.bfloat16() for x in random_like(4, *[(57, 1, 8)] * 4))
    tables = [table.bfloat16() for table in random_like(5, (50,), (LAST + 1,))]

    def run() -> list[Tensor]:
        leaves = [table.clone().requires_grad_() for table in tables]
        out = ops.hstu_attention(q, k, v, ops.Geometry(tokens), position_bias=leaves[0], time_bias=leaves[1], scale=0.1)
        return list(torch.autograd.grad(out, leaves, grad))

    found = run()
    with ops.backend.use(ops.backend.REFERENCE):
        expected = run()
    assert [one.dtype for one in found] == [torch.bfloat16] * 2
    assert all(far(a, b.double()) < 2**-5 for a, b in zip(found, expected, strict=True))


def test_another_default_dtype_changes_nothing(kernels: str) -> None:
    tokens = tokens_of([9, 4], seed=1)
    q, k, v, grad = random_like(2, *[(13, 2, 6)] * 4)

    def run() -> list[Tensor]:
        return gradients(lambda *x: ops.softmax_attention(*x, ops.Geometry(tokens), scale=0.4), grad, q, k, v)

    expected = run()
    torch.set_default_dtype(torch.float64)
    try:
        found = run()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_scale_of_one_number_and_one_that_learns(kernels: str) -> None:
    tokens = tokens_of([9, 4], seed=1)
    q, k, v = random_like(2, *[(13, 1, 6)] * 3)
    whole = ops.hstu_attention(q, k, v, ops.Geometry(tokens), scale=0.5)
    assert far(ops.hstu_attention(q, k, v, ops.Geometry(tokens), scale=torch.tensor([0.5])), whole.double()) < 1e-6
    scale = torch.full((13,), 0.5, requires_grad=True)
    ops.hstu_attention(q, k, v, ops.Geometry(tokens), scale=scale).sum().backward()
    assert scale.grad is not None and scale.grad.abs().sum() > 0


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("width", [7, 64])
def test_a_target_s_loss_does_not_depend_on_the_batch(kernels: str, width: int, cosine: bool) -> None:
    """Among few targets item vectors are read where they lie, among many from a copy."""
    queries, items = random_like(3, (600, width), (900, width))
    positive, keys = torch.arange(600) % 900, torch.arange(600)

    def slopes(count: int) -> tuple[Tensor, Tensor]:
        given = (kernels, queries[:count], items, positive[:count], keys[:count], torch.ones(count))
        _, d_queries, _, slopes = torch.ops.facta.sampled_loss(*given, 16, cosine, False, 1.0, True)
        return d_queries[:100], slopes[:100]

    assert all(torch.equal(a, b) for a, b in zip(slopes(100), slopes(600), strict=True))


def test_an_endless_logit_is_no_perfect_loss(kernels: str) -> None:
    queries, items = torch.full((1, 4), 1e20), torch.full((3, 4), 1e20)
    one = torch.zeros(1, dtype=torch.int64)
    assert sampled_loss(kernels, queries, items, one, one, torch.ones(1), negatives=4, cosine=False).isnan()


def test_offsets_and_times_that_cannot_be_are_refused(kernels: str) -> None:
    tokens = tokens_of([9, 4], seed=1)
    q, k, v = random_like(2, *[(13, 1, 6)] * 3)
    (table,) = random_like(3, (LAST + 1,))
    assert tokens.time is not None and tokens.query_time is not None
    for wrong in (
        replace(tokens, offsets=torch.tensor([0, 400_000, 13])),
        replace(tokens, time=tokens.time[:1]),
        replace(tokens, query_time=tokens.query_time[:1]),
    ):
        with pytest.raises(ValueError, match="sizes disagree"):
            torch.ops.facta.hstu_attention(
                kernels, q, k, v, wrong.offsets, wrong.sees, wrong.position, wrong.time, wrong.query_time, None, table,
                None, 1.0, [],
            )  # fmt: skip


def test_short_rows_do_not_pay_for_a_long_table(kernels: str) -> None:
    """Their gradients are the same, and zero where no distance is."""
    tokens = tokens_of([8] * 30, seed=2)
    q, k, v, grad = random_like(4, *[(240, 1, 6)] * 4)
    (long,) = random_like(5, (5000,))

    def of(table: Tensor) -> Tensor:
        leaf = table.clone().requires_grad_()
        out = ops.hstu_attention(q, k, v, ops.Geometry(tokens), position_bias=leaf)
        return torch.autograd.grad(out, leaf, grad)[0]

    reach = int(tokens.position.max()) + 1
    assert torch.equal(of(long)[:reach], of(long[:reach])) and (of(long)[reach:] == 0).all()
