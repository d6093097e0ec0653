"""FuXi-Linear (Ye et al., arXiv 2602.23671, 2026): linear attention in three channels, with a state of constant size.

    y  = RMS(x);   c_1, c_2, c_3 = retention(y), positions(y), times(y)
    x' = x + W_0 ([RMS(c_1), RMS(c_2), RMS(c_3)] ⊙ SiLU(y W_u))
    x <- SwiGLU(RMS(x'))            with `second_residual`: x' + SwiGLU(RMS(x'))

Retention: o_n = Σ_i γ_h^{n-i} (q_n·k_i) v_i, n the position of the event, γ_h learned.
Positions: o_n = α Σ_i (p(n)·p(i)) v_i + β v_n, p(n) a learned vector of each place in the window. They count from its
           start, so a state stays right as long as the window does not move.
Times:     o_n = α_h Σ_i r_h^{t-t_i} cos(θ_h (t-t_i)) v_i + β_h v_n, and the same with the sine; t is the
           token's query time, θ_h = 2π / period. By the angle sums that is (cos θt, sin θt)·(cos θt_i, sin θt_i).

The published code adds no second residual; this is the default here. Channels may be wider than D / heads: of times
each of 2 H_t heads has ⌈D / 2 H_t⌉ numbers.

Letters: T tokens, D width, H heads, H_t periods, d width of a retention head, e of a head of times, C chunk, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from facta.encoders.encoder import Encoder, EncoderConfig, TokenCost, check_heads
from facta.encoders.memory import Memory
from facta.errors import ConfigError
from facta.layers.dropout import Dropout
from facta.ops.chunks import Chunks, Clock, Ends
from facta.ops.linear import Decay, Linear, linear_attention
from facta.types import TokenBatch

EPS = 1e-6
LONGEST_PERIOD_MS = 1 << 50  # ms of a period: 35,000 years
Behind = Callable[[Ends], Tensor]


class FuXiLinearConfig(EncoderConfig):
    kind: Literal["fuxi-linear"] = "fuxi-linear"
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1, description="heads of retention; each has its own decay")
    hidden: int | None = Field(default=None, ge=1, description="feed-forward width; None: D")
    places: int = Field(default=32, ge=1, description="width of a position's vector")
    times: bool = Field(default=True, description="use the channel of times")
    periods: int = Field(default=8, ge=1, le=32, description="H_t")
    shortest: int = Field(default=32_768, ge=1, description="period, in milliseconds")
    base: int = Field(default=8, ge=2, description="ratio of each period to the one before")
    second_residual: bool = Field(default=False, description="add x' to the feed-forward part; the paper does not")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="of the channels' output and the feed-forward part")
    chunk: int = Field(default=32, ge=1, description="C, tokens multiplied at once; states do not depend on it")

    @model_validator(mode="after")
    def _consistent(self) -> FuXiLinearConfig:
        if self.all_periods[-1] > LONGEST_PERIOD_MS:
            raise ConfigError(
                f"encoder.periods {self.periods}, base {self.base} and shortest {self.shortest} make a period of "
                f"{self.all_periods[-1]:,} ms; expected at most {LONGEST_PERIOD_MS:,}: lower one of them."
            )
        return self

    @property
    def all_periods(self) -> list[int]:
        """[H_t] ms."""
        return [self.shortest * self.base**number for number in range(self.periods)]

    def widths(self, width: int) -> tuple[int, int, int]:
        """Widths of the three channels' values in a model of width D."""
        return width, width, 2 * self.periods * -(-width // (2 * self.periods)) if self.times else 0

    def state_shapes(self, width: int) -> list[tuple[int, int, int]]:
        """(heads, dk, dv) of each channel's state in a layer."""
        own, periods = width // self.heads, 2 * self.periods
        found = [(self.heads, own, own), (1, self.places, width)]
        return [*found, (periods, 2, self.widths(width)[2] // periods)] if self.times else found

    def check(self, width: int) -> None:
        check_heads(width, self.heads)

    def build(self, width: int, window: int) -> FuXiLinear:
        return FuXiLinear(self, width, window)

    def cost(self, width: int, seen: float) -> TokenCost:
        """Within a chunk all C keys are multiplied; for earlier ones a state is read and written. The state replaces a
        cache: D²/H + 32 D + 2 D numbers per layer and row, for any length of the row, and none per token.
        """
        hidden, shapes = self.hidden or width, self.state_shapes(width)
        near, values = min(seen, self.chunk), sum(self.widths(width))
        flops = 2.0 * width * (2 * width + 2 * values) + 2 * values * width + 2 * width * hidden * 3
        whole = 0 if 2 * seen - 1 <= self.chunk else 4  # a row of one chunk has no state before it
        flops += sum(heads * (2 * near * (dk + dv) + whole * dk * dv) for heads, dk, dv in shapes)
        return TokenCost(self.layers * flops, 4.0 * self.layers * self._kept(width, near), 0.0)

    def _kept(self, width: int, near: float) -> float:
        """Activations of a token for the backward pass of a layer, within 5 %."""
        hidden, values = self.hidden or width, sum(self.widths(width))
        layer = 4 * width + 2 * values + 2 * width + 3 * values + 3 * width + 4 * hidden  # uqkv is 2 (values + D)
        channels = [
            heads * (3 * near + 5 * (dk + dv) + 2 * dk * dv / self.chunk) for heads, dk, dv in self.state_shapes(width)
        ]
        return layer + sum(channels)

    @property
    def settings_without_time(self) -> list[str]:
        return ["times=false"] if self.times else []


@dataclass(frozen=True)
class _Call:
    """Shared inputs of all layers in one forward pass."""

    tokens: TokenBatch
    chunks: Chunks
    places: Clock
    times: Clock | None
    waves: tuple[Tensor, Tensor] | None  # [T, H_t, 2] of keys and queries: cosine and sine

    def kept(self, last: Tensor, behind: Sequence[Behind]) -> list[Tensor]:
        """The cache after R tokens: position and time [R, 2] int64, and the states."""
        place, ends = self.places.key[last], Ends(self.chunks, last)
        clocks = torch.stack([place, place if self.times is None else self.times.key[last]], dim=1)
        return [clocks, *(state(ends) for state in behind)]


class FuXiLinearLayer(nn.Module):
    """One block (Ye et al. 2026): three channels with one gate, then SwiGLU."""

    fall: Tensor  # [2 H_t] log 2 / period

    def __init__(self, config: FuXiLinearConfig, width: int, window: int, salt: int) -> None:
        super().__init__()
        self.config, hidden = config, config.hidden or width
        self.widths = config.widths(width)
        self.shapes = config.state_shapes(width)
        values = sum(self.widths)
        self.norm, self.norm_feed = nn.RMSNorm(width, eps=EPS), nn.RMSNorm(width, eps=EPS)
        self.uqkv = nn.Linear(width, values + 3 * width + sum(self.widths[1:]), bias=False)
        self.norms = nn.ModuleList(nn.RMSNorm(of, eps=EPS) for of in self.widths if of)
        self.out = nn.Linear(values, width, bias=False)
        self.inner, self.outer = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)
        forgotten = 2.0 ** -(5 + torch.arange(config.heads))  # 1 - γ: half-lives of 22, 44, … events
        self.forgetting = nn.Parameter(torch.logit(forgotten))  # [H]
        self.place = nn.Parameter(torch.randn(window + 1, config.places) * config.places**-0.5)
        self.of_places = nn.Parameter(torch.ones(2))  # α, β
        if config.times:
            self.speed = nn.Parameter(torch.zeros(config.periods))  # r_h = 2^(-e^speed / period)
            self.of_times = nn.Parameter(torch.ones(2, 2 * config.periods, 1))  # α_h, β_h
            # No file stores it, so it is computed from the config, also on the meta device.
            ages = torch.tensor(config.all_periods, dtype=torch.float64, device="cpu").repeat_interleave(2)
            self.register_buffer("fall", math.log(2) / ages, persistent=False)
        self.dropouts = nn.ModuleList(Dropout(config.dropout, salt + i) for i in range(2))

    def forward(self, x: Tensor, call: _Call, before: Sequence[Tensor | None]) -> tuple[Tensor, list[Behind]]:
        """x [T, D] -> [T, D], and functions for the state of each channel after a token."""
        width, (_, places, times) = x.shape[1], self.widths
        parts = self.uqkv(self.norm(x)).split((sum(self.widths), 3 * width, places, times), dim=1)
        met = [self._retention(F.silu(parts[1]), call, before[0]), self._positions(parts[2], call, before[1])]
        channels = [met[0].found.flatten(1), self._mixed(met[1], self.of_places[:, None], parts[2])]
        if self.config.times:
            met.append(self._times(parts[3], call, before[2]))
            channels.append(self._mixed(met[2], self.of_times, parts[3]))
        normed = [norm(one) for norm, one in zip(self.norms, channels, strict=True)]
        x = x + self.dropouts[0](self.out(torch.cat(normed, dim=1) * F.silu(parts[0])), call.tokens.key)
        gate, value = self.inner(self.norm_feed(x)).chunk(2, dim=1)
        fed = self.dropouts[1](self.outer(F.silu(gate) * value), call.tokens.key)
        return x + fed if self.config.second_residual else fed, [one.behind for one in met]

    def _retention(self, qkv: Tensor, call: _Call, before: Tensor | None) -> Linear:
        """[T, 3 D]; γ = 1 - σ(forgetting)."""
        q, k, v = qkv.view(len(qkv), 3, self.config.heads, -1).unbind(1)
        return linear_attention(q, k, v, call.chunks, Decay(call.places, F.softplus(self.forgetting)), before)

    def _positions(self, v: Tensor, call: _Call, before: Tensor | None) -> Linear:
        """[T, D]: one head without a decay."""
        place = self.place.index_select(0, call.tokens.position)[:, None]  # [T, 1, 32]
        return linear_attention(place, place, v[:, None], call.chunks, None, before)

    def _times(self, v: Tensor, call: _Call, before: Tensor | None) -> Linear:
        """[T, 2 H_t e]: for each period a head with the cosine, then one with the sine."""
        assert call.waves is not None and call.times is not None
        keys, queries = call.waves
        turned = torch.stack([queries[..., 1], -queries[..., 0]], dim=-1)  # sin(a - b) = sin a cos b - cos a sin b
        q = torch.stack([queries, turned], dim=2).flatten(1, 2)
        rate = torch.exp(self.speed).repeat_interleave(2) * self.fall.to(v.dtype)
        v = v.view(len(v), 2 * self.config.periods, -1)
        return linear_attention(q, keys.repeat_interleave(2, dim=1), v, call.chunks, Decay(call.times, rate), before)

    @staticmethod
    def _mixed(met: Linear, weights: Tensor, v: Tensor) -> Tensor:
        """α o + β v, flat."""
        alpha, beta = weights
        mixed: Tensor = alpha * met.found + beta * v.view_as(met.found)
        return mixed.flatten(1)


class FuXiLinear(Encoder):
    """A stack of layers without a final norm: objectives normalise states."""

    remembers = True

    def __init__(self, config: FuXiLinearConfig, width: int, window: int) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            FuXiLinearLayer(config, width, window, salt=100 + 10 * i) for i in range(config.layers)
        )

    def forward(self, x: Tensor, tokens: TokenBatch, memory: Memory | None = None) -> Tensor:
        """x [T, D] -> states [T, D]."""
        if len(x) == 0:
            return x
        call = self._call(tokens, x.dtype, memory)
        before = None if memory is None else self._before(memory, x)
        met: list[Behind] = []
        for layer in self.layers:
            states = [None] * 3 if before is None else before[len(met) :]
            x, behind = layer(x, call, states)
            met += behind
        if memory is not None:
            memory.keep_states(tokens, lambda last: call.kept(last, met))
        return x

    def _call(self, tokens: TokenBatch, dtype: torch.dtype, memory: Memory | None) -> _Call:
        chunks = Chunks(tokens, self.config.chunk, None if memory is None else memory.cached)
        first = tokens.offsets[:-1].clamp_max(len(tokens.sees) - 1)  # [B]; arbitrary for an empty row
        own = tokens.position if tokens.time is None else tokens.time
        starts = torch.stack([tokens.position[first], own[first]])  # [2, B]
        for row, kept in enumerate([] if memory is None else memory.rows):
            if kept is not None:
                starts[:, row] = kept.states[0]
        places = Clock(chunks, tokens.position, tokens.position, starts[0], dtype)
        if not self.config.times:
            return _Call(tokens, chunks, places, None, None)
        if tokens.time is None or tokens.query_time is None:
            raise ConfigError(
                "This model's encoder uses time, but the events or the request have none. Give timestamps (and the "
                "request's own time), or train with encoder.times=false."
            )
        times = Clock(chunks, tokens.time, tokens.query_time, starts[1], dtype)
        waves = [_waves(time, self.config.all_periods, dtype) for time in (tokens.time, tokens.query_time)]
        return _Call(tokens, chunks, places, times, (waves[0], waves[1]))

    def _before(self, memory: Memory, like: Tensor) -> list[Tensor]:
        """[B, heads, dk, dv] of each layer and channel; zeros for rows without a cache."""
        zeros: list[Tensor] = []
        if any(row is None for row in memory.rows):
            zeros = [like.new_zeros(shape) for layer in self.layers for shape in layer.shapes]  # type: ignore[union-attr]
        kept = [zeros if row is None else row.states[1:] for row in memory.rows]
        return [torch.stack(one) for one in zip(*kept, strict=True)]


def _waves(time: Tensor, periods: Sequence[int], dtype: torch.dtype) -> Tensor:
    """[T] -> [T, H_t, 2]. Only the integer remainder of the time modulo the period becomes a float32, so the phase
    stays exact 50 years from 1970.
    """
    lengths = torch.tensor(periods, device=time.device)
    angle = torch.remainder(time[:, None], lengths).to(dtype) * (2 * math.pi / lengths.to(dtype))
    return torch.stack([angle.cos(), angle.sin()], dim=-1)
