"""What callers rarely give and may: other strides, dtypes and scales, endless numbers, sizes that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from facta import ops
from facta.encoders.hstu import HSTUConfig, HSTULayer
from facta.ops import backend
from facta.ops.buckets import LAST_BUCKET, boundaries
from facta.ops.loss import sampled_loss
from facta.types import TokenBatch
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
    tables = [table.bfloat16() for table in random_like(5, (50,), (LAST_BUCKET + 1,))]

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
    (table,) = random_like(3, (LAST_BUCKET + 1,))
    assert tokens.time is not None and tokens.query_time is not None
    for wrong in (
        replace(tokens, offsets=torch.tensor([0, 400_000, 13])),
        replace(tokens, time=tokens.time[:1]),
        replace(tokens, query_time=tokens.query_time[:1]),
    ):
        with pytest.raises(ValueError, match="shape mismatch"):
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


def test_positions_of_a_row_that_a_window_has_cut_do_not_start_at_0(kernels: str) -> None:
    """Distances count alone: the same bits wherever a row begins, and gradients of the table too."""
    tokens = tokens_of([70, 150], seed=2)
    q, k, v, grad = random_like(4, *[(220, 2, 6)] * 4)
    (table,) = random_like(5, (1000,))
    moved = replace(tokens, position=tokens.position + torch.tensor([37, 850]).repeat_interleave(tokens.offsets.diff()))

    def run(tokens: TokenBatch) -> list[Tensor]:
        attend = partial(ops.hstu_attention, scale=0.1)
        return gradients(lambda *x: attend(*x[:3], ops.Geometry(tokens), position_bias=x[3]), grad, q, k, v, table)

    found, expected = run(moved), run(tokens)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert found[4][:150].abs().min() > 0 and (found[4][150:] == 0).all()


@pytest.mark.parametrize("endless", [torch.nan, torch.inf])
@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("width", [7, 50, 64])
@pytest.mark.parametrize("targets", [5, 600])  # item vectors are read where they lie, or from a copy
def test_an_item_of_no_numbers_spoils_no_logit_but_its_own(
    kernels: str, width: int, cosine: bool, targets: int, endless: float
) -> None:
    queries, items = random_like(3, (targets, width), (400, width))
    positive = torch.tensor([6, 7, 8, 399, 0]).repeat(targets // 5)
    spoiled = items.clone()
    spoiled[7] = endless

    def slopes(items: Tensor) -> tuple[Tensor, Tensor]:
        given = (kernels, queries, items, positive, torch.arange(targets), torch.ones(targets))
        return torch.ops.facta.sampled_loss(*given, 40, cosine, True, 1.0, True)[2:]

    rows, plain = slopes(items)
    found = slopes(spoiled)[1]
    assert torch.equal(found[rows != 7], plain[rows != 7])
    assert endless == torch.inf or found[1, 0].isnan()


EXTREME = torch.tensor([-torch.inf, -1e36, -1e30, -200, -89, 0, 89, 200, 1e30, 1e36, torch.inf, torch.nan]).repeat(3)


def test_silu_far_from_zero(kernels: str) -> None:
    """-1e36 times a sigmoid that stops short of 0 would be a number that one sees."""
    leaf = EXTREME.clone().requires_grad_()
    expected = F.silu(leaf)
    (slope,) = torch.autograd.grad(expected.sum(), leaf)
    close = {"rtol": 1e-5, "atol": 1e-30, "equal_nan": True}
    torch.testing.assert_close(ops.pointwise.silu(kernels, EXTREME[None])[0], expected.detach(), **close)

    x, zeros = torch.tensor([[1.0, -1.0]]), torch.zeros(2, len(EXTREME))
    parts = torch.ones(1, len(EXTREME)).split(9, dim=1)
    given = (kernels, torch.zeros_like(x), x, EXTREME[None], zeros, *(part.contiguous() for part in parts), 1e-6)
    torch.testing.assert_close(torch.ops.facta.project_backward(*given)[1][0], slope, **close)


def test_attention_to_scores_far_from_zero(kernels: str) -> None:
    tokens, zeros, ones = tokens_of([1] * 70, seed=1), torch.zeros(70, 1, 2), torch.ones(70, 1, 2)

    def run(score: float) -> list[Tensor]:
        table = torch.tensor([score])
        return gradients(
            lambda table, v: ops.hstu_attention(zeros, zeros, v, ops.Geometry(tokens), position_bias=table),
            ones, table, ones,
        )  # fmt: skip

    for score in EXTREME.unique().tolist():
        found = run(score)
        with ops.backend.use(ops.backend.REFERENCE):
            expected = run(score)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-30, equal_nan=True)


def test_what_is_written_to_is_never_a_converted_copy(kernels: str) -> None:
    native = backend.module()
    assert native is not None
    x, keys = torch.ones(3, 4), torch.arange(3)
    for wrong in (torch.zeros(3, 4, dtype=torch.float64), torch.zeros(4, 3).t()):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            native.silu(kernels, 1, x, wrong)
        with pytest.raises(TypeError, match="incompatible function arguments"):
            native.dropout(kernels, 1, x, keys, 0.5, 1, wrong)
    made = (torch.zeros(3, 3, dtype=torch.int64), torch.zeros(3, 3), torch.zeros(3), None)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        native.sampled_loss(kernels, 1, x, x, keys, keys, x[:, 0].contiguous(), True, 1e-6, False, 1.0, *made)


def test_attention_is_stored_in_one_type(kernels: str) -> None:
    tokens, (q, k, v, grad) = tokens_of([9, 4], seed=1), random_like(2, *[(13, 1, 6)] * 4)
    where = (tokens.offsets, tokens.sees, tokens.position, None, None, None, None, boundaries(), 1.0, None)
    past = torch.empty(0, 5, dtype=torch.int64)
    native = backend.module()
    assert native is not None
    for wrong in (k.bfloat16(), k.double()):
        with pytest.raises(ValueError, match="type mismatch"):
            native.hstu_attention(kernels, 1, q, wrong, v, *where, past, torch.empty_like(q))
        with pytest.raises(ValueError, match="type mismatch"):
            native.hstu_attention(kernels, 1, q, k, v, *where, past, wrong)
        with pytest.raises(ValueError, match="type mismatch"):
            native.hstu_attention_backward(kernels, 1, q, k, v, *where, grad, wrong, k, v, None, None)
    q, k, v, out = (x.half() for x in (q, k, v, q))
    with pytest.raises(ValueError, match="must be float32 or bfloat16"):
        native.hstu_attention(kernels, 1, q, k, v, *where, past, out)
