"""The contract that others may use catches what it is for: an encoder with each fault is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from facta import jagged
from facta.encoders.encoder import Encoder, EncoderConfig, TokenCost
from facta.layers.dropout import Dropout
from facta.testing import cases
from facta.testing.contract import check
from facta.types import TokenBatch

WIDTH = 8


class MeanConfig(EncoderConfig):
    fault: str = "none"
    dropout: float = 0.3

    def build(self, width: int, window: int) -> Mean:
        return Mean(width, self.fault, self.dropout)

    def cost(self, width: int, seen: float) -> TokenCost:
        return TokenCost(0.0, 0.0, 0.0)


class Mean(Encoder):
    """x + W (the mean of what is seen)."""

    def __init__(self, width: int, fault: str, p: float) -> None:
        super().__init__()
        self.fault, self.out, self.dropout = fault, nn.Linear(width, width), Dropout(p, salt=100)
        if fault == "drawn anew":
            generator = torch.Generator()
            generator.seed()
            with torch.no_grad():
                self.out.weight.add_(torch.randn(width, width, generator=generator))

    def forward(self, x: Tensor, tokens: TokenBatch) -> Tensor:
        row = jagged.rows(tokens.offsets)
        first, sees = tokens.offsets[row], tokens.sees
        if self.fault == "sees the whole row":
            sees = jagged.lengths(tokens.offsets)[row] - 1
        if self.fault == "a candidate sees the others":
            sees = jagged.places(tokens.offsets)
        sums = torch.cat([x.new_zeros(1, x.shape[1]), x.cumsum(0)])
        mean = (sums[first + sees] - sums[first] + x) / (sees + 1)[:, None]
        if self.fault == "batch mates":
            mean = mean - x.mean(dim=0)
        y: Tensor = self.out(mean)
        if self.fault == "dropout of torch":
            return x + nn.functional.dropout(y, 0.3, self.training)
        if self.fault == "float32 alone" and x.dtype == torch.float32:
            y = y * 1.01
        return x + self.dropout(y, tokens.key)


def run(fault: str) -> None:
    for case in cases(MeanConfig(fault=fault), ("interleaved",)).values():
        check(case)


def test_a_right_encoder_passes() -> None:
    run("none")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("sees the whole row", "moved by"),
        ("a candidate sees the others", "not close"),
        ("batch mates", "."),
        ("dropout of torch", "."),
        ("float32 alone", "not close"),
        ("drawn anew", "is drawn anew each time"),
    ],
)
def test_each_fault_is_caught(fault: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        run(fault)


def test_one_that_leaves_events_out_says_so() -> None:
    blind: Callable[[Tensor, TokenBatch], Tensor] = lambda x, tokens: x  # noqa: E731

    class BlindConfig(MeanConfig):
        def build(self, width: int, window: int) -> Mean:
            made = super().build(width, window)
            made.forward = blind  # type: ignore[method-assign]
            return made

    from dataclasses import replace

    case = cases(BlindConfig(), ("item",))["item-next-item"]
    with pytest.raises(AssertionError, match="moved by 0"):
        check(case)
    check(replace(case, sees_all=False))
