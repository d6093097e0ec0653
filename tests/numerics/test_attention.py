"""The reference attention against loops written from the papers' equations, in float64."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from facta import jagged, ops
from facta.encoders.hstu import HSTUConfig, HSTULayer
from facta.ops.buckets import bucket
from facta.types import TokenBatch


def tokens_of(lengths: list[int], seed: int, kind: str = "causal") -> TokenBatch:
    """Random token batches: causal, with targets that see the history only, or with gaps in the positions."""
    rng = np.random.default_rng(seed)
    offsets = jagged.offsets_of(torch.tensor(lengths, dtype=torch.int64))
    place = jagged.places(offsets)
    time = torch.from_numpy(1_600_000_000_000 + np.cumsum(rng.integers(0, 5_000_000, len(place))))
    sees, position = place.clone(), place.clone()
    if kind == "targets":
        history = torch.tensor([n // 2 for n in lengths])[jagged.rows(offsets)]
        sees = torch.minimum(place, history)
        position = torch.minimum(place, history)
    if kind == "gaps":
        position = place * 3
    zeros = torch.zeros_like(place)
    return TokenBatch(offsets, zeros, place, time, time + 1000 * rng.integers(0, 10_000), position, sees, place, {})


def by_loops(q, k, v, tokens, position_bias, time_bias, scale, *, softmax):
    out = torch.zeros(len(q), v.shape[1], v.shape[2], dtype=q.dtype)
    for start, stop in zip(tokens.offsets[:-1].tolist(), tokens.offsets[1:].tolist(), strict=True):
        for i in range(start, stop):
            seen = [j for j in range(start, stop) if j - start < tokens.sees[i] or j == i]
            for h in range(q.shape[1]):
                logit = []
                for j in seen:
                    x = q[i, h] @ k[j, h] * (scale if softmax else 1.0)
                    if position_bias is not None:
                        x = x + position_bias[max(int(tokens.position[i] - tokens.position[j]), 0)]
                    if time_bias is not None:
                        seconds = abs(int(tokens.query_time[i] - tokens.time[j])) / 1000
                        x = x + time_bias[min(max(math.floor(math.log(max(1.0, seconds)) / 0.301), 0), 128)]
                    logit.append(x)
                x = torch.stack(logit)
                weights = torch.softmax(x, 0) if softmax else x * torch.sigmoid(x) * scale
                out[i, h] = weights @ v[seen, h]
    return out


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 7), min_size=1, max_size=4).filter(lambda x: sum(x) > 0),
    heads=st.integers(1, 3),
    kind=st.sampled_from(["causal", "targets", "gaps"]),
    bias=st.sampled_from(["none", "position", "time", "both"]),
    seed=st.integers(0, 1000),
)
def test_reference_equals_the_equations(lengths: list[int], heads: int, kind: str, bias: str, seed: int) -> None:
    torch.manual_seed(seed)
    tokens = tokens_of(lengths, seed, kind)
    count = sum(lengths)
    q, k, v = (torch.randn(count, heads, width, dtype=torch.float64, requires_grad=True) for width in (3, 3, 5))
    pos = torch.randn(40, dtype=torch.float64, requires_grad=True) if bias in ("position", "both") else None
    time = torch.randn(129, dtype=torch.float64, requires_grad=True) if bias in ("time", "both") else None
    geometry = ops.Geometry(tokens)
    leaves = [x for x in (q, k, v, pos, time) if x is not None]
    fast = ops.hstu_attention(q, k, v, geometry, position_bias=pos, time_bias=time, scale=0.1)
    slow = by_loops(q, k, v, tokens, pos, time, 0.1, softmax=False)
    _same(fast, slow, leaves)
    if bias == "none":
        _same(
            ops.softmax_attention(q, k, v, geometry, scale=0.5),
            by_loops(q, k, v, tokens, None, None, 0.5, softmax=True),
            [q, k, v],
        )


def _same(fast: torch.Tensor, slow: torch.Tensor, leaves: list[torch.Tensor]) -> None:
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(fast)
    for a, b in zip(
        torch.autograd.grad((fast * weight).sum(), leaves),
        torch.autograd.grad((slow * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**15), 10**15))
def test_buckets_are_those_of_the_research_code(milliseconds: int) -> None:
    seconds = max(1.0, abs(milliseconds) / 1000)
    exact = math.log(seconds) / 0.301
    if abs(exact - round(exact)) > 1e-9:  # on a boundary floating point may fall on either side
        assert int(bucket(torch.tensor([milliseconds]))) == min(math.floor(exact), 128)


def test_a_bucket_begins_at_its_boundary() -> None:
    edge = math.ceil(1000 * math.exp(0.301 * 10))
    assert bucket(torch.tensor([edge - 1, edge, -edge])).tolist() == [9, 10, 10]


def test_attention_dropout_keeps_the_mean_and_belongs_to_the_query(recwarn: pytest.WarningsRecorder) -> None:
    tokens = tokens_of([400], 0)
    q, k = (torch.zeros(400, 1, 2, dtype=torch.float64) for _ in range(2))
    v = torch.ones(400, 1, 1, dtype=torch.float64)
    out = ops.softmax_attention(q, k, v, ops.Geometry(tokens), scale=1.0, dropout=0.4, salt=7)
    again = ops.softmax_attention(q, k, v, ops.Geometry(tokens), scale=1.0, dropout=0.4, salt=7)
    other = ops.softmax_attention(q, k, v, ops.Geometry(tokens), scale=1.0, dropout=0.4, salt=8)
    assert out[100:].mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(out, again)
    assert not torch.equal(out, other)


def test_the_softmax_ablation_is_the_layer_with_another_attention():
    torch.manual_seed(0)
    config = HSTUConfig(heads=2, qk_width=3, v_width=4, bias="none", attention="softmax", init_std=1.0)
    layer, tokens = HSTULayer(config, width=6, window=20, salt=1).double().eval(), tokens_of([5, 0, 7], seed=1)
    x = torch.randn(12, 6, dtype=torch.float64)
    act = torch.nn.functional.silu(torch.nn.functional.layer_norm(x, (6,), eps=1e-6) @ layer.uvqk)
    u, v, q, k = act[:, :8], act[:, 8:16].view(12, 2, 4), act[:, 16:22].view(12, 2, 3), act[:, 22:].view(12, 2, 3)
    o = by_loops(q, k, v, tokens, None, None, 3**-0.5, softmax=True).flatten(1)
    expected = x + layer.out(u * torch.nn.functional.layer_norm(o, (8,), eps=1e-6))
    torch.testing.assert_close(layer(x, tokens, ops.Geometry(tokens)), expected, rtol=0, atol=1e-12)
