"""Linear attention in chunks is the sum over all pairs, whatever a token sees, and its states are those of the sums."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from facta import draws, jagged
from facta.encoders.fuxi import FuXiLinear, FuXiLinearConfig, FuXiLinearLayer
from facta.encoders.memory import Memory
from facta.errors import ConfigError
from facta.types import TokenBatch
from tests.numerics.test_kernels import tokens_of

WIDTH, WINDOW = 6, 400
SEES = ["causal", "targets", "prefix", "any"]


def made(**given: object) -> FuXiLinear:
    """In float64, far from the initial point; decays of 3, 6, … events and of all periods."""
    torch.manual_seed(5)
    config = FuXiLinearConfig.parse({"dropout": 0.0, "places": 5, "periods": 3, **given})
    model = config.build(WIDTH, WINDOW).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0).add_(0.2 * torch.randn_like(parameter))
        for layer in model.layers:
            layer.forgetting.copy_(torch.tensor([-1.0, -2.0, -9.0, 0.5])[: len(layer.forgetting)])  # type: ignore[union-attr]
    return model


def slowly(model: FuXiLinear, x: Tensor, tokens: TokenBatch) -> Tensor:
    """The definition: every row by itself, all pairs, times as differences of integers."""
    rows = []
    for begin, end in zip(tokens.offsets[:-1].tolist(), tokens.offsets[1:].tolist(), strict=True):
        of_row = [one[begin:end] for one in (tokens.sees, tokens.position, tokens.time, tokens.query_time)]  # type: ignore[index]
        rows.append(x[begin:end])
        for layer in model.layers if end > begin else ():
            rows[-1] = slow_layer(layer, rows[-1], *of_row)  # type: ignore[arg-type]
    return torch.cat(rows)


def slow_layer(
    layer: FuXiLinearLayer, x: Tensor, sees: Tensor, position: Tensor, time: Tensor, query_time: Tensor
) -> Tensor:
    """The equations of `encoders/fuxi.py`, one row [n, D]."""
    config, n = layer.config, len(x)
    seen = (torch.arange(n) < sees[:, None]) | torch.eye(n, dtype=torch.bool)
    u, qkv, of_places, of_times = layer.uqkv(layer.norm(x)).split(
        [sum(layer.widths), 3 * WIDTH, *layer.widths[1:]], dim=1
    )
    channels = []
    heads = [one.unflatten(1, (config.heads, -1)).transpose(0, 1) for one in F.silu(qkv).chunk(3, dim=1)]
    q, k, v = heads  # [H, n, d]
    gamma = 1 - torch.sigmoid(layer.forgetting)[:, None, None]
    scores = (q @ k.mT) * gamma ** distance(position, position, sees) * seen
    channels.append((scores @ v).transpose(0, 1).flatten(1))
    p, (alpha, beta) = layer.place[position], layer.of_places
    channels.append(alpha * ((p @ p.T) * seen) @ of_places + beta * of_places)
    if config.times:
        v = of_times.unflatten(1, (2 * config.periods, -1))
        away, gone = query_time[:, None] - time, distance(time, query_time, sees)
        found = []
        for number, period in enumerate(config.all_periods):
            r = 0.5 ** (torch.exp(layer.speed[number]) * gone.double() / period) * seen
            angle = (away % period).double() * (2 * math.pi / period)
            found += [(r * angle.cos()) @ v[:, 2 * number], (r * angle.sin()) @ v[:, 2 * number + 1]]
        alpha, beta = layer.of_times
        channels.append((alpha * torch.stack(found, dim=1) + beta * v).flatten(1))
    normed = [norm(one) for norm, one in zip(layer.norms, channels, strict=True)]
    y = x + layer.out(torch.cat(normed, dim=1) * F.silu(u))
    gate, value = layer.inner(layer.norm_feed(y)).chunk(2, dim=1)
    fed = layer.outer(F.silu(gate) * value)
    return y + fed if config.second_residual else fed


def distance(own: Tensor, asked: Tensor, sees: Tensor) -> Tensor:
    """[n, n] along a clock that never goes back, written out."""
    found = torch.zeros(len(own), len(own), dtype=torch.int64)
    latest = [max(own[: place + 1].tolist()) for place in range(len(own))]
    for query, count in enumerate(sees.tolist()):
        mine = max([int(own[query]), *latest[count - 1 : count][:1], int(own[0])])
        now = max(mine, int(asked[query]))
        for key in range(len(own)):
            found[query, key] = now - (latest[key] if key < count else mine)
    return found


def random_tokens(lengths: list[int], seed: int, sees: str, *, ordered: bool = True) -> TokenBatch:
    tokens = tokens_of(lengths, seed, sees, stride=1)
    assert tokens.time is not None and tokens.query_time is not None
    row = jagged.rows(tokens.offsets)
    position = torch.where(row % 2 == 0, tokens.position, tokens.position // 2)  # two tokens of an event
    if sees == "targets":  # candidates stand at one place, and are shown at one time
        position = torch.minimum(position, tokens.sees)
        later = torch.where(tokens.sees < jagged.places(tokens.offsets), tokens.time, tokens.query_time)
        return replace(tokens, position=position, query_time=later)
    if ordered:
        return replace(tokens, position=position)
    back = (draws.mix(tokens.key, 3) % 3 == 0) * 86_400_000
    return replace(tokens, position=position, time=tokens.time - back)


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=5).filter(any),
    sees=st.sampled_from(SEES),
    chunk=st.sampled_from([1, 2, 5, 16, 33]),
    ordered=st.booleans(),
    heads=st.sampled_from([1, 3]),
    residual=st.booleans(),
    times=st.booleans(),
    seed=st.integers(0, 1 << 30),
)
def test_chunks_are_all_pairs(
    *, lengths: list[int], sees: str, chunk: int, ordered: bool, heads: int, residual: bool, times: bool, seed: int
) -> None:
    model = made(chunk=chunk, heads=heads, second_residual=residual, times=times)
    tokens = random_tokens(lengths, seed, sees, ordered=ordered)
    x = torch.randn(sum(lengths), WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        found, expected = model(x, tokens), slowly(model, x, tokens)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sees", SEES)
def test_gradients_are_those_of_all_pairs(sees: str) -> None:
    model, lengths = made(chunk=4), [9, 0, 1, 14]
    tokens = random_tokens(lengths, 3, sees)
    x = torch.randn(sum(lengths), WIDTH, dtype=torch.float64)

    def slopes(of: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad((of * torch.linspace(-1, 1, of.numel()).view_as(of)).sum(), [*learned, x]))

    x.requires_grad_()
    learned = list(model.parameters())
    torch.testing.assert_close(slopes(model(x, tokens)), slopes(slowly(model, x, tokens)), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("start", [0, 1_700_000_000_000])
def test_float32_keeps_the_phase_of_a_moment_and_the_decays_of_a_long_row(start: int) -> None:
    """In float32 half a century in ms is two minutes coarse; γ^5000 and 2^-(years / 33 s) are 0, so 1 / them inf."""
    model, lengths = made(chunk=32, periods=8), [5000, 3]
    tokens = tokens_of(lengths, 2)
    time = (torch.rand(sum(lengths), dtype=torch.float64) * 5e11).long().sort().values + start
    tokens = replace(tokens, position=tokens.position.clamp_max(WINDOW), time=time, query_time=time + 1000)
    x = torch.randn(sum(lengths), WIDTH, dtype=torch.float64)
    with torch.no_grad():
        exact = model(x, tokens)
        found = model.float()(x.float(), tokens).double()
    assert float((found - exact).abs().max() / exact.abs().max()) < 1e-4


def test_what_a_memory_holds_is_the_state_behind_its_last_token() -> None:
    """Rows go on at any place: in a chunk, at its end, and where nothing was kept."""
    model, lengths = made(chunk=4), [13, 8, 5, 9]
    tokens, kept = random_tokens(lengths, 4, "causal"), [6, 4, 0, 8]
    x = torch.randn(sum(lengths), WIDTH, dtype=torch.float64)
    with torch.no_grad():
        whole, memory = model(x, tokens), Memory([None] * len(lengths))
        for begin, end in (([0] * 4, kept), (kept, [9, 5, 2, 9]), ([9, 5, 2, 9], lengths)):
            asked = torch.cat(
                [torch.arange(first + one, first + other)
                 for first, one, other in zip(tokens.offsets.tolist(), begin, end, strict=False)]
            )  # fmt: skip
            counts = torch.tensor(end) - torch.tensor(begin)
            names = ("kind", "source", "time", "query_time", "position", "sees", "key")
            part = replace(
                tokens, offsets=jagged.offsets_of(counts), **{name: getattr(tokens, name)[asked] for name in names}
            )
            memory.kept = torch.tensor(end)
            torch.testing.assert_close(model(x[asked], part, memory), whole[asked], rtol=1e-10, atol=1e-10)
    assert [row and row.tokens for row in memory.rows] == lengths
    sizes = {row.nbytes for row in memory.rows if row is not None}
    assert len(sizes) == 1, "a state has one size, whatever the row's"


def test_a_token_that_sees_less_than_is_kept_is_refused() -> None:
    model, tokens = made(), random_tokens([4], 1, "causal")
    memory = Memory([None])
    memory.kept = torch.tensor([4])
    x = torch.randn(4, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        model(x, tokens, memory)
        memory.kept = torch.tensor([8])
        with pytest.raises(ConfigError, match="a state cannot be undone"):
            model(x, tokens, memory)


def test_periods_that_are_no_times_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"make a period of .* ms; expected at most"):
        FuXiLinearConfig(periods=32)
