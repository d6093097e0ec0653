"""Kept keys and values: the newest tokens of a row, over a past of the others, get what they get in the whole row."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facta import jagged, ops
from facta.encoders.memory import Buffers, Memory, RowMemory
from facta.errors import ConfigError
from facta.ops import backend
from facta.ops.buckets import LAST_BUCKET
from facta.ops.past import AddressedPast
from facta.types import TokenBatch
from tests.numerics.test_kernels import KERNELS, TOLERANCE, far, random_like, tokens_of

NEWEST = ("kind", "source", "time", "query_time", "position", "sees", "key")


def cut(
    tokens: TokenBatch, new: list[int], k: Tensor, v: Tensor
) -> tuple[TokenBatch, list[ops.PastLayer | None], Tensor]:
    """The `new` newest tokens of each row as a call of its own, the past of the others, and where the newest lie."""
    starts, ends = tokens.offsets[:-1].tolist(), tokens.offsets[1:].tolist()
    asked = torch.cat([torch.arange(end - count, end) for end, count in zip(ends, new, strict=True)])
    past: list[ops.PastLayer | None] = []
    for start, end, count in zip(starts, ends, new, strict=True):
        old = slice(start, end - count)
        time = None if tokens.time is None else tokens.time[old]
        past.append(ops.PastLayer(k[old], v[old], tokens.position[old], time) if end - count > start else None)
    parts = {name: None if (x := getattr(tokens, name)) is None else x[asked] for name in NEWEST}
    return TokenBatch(offsets=jagged.offsets_of(torch.tensor(new)), reads={}, **parts), past, asked


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), min_size=1, max_size=4),
    sees=st.sampled_from(["causal", "targets", "prefix"]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30)),  # H, dqk, dv
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    per_token=st.booleans(),
    seed=st.integers(0, 1 << 30),
)
@pytest.mark.parametrize("name", backend.available())
def test_the_past_needs_no_queries(
    name: str,
    rows: list[tuple[int, int]],
    sees: str,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    per_token: bool,
    seed: int,
) -> None:
    tokens = tokens_of([old + new for old, new in rows], seed, sees)
    count, (heads, dqk, dv) = len(tokens.sees), shape
    q, k, v = (x.to(dtype) for x in random_like(seed, *[(count, heads, d) for d in (dqk, dqk, dv)]))
    tables = [x if dtype != torch.float64 else x.double() for x in random_like(5, (400,), (LAST_BUCKET + 1,))]
    scale = torch.rand(count, dtype=tables[0].dtype)
    called, past, asked = cut(tokens, [new for _, new in rows], k, v)
    with backend.use(name):

        def both(tokens: TokenBatch, at: Tensor, past: list[ops.PastLayer | None] | None) -> Tensor:
            geometry = ops.Geometry(tokens)
            scales = scale[at] if per_token else 0.1
            given = q[at], k[at], v[at], geometry
            pointwise = ops.hstu_attention(
                *given, position_bias=tables[0], time_bias=tables[1], scale=scales, past=past
            )
            return torch.cat([pointwise, ops.softmax_attention(*given, scale=0.2, past=past)], dim=1)

        whole = both(tokens, torch.arange(count), None)[asked]
        found = both(called, asked, past)
    assert found.dtype == whole.dtype == dtype
    tolerance = {torch.float32: TOLERANCE, torch.bfloat16: 2**-7, torch.float64: 1e-12}[dtype]
    assert far(found, whole.double()) < tolerance


def test_what_does_not_belong_together_is_refused() -> None:
    tokens = tokens_of([5, 3], seed=1)
    q, k, v = random_like(2, *[(8, 1, 4)] * 3)
    called, past, asked = cut(tokens, [2, 3], k, v)
    given = q[asked], k[asked], v[asked]
    with pytest.raises(ConfigError, match="the past of 1 rows for a batch of 2"):
        ops.hstu_attention(*given, ops.Geometry(called), past=past[:1])
    assert past[0] is not None
    timeless = [replace(past[0], time=None), None]
    with pytest.raises(ConfigError, match="uses time, but cached keys and values have no times"):
        ops.hstu_attention(*given, ops.Geometry(called), time_bias=torch.zeros(LAST_BUCKET + 1), past=timeless)
    assert ops.hstu_attention(*given, ops.Geometry(called), past=timeless).isfinite().all()
    with pytest.raises(ConfigError, match="have no gradients"):
        ops.softmax_attention(given[0].requires_grad_(), *given[1:], ops.Geometry(called), scale=1.0, past=past)


@pytest.mark.skipif(not KERNELS, reason="facta was installed without its compiled kernels")
@pytest.mark.parametrize("name", KERNELS)
def test_a_past_of_another_shape_is_refused_by_the_kernels(name: str) -> None:
    tokens = tokens_of([5], seed=1)
    q, k, v = random_like(2, *[(5, 2, 4)] * 3)
    called, past, asked = cut(tokens, [2], k, v)
    assert past[0] is not None
    one = past[0]
    wrong = [replace(one, v=one.v[:-1]), replace(one, k=one.k[:, :1]), replace(one, position=one.position[:-1])]
    wrong += [replace(one, k=one.k.bfloat16()), replace(one, k=one.k.transpose(0, 1).contiguous().transpose(0, 1))]
    with backend.use(name):
        for other in wrong:
            with pytest.raises(ValueError, match=r"(shape|type) mismatch"):
                ops.hstu_attention(q[asked], k[asked], v[asked], ops.Geometry(called), past=[other])


def remembered(past: list[ops.PastLayer | None], layers: int = 2) -> Memory:
    """Rows of a memory that hold the past in each of their layers, layer i times i + 1."""
    rows: list[RowMemory | None] = []
    for one in past:
        if one is None:
            rows.append(None)
            continue
        kv = [(one.k * (i + 1), one.v * (i + 1)) for i in range(layers)]
        buffers = Buffers(kv, timed=one.time is not None, room=len(one.k) + 3)
        columns = [*(x for layer in kv for x in layer), one.position, *([] if one.time is None else [one.time])]
        rows.append(RowMemory(0, buffers).grown(columns))
    return Memory(rows)


@pytest.mark.skipif(not KERNELS, reason="facta was installed without its compiled kernels")
@pytest.mark.parametrize("name", KERNELS)
def test_addresses_lead_to_what_a_memory_holds(name: str) -> None:
    """One layer after the other, a row without a past among them, by both attentions."""
    tokens = tokens_of([5, 2, 7], seed=1)
    q, k, v = random_like(2, *[(14, 2, 4)] * 3)
    called, past, asked = cut(tokens, [2, 2, 3], k, v)
    given, bias = (q[asked], k[asked], v[asked], ops.Geometry(called)), torch.randn(LAST_BUCKET + 1)
    assert past[0] is not None and past[1] is None
    with backend.use(name), torch.inference_mode():
        for number, layer in enumerate(remembered(past).layers(2)):
            rows = [one and replace(one, k=one.k * (number + 1), v=one.v * (number + 1)) for one in past]
            assert isinstance(layer.past, AddressedPast)
            for attend in (partial(ops.hstu_attention, time_bias=bias), partial(ops.softmax_attention, scale=0.3)):
                assert torch.equal(attend(*given, past=layer.past), attend(*given, past=rows))


@pytest.mark.skipif(not KERNELS, reason="facta was installed without its compiled kernels")
def test_a_memory_of_another_model_is_refused() -> None:
    tokens = tokens_of([5], seed=1)
    q, k, v = random_like(2, *[(5, 2, 4)] * 3)
    called, past, asked = cut(tokens, [2], k, v)
    assert past[0] is not None
    with torch.inference_mode():
        for wrong in (replace(past[0], v=past[0].v[:, :, :3]), replace(past[0], k=past[0].k.bfloat16())):
            (layer,) = remembered([wrong], layers=1).layers(1)
            with pytest.raises(ValueError, match="past keys and values must have"):
                ops.hstu_attention(q[asked], k[asked], v[asked], ops.Geometry(called), past=layer.past)
        (layer,) = remembered([replace(past[0], time=None)], layers=1).layers(1)
        with pytest.raises(ConfigError, match="have no times: cache them"):
            ops.hstu_attention(
                q[asked],
                k[asked],
                v[asked],
                ops.Geometry(called),
                time_bias=torch.zeros(LAST_BUCKET + 1),
                past=layer.past,
            )


@pytest.mark.skipif(not KERNELS, reason="facta was installed without its compiled kernels")
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("wrong", [-1, 5, 1 << 40])
def test_a_past_beyond_the_table_of_distances_is_refused_by_the_kernels(name: str, wrong: int) -> None:
    tokens, table = tokens_of([5], seed=1), torch.zeros(5)
    q, k, v = random_like(2, *[(5, 2, 4)] * 3)
    called, past, asked = cut(tokens, [2], k, v)
    assert past[0] is not None
    moved = past[0].position.clone()
    moved[1] = wrong
    given = q[asked], k[asked], v[asked], ops.Geometry(called)
    with backend.use(name):
        assert ops.hstu_attention(*given, position_bias=table, past=past).isfinite().all()
        with pytest.raises(ValueError, match="past positions must be within the position table"):
            ops.hstu_attention(*given, position_bias=table, past=[replace(past[0], position=moved)])


@pytest.mark.skipif(not KERNELS, reason="facta was installed without its compiled kernels")
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("sees", ["causal", "targets", "any"])
def test_few_tokens_over_a_long_past_divide_its_keys_and_no_threads_change_a_bit(name: str, sees: str) -> None:
    """Pasts of one to four stretches of 1,024 keys; scores differ so much that one stretch may outweigh the others."""
    lengths, new = [1000, 1030, 2200, 3500, 40], [3, 20, 130, 18, 40]
    tokens = tokens_of(lengths, 3, sees)
    q, k, v = random_like(4, *[(sum(lengths), 2, d) for d in (9, 9, 20)])
    k = k * torch.linspace(0.2, 4.0, len(k))[:, None, None]
    tables = random_like(5, (sum(lengths),), (LAST_BUCKET + 1,))
    called, past, asked = cut(tokens, new, k, v)

    def both(tokens: TokenBatch, at: Tensor, past: list[ops.PastLayer | None] | None) -> Tensor:
        given = q[at], k[at], v[at], ops.Geometry(tokens)
        pointwise = ops.hstu_attention(*given, position_bias=tables[0], time_bias=tables[1], scale=0.01, past=past)
        return torch.cat([pointwise, ops.softmax_attention(*given, scale=0.5, past=past)], dim=1)

    threads = torch.get_num_threads()
    with backend.use(name):
        right = both(tokens, torch.arange(len(q)), None)[asked]  # whole rows divide nothing
        try:
            found = []
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                found.append(both(called, asked, past))
        finally:
            torch.set_num_threads(threads)
    assert far(found[0], right.double()) < TOLERANCE
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
