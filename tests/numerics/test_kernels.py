"""Every compiled kernel equals the reference in float64, for any shape, mask and instruction set, and always the same
way: forward whatever the threads, the batch and its order; gradients bit by bit from run to run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from facta import draws, jagged, ops
from facta.encoders.hstu import HSTUConfig, HSTULayer
from facta.objectives import losses
from facta.objectives.items import Items
from facta.objectives.losses import gbce_beta, uniform
from facta.ops import backend
from facta.ops.buckets import LAST_BUCKET, boundaries
from facta.ops.loss import sampled_loss
from facta.ops.reference import hstu_attention, softmax_attention
from facta.types import Negatives, TokenBatch

KERNELS = [name for name in backend.available() if name != backend.REFERENCE]
TOLERANCE = 2e-5  # of the largest value of a tensor
pytestmark = pytest.mark.skipif(not KERNELS, reason="facta was installed without its compiled kernels")


@pytest.fixture(params=KERNELS or ["none"])
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    with backend.use(request.param):
        yield request.param


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def far(found: Tensor, expected: Tensor, least: float = 1e-3) -> float:
    """max |a - b| / max |b|, at least `least`: what is all but zero is told by the size of what cancels in it."""
    if expected.numel() == 0:
        return 0.0
    return float((found.double() - expected).abs().max() / expected.abs().max().clamp_min(least))


def close(found: list[Tensor], expected: list[Tensor], cancelling: tuple[int, ...] = ()) -> bool:
    """All within TOLERANCE. At the places `cancelling` lie sums of terms near 1 that may be 0 exactly, and float32 has
    no digits for that: the gradient of a softmax over one key, of a direction in one dimension, of a table's one entry.
    """
    floors = [0.2 if place in cancelling else 1e-3 for place in range(len(expected))]
    return all(far(*each) < TOLERANCE for each in zip(found, expected, floors, strict=True))


def tokens_of(lengths: list[int], seed: int, sees: str = "causal", stride: int = 1, start: int = 0) -> TokenBatch:
    """Random rows: gaps of milliseconds to decades, a fifth of the times equal to the one before; positions of
    every other row from `start`.
    """
    random = torch.Generator().manual_seed(seed)
    offsets = jagged.offsets_of(torch.tensor(lengths))
    place, row, total = jagged.places(offsets), jagged.rows(offsets), sum(lengths)
    gap = (torch.rand(total, generator=random) * 10 ** (11 * torch.rand(total, generator=random))).long()
    gap[torch.rand(total, generator=random) < 0.2] = 0
    time = gap.cumsum(0) + 1_500_000_000_000
    query_time = torch.cat([time[1:], time[-1:]]) if total else time
    length = torch.tensor(lengths)[row]
    seen = {
        "causal": place,
        "targets": torch.minimum(place, 2 * length // 3),
        "prefix": torch.maximum(place, length // 4),
        "any": (torch.rand(total, generator=random) * (length + 1)).long(),
    }[sees]
    key = draws.mix(torch.arange(total), seed)
    position = place * stride + start * (1 - row % 2)
    return TokenBatch(offsets, torch.zeros_like(place), place, time, query_time, position, seen, key, {})


def random_like(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=random) for shape in shapes]


@dataclass(frozen=True)
class Shape:
    lengths: list[int]
    heads: int
    dqk: int
    dv: int
    sees: str
    stride: int  # from one position to the next
    start: int  # first position of every other row: what a window has cut begins later
    seed: int


shapes = st.builds(
    Shape,
    lengths=st.lists(st.integers(0, 70) | st.sampled_from([1, 129, 300]), min_size=1, max_size=4),
    heads=st.integers(1, 3),
    dqk=st.integers(1, 40),
    dv=st.integers(1, 40),
    sees=st.sampled_from(["causal", "targets", "prefix", "any"]),
    stride=st.sampled_from([1, 1, 3]),
    start=st.sampled_from([0, 0, 37, 200]),
    seed=st.integers(0, 1 << 30),
)


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=25, deadline=None)
@given(shape=shapes, bias=st.sampled_from(["none", "position", "time", "both"]), per_token=st.booleans())
def test_hstu_attention(name: str, shape: Shape, bias: str, per_token: bool) -> None:
    tokens, (q, k, v, grad) = drawn(shape)
    longest = int(tokens.position.max()) + 1 if len(q) else 1
    tables = random_like(5, (longest,), (LAST_BUCKET + 1,))
    position, time = (
        t if bias in (part, "both") else None for t, part in zip(tables, ("position", "time"), strict=True)
    )
    scale = torch.rand(len(q)) if per_token else torch.full((len(q),), 1 / 211)

    def attend(attention, scale, q, k, v, position, time):  # type: ignore[no-untyped-def]
        return attention(q, k, v, ops.Geometry(tokens), position_bias=position, time_bias=time, scale=scale)

    fused = partial(attend, ops.hstu_attention, scale if per_token else 1 / 211)
    with backend.use(name):
        found = gradients(fused, grad, q, k, v, position, time)
    exact = [None if x is None else x.double() for x in (q, k, v, position, time)]
    expected = gradients(partial(attend, hstu_attention, scale.double()), grad.double(), *exact)
    assert close(found, expected, cancelling=(4, 5))


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=25, deadline=None)
@given(shape=shapes, dropout=st.sampled_from([0.0, 0.3]))
def test_softmax_attention(name: str, shape: Shape, dropout: float) -> None:
    tokens, (q, k, v, grad) = drawn(shape)
    settings_ = {"scale": q.shape[2] ** -0.5, "dropout": dropout, "salt": 9}
    with backend.use(name):
        found = gradients(lambda *x: ops.softmax_attention(*x, ops.Geometry(tokens), **settings_), grad, q, k, v)
    exact = [x.double() for x in (q, k, v)]
    expected = gradients(lambda *x: softmax_attention(*x, ops.Geometry(tokens), **settings_), grad.double(), *exact)
    assert close(found, expected, cancelling=(1, 2))


@dataclass(frozen=True)
class Case:
    targets: int
    items: int
    width: int
    count: int
    kind: str
    cosine: bool
    seed: int


cases = st.builds(
    Case,
    targets=st.integers(1, 60),
    items=st.integers(2, 90) | st.sampled_from([5000, 20_000]),  # many: the gradient is row-sparse
    width=st.integers(1, 70),
    count=st.integers(1, 50),
    kind=st.sampled_from(["softmax", "bce", "gbce"]),
    cosine=st.booleans(),
    seed=st.integers(0, 1 << 30),
)


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=25, deadline=None)
@given(case=cases)
@example(case=Case(targets=22, items=5000, width=1, count=2, kind="softmax", cosine=True, seed=1))
@example(case=Case(targets=39, items=39, width=39, count=38, kind="bce", cosine=False, seed=38))
def test_sampled_losses(name: str, case: Case) -> None:
    targets, items, count, seed = case.targets, case.items, case.count, case.seed
    queries, table, weight = random_like(seed, (targets, case.width), (items, case.width), (targets,))
    table[0] = 0  # an item vector without a length
    weight = weight.abs()  # signed ones would let losses of thousands cancel in the sum, and rounding be all of it
    positive = draws.below(draws.mix(torch.arange(targets), seed), items)
    keys = draws.mix(torch.arange(targets), seed + 1)
    calibration = 0.75 if case.kind == "gbce" else 0.0

    def fused(q: Tensor, t: Tensor) -> Tensor:
        beta = gbce_beta(count, items, calibration)
        return sampled_loss(
            name,
            q,
            t,
            positive,
            keys,
            weight,
            negatives=count,
            cosine=case.cosine,
            binary=case.kind != "softmax",
            beta=beta,
        )

    def exact(q: Tensor, t: Tensor) -> Tensor:
        vectors, given_, heavy = (
            F.normalize(t, dim=-1, eps=1e-6) if case.cosine else t,
            Negatives(each=count),
            weight.double(),
        )
        compared = losses.Contrast(q, Items.of(vectors), positive, heavy, given_, keys)
        if case.kind == "softmax":
            return losses.sampled_softmax(compared).total
        return losses.generalised_bce(compared, calibration=calibration).total

    one = torch.ones(())
    found = gradients(fused, one, queries, table)
    expected = gradients(exact, one.double(), queries.double(), table.double())
    if case.cosine:  # through the norm both terms of a gradient grow with 1 / length, and nearly cancel
        length = table.norm(dim=1, keepdim=True).clamp_min(1e-6)
        found[2], expected[2] = found[2] * length, expected[2] * length
    assert close(found, expected, cancelling=(2,) if case.cosine else ())


@pytest.mark.parametrize("width", [1, 16, 50, 129])
def test_dropout_and_gate(kernels: str, width: int) -> None:
    o, wide, grad = random_like(1, (200, width), (200, 3 * width), (200, width))
    u, keys = wide[:, width : 2 * width], draws.mix(torch.arange(200), 7)
    assert torch.equal(ops.dropout(o, 0.3, keys, 5), draws.dropout(o, 0.3, keys, 5))
    for p in (0.0, 0.3):
        found = gradients(lambda o, u, p=p: ops.gate(o, u, keys, p=p, salt=5, eps=1e-6), grad, o, u)
        expected = gradients(
            lambda o, u, p=p: draws.dropout(u * F.layer_norm(o, (width,), eps=1e-6), p, keys, 5),
            grad.double(), o.double(), u.double(),
        )  # fmt: skip
        assert close(found, expected)


@pytest.mark.parametrize("shape", [(0, 7), (1, 1), (3, 5), (7, 33), (200, 16)])
def test_silu(kernels: str, shape: tuple[int, int]) -> None:
    (z,) = random_like(1, shape)
    assert far(ops.pointwise.silu(kernels, z), F.silu(z.double())) < TOLERANCE


@pytest.mark.parametrize("kind", ["none", "position", "time", "both", "softmax"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("width", "qk", "v"), [(12, 5, 7), (64, 32, 16), (70, 80, 90)])  # the last: several tiles wide
def test_a_whole_layer_is_its_parts(kernels: str, kind: str, dropout: float, width: int, qk: int, v: int) -> None:
    tokens = tokens_of([60, 0, 1, 150], seed=2)
    torch.manual_seed(0)
    config = HSTUConfig(heads=2, qk_width=qk, v_width=v, bias="none", dropout=dropout, init_std=0.3)
    config = config.change(**{"attention" if kind == "softmax" else "bias": kind})
    layer = HSTULayer(config, width=width, window=200, salt=100)
    x, grad = random_like(3, (211, width), (211, width))

    def both(layer: HSTULayer, forward: str, x: Tensor, grad: Tensor) -> list[Tensor]:
        leaf = x.clone().requires_grad_()
        out = getattr(layer, forward)(leaf, tokens, ops.Geometry(tokens))
        return [out.detach(), *torch.autograd.grad(out, [leaf, *layer.parameters()], grad)]

    found = both(layer, "forward", x, grad)
    expected = both(layer.double(), "by_parts", x.double(), grad.double())
    assert close(found, expected)


def test_time_buckets_are_exact_at_every_boundary(kernels: str) -> None:
    """With queries and keys of zero and one key per query, attention writes out the bias of that one pair."""
    edges = boundaries()[boundaries() < 1 << 60]
    apart = torch.cat([edges - 1, edges, edges + 1, -edges, torch.tensor([0, 1, -1])])
    apart = apart[apart.abs() < 1 << 52]  # a hundred thousand years: exact as doubles
    n = len(apart)
    zeros, ones = torch.zeros(2 * n, 1, 1), torch.ones(2 * n, 1, 1)
    time = torch.stack([torch.zeros_like(apart), apart], dim=1).flatten()
    tokens = TokenBatch(
        offsets=2 * torch.arange(n + 1), kind=torch.zeros(2 * n), source=torch.arange(2 * n),
        time=torch.zeros_like(time), query_time=time, position=torch.zeros(2 * n, dtype=torch.int64),
        sees=torch.arange(2).repeat(n), key=torch.zeros(2 * n), reads={},
    )  # fmt: skip
    table = torch.arange(LAST_BUCKET + 1.0) + 100  # SiLU(x) = x there
    out = ops.hstu_attention(zeros, zeros, ones, ops.Geometry(tokens), time_bias=table)[1::2, 0, 0]
    assert torch.equal(out / 2 - 100, ops.buckets.bucket(apart).float())


def test_bfloat16_is_stored_and_float32_added(kernels: str) -> None:
    tokens = tokens_of([150, 1, 40], seed=3)
    q, k, v, grad = (x.bfloat16() for x in random_like(4, *[(191, 2, 24)] * 4))
    tables = random_like(5, (150,), (LAST_BUCKET + 1,))

    def attend(attention, tables, *x):  # type: ignore[no-untyped-def]
        return attention(*x, ops.Geometry(tokens), position_bias=tables[0], time_bias=tables[1], scale=0.1)

    found = gradients(partial(attend, ops.hstu_attention, tables), grad, q, k, v)
    exact = partial(attend, hstu_attention, [table.double() for table in tables])
    expected = gradients(exact, grad.double(), q.double(), k.double(), v.double())
    assert found[0].dtype == torch.bfloat16
    assert all(far(a, b) < 2**-8 for a, b in zip(found, expected, strict=True))


def test_forward_depends_neither_on_threads_nor_on_the_batch(kernels: str, threads: None) -> None:
    lengths = [70, 0, 300, 1, 140]
    tokens = tokens_of(lengths, seed=8)
    q, k, v = random_like(9, *[(sum(lengths), 2, 20)] * 3)
    tables = random_like(5, (300,), (LAST_BUCKET + 1,))

    def out(tokens: TokenBatch, *x: Tensor) -> Tensor:
        biased = ops.hstu_attention(*x, ops.Geometry(tokens), position_bias=tables[0], time_bias=tables[1])
        return torch.cat([biased, ops.softmax_attention(*x, ops.Geometry(tokens), scale=0.2)], dim=1)

    torch.set_num_threads(1)
    whole = out(tokens, q, k, v)
    for count in (2, 3):
        torch.set_num_threads(count)
        assert torch.equal(out(tokens, q, k, v), whole)
    for row, (start, end) in enumerate(zip(tokens.offsets[:-1].tolist(), tokens.offsets[1:].tolist(), strict=True)):
        alone = row_of(tokens, start, end)
        assert torch.equal(out(alone, q[start:end], k[start:end], v[start:end]), whole[start:end]), row


def test_what_is_no_number_stays_none(kernels: str) -> None:
    """A run that has gone wrong must be seen, not masked: training stops at a loss that is not finite."""
    tokens = tokens_of([20, 20], seed=1)
    for place in range(3):
        given = random_like(2, *[(40, 1, 4)] * 3)
        given[place][25] = torch.nan
        for out in (
            ops.hstu_attention(*given, ops.Geometry(tokens), scale=0.1),
            ops.softmax_attention(*given, ops.Geometry(tokens), scale=0.5),
        ):
            assert out[:20].isfinite().all()  # the other row; in its own 0 · NaN is NaN, as in the reference
            assert out[25].isnan().all() and (place == 0 or out[25:].isnan().all())
    keys, positive = torch.arange(5), torch.zeros(5, dtype=torch.int64)
    for cosine, count in ((False, 9), (True, 9), (True, 900)):  # of 900 items only those drawn are measured
        queries, items = random_like(3, (5, 4), (count, 4))
        given = kernels, queries, items, positive, keys, torch.ones(5)
        drawn = set(uniform(keys, 40, count).flatten().tolist())
        items[next(item for item in range(1, count) if item in drawn)] = torch.nan
        assert sampled_loss(*given, negatives=40, cosine=cosine).isnan()
    near = next(item for item in range(1, count) if item not in drawn and item + 1 in drawn)
    _, items = random_like(3, (5, 4), (count, 4))
    items[near] = torch.nan  # beside one that was drawn, never drawn itself
    assert sampled_loss(kernels, queries, items, positive, keys, torch.ones(5), negatives=40, cosine=True).isfinite()


def test_sizes_that_disagree_are_refused(kernels: str) -> None:
    queries, items = random_like(3, (5, 4), (9, 4))
    with pytest.raises(ValueError, match="positives must be within the table"):
        sampled_loss(
            kernels, queries, items, torch.full((5,), 9), torch.arange(5), torch.ones(5), negatives=2, cosine=True
        )
    tokens = tokens_of([5], seed=1)
    q, k, v = random_like(2, *[(6, 1, 3)] * 3)
    with pytest.raises(ValueError, match="shape mismatch"):
        ops.hstu_attention(q, k, v, ops.Geometry(tokens))


@pytest.mark.parametrize("sees", ["causal", "prefix"])
def test_rows_shared_by_several_threads_have_the_references_gradients(kernels: str, threads: None, sees: str) -> None:
    """A stretch of keys is at most 1,024: rows below, at and above it, in float32 and stored as bfloat16."""
    torch.set_num_threads(3)
    lengths = [1025, 0, 1, 1024, 2049]
    tokens = tokens_of(lengths, seed=8, sees=sees)
    q, k, v, grad = random_like(9, *[(sum(lengths), 1, 8)] * 4)

    def attended(*x: Tensor) -> Tensor:
        return ops.hstu_attention(*x, ops.Geometry(tokens), scale=0.01)

    with backend.use(backend.REFERENCE):
        expected = gradients(attended, grad, q, k, v)
    found = gradients(attended, grad, q, k, v)
    narrow = gradients(attended, grad.bfloat16(), q.bfloat16(), k.bfloat16(), v.bfloat16())
    for exact, own, short in zip(expected, found, narrow, strict=True):
        torch.testing.assert_close(own, exact, rtol=1e-4, atol=2e-5 * float(exact.abs().max()))
        torch.testing.assert_close(short.float(), exact, rtol=0, atol=2**-6 * float(exact.abs().max()))


def test_gradients_are_the_same_bits_on_every_run(kernels: str, threads: None) -> None:
    """Also with more threads: what is added up, and in which order, is a function of the rows."""
    tokens = tokens_of([3000, 20, 2100], seed=8)
    q, k, v, grad = random_like(9, *[(5120, 1, 8)] * 4)
    tables = random_like(5, (3000,), (LAST_BUCKET + 1,))
    queries, items, weight = random_like(6, (500, 20), (70, 20), (500,))
    positive, keys = torch.arange(500) % 70, torch.arange(500)

    def once() -> list[Tensor]:
        attended = gradients(
            lambda *x: ops.hstu_attention(*x[:3], ops.Geometry(tokens), position_bias=x[3], time_bias=x[4]),
            grad, q, k, v, *tables,
        )  # fmt: skip
        softened = gradients(
            lambda *x: ops.softmax_attention(*x, ops.Geometry(tokens), scale=0.3, dropout=0.2, salt=1), grad, q, k, v
        )
        lost = gradients(
            lambda a, b: sampled_loss(kernels, a, b, positive, keys, weight, negatives=30, cosine=True),
            torch.ones(()), queries, items,
        )  # fmt: skip
        return attended + softened + lost

    torch.set_num_threads(1)
    first = once()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        assert all(torch.equal(a, b) for a, b in zip(once(), first, strict=True))


def test_operators_keep_torch_s_rules(kernels: str) -> None:
    tokens = tokens_of([9, 0, 4], seed=1)
    q, k, v = (x.requires_grad_() for x in random_like(2, *[(13, 2, 6)] * 3))
    tables = [x.requires_grad_() for x in random_like(3, (9,), (LAST_BUCKET + 1,))]
    where = (tokens.offsets, tokens.sees, tokens.position)
    facta = torch.ops.facta
    check = torch.library.opcheck
    times = (tokens.time, tokens.query_time)
    check(facta.hstu_attention.default, (kernels, q, k, v, *where, *times, *tables, None, 0.1, []))
    check(facta.hstu_attention.default, (kernels, q, k, v, *where, None, None, None, None, torch.rand(13), 1.0, []))
    check(facta.softmax_attention.default, (kernels, q, k, v, *where, tokens.key, 0.4, 0.2, 3, []))
    for dtype in (torch.float32, torch.bfloat16):
        attention_keeps_torch_s_rules(kernels, tokens, dtype)
    x, u = (x.requires_grad_() for x in random_like(4, (13, 6), (13, 6)))
    check(facta.dropout.default, (kernels, x, tokens.key, 0.3, 2))
    check(facta.gate.default, (kernels, x, u, tokens.key, 0.3, 2, 1e-6))
    check(facta.silu.default, (kernels, x.detach()))
    uvqk, weight, bias = random_like(5, (6, 10), (8, 6), (8,))
    parts = random_like(6, (13, 1), (13, 2), (13, 3), (13, 4))
    check(facta.project.default, (kernels, x.detach(), uvqk, 1e-6))
    check(facta.project_backward.default, (kernels, u.detach(), x.detach(), torch.rand(13, 10), uvqk, *parts, 1e-6))
    out = (kernels, x.detach(), u.detach(), tokens.key, weight, bias, torch.rand(13, 8), 0.3, 2, 1e-6)
    check(facta.output.default, out)
    check(facta.output_backward.default, (kernels, torch.rand(13, 8), *out[1:5], *out[7:]))
    positive, weight = torch.zeros(13, dtype=torch.int64), torch.ones(13)
    loss = (kernels, x.detach(), u.detach(), positive, tokens.key, weight, 4, True, False, 1.0, True)
    check(facta.sampled_loss.default, loss)
    rows = torch.randint(0, 13, (13, 5), dtype=torch.int32)
    check(facta.sampled_items.default, (kernels, x.detach(), u.detach(), rows, torch.rand(13, 5), True))


def attention_keeps_torch_s_rules(kernels: str, tokens: TokenBatch, dtype: torch.dtype) -> None:
    """Both attentions as they are stored: with a past, which has no gradients, and their backwards."""
    count, check, facta = len(tokens.sees), torch.library.opcheck, torch.ops.facta
    q, k, v, d_out = (x.to(dtype) for x in random_like(2, *[(count, 2, 6)] * 2, *[(count, 2, 4)] * 2))
    biases = random_like(3, (9,), (LAST_BUCKET + 1,))
    where = (tokens.offsets, tokens.sees, tokens.position)
    pointwise = (*where, tokens.time, tokens.query_time, *biases, torch.rand(count), 1.0)
    places = torch.arange(4)
    of_a_row = [k[:4], v[:4], places, places]
    past = of_a_row * (len(tokens.offsets) - 1)
    softened = (*where, tokens.key, 0.4, 0.2, 3)
    check(facta.hstu_attention.default, (kernels, q, k, v, *pointwise, past))
    check(facta.softmax_attention.default, (kernels, q, k, v, *softened, past))
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    check(facta.hstu_attention.default, (kernels, *leaves, *pointwise, []))
    check(facta.softmax_attention.default, (kernels, *leaves, *softened, []))
    check(facta.hstu_attention_backward.default, (kernels, d_out, q, k, v, *pointwise))
    out, lse = facta.softmax_attention(kernels, q, k, v, *softened, [])
    check(facta.softmax_attention_backward.default, (kernels, d_out, out, lse, q, k, v, *softened))


def test_what_kernels_do_not_compute_the_reference_does(kernels: str) -> None:
    tokens = tokens_of([5], seed=1)
    q, k, v = (x.double() for x in random_like(2, *[(5, 1, 3)] * 3))
    expected = hstu_attention(q, k, v, ops.Geometry(tokens))
    assert torch.equal(ops.hstu_attention(q, k, v, ops.Geometry(tokens)), expected)


def drawn(shape: Shape) -> tuple[TokenBatch, list[Tensor]]:
    """Tokens and q, k, v and an incoming gradient for them."""
    tokens = tokens_of(shape.lengths, shape.seed, shape.sees, shape.stride, shape.start)
    total = sum(shape.lengths)
    return tokens, random_like(
        shape.seed, *[(total, shape.heads, d) for d in (shape.dqk, shape.dqk, shape.dv, shape.dv)]
    )


def gradients(function, grad: Tensor, *inputs: Tensor | None) -> list[Tensor]:  # type: ignore[no-untyped-def]
    """The output and the gradients of all inputs that are given."""
    leaves = [None if x is None else x.detach().requires_grad_() for x in inputs]
    out = function(*leaves)
    found = torch.autograd.grad(out, [x for x in leaves if x is not None], grad.to(out.dtype))
    return [out.detach(), *(x.to_dense() if x.is_sparse else x for x in found)]


def row_of(tokens: TokenBatch, start: int, end: int) -> TokenBatch:
    """One row as a batch of its own."""
    names = ("kind", "source", "time", "query_time", "position", "sees", "key")
    parts = {name: getattr(tokens, name)[start:end] for name in names}
    return TokenBatch(offsets=torch.tensor([0, end - start]), reads={}, **parts)
