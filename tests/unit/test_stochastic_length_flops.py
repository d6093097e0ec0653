"""What `stochastic_length.py` counts and draws: FLOPs against a counter and by hand, rows kept in their order."""

from __future__ import annotations

import pytest
import torch
from benchmarks.speed.block import HEADS, WIDTH, Block
from benchmarks.speed.lengths import tokens_of
from benchmarks.speed.stochastic_length import (
    HISTORIES,
    HSTU,
    LONGEST,
    TRANSFORMER,
    deviations,
    drawn,
    expected_flops,
    flops,
    micro_batches,
)
from torch.utils.flop_counter import FlopCounterMode

from facta import ops
from facta.data.batches.stochastic_length import threshold
from facta.encoders.hstu import HSTUConfig, HSTULayer


def test_flops_by_hand() -> None:
    attention = 7 * 2 * 512 * (1 + 3)  # rows of 1 and 2: 1 + 3 pairs, seven products of 2 x 512 each
    assert flops([1, 2], HSTU) == 3 * (2 * 5 * 512 * 512) * 3 + attention
    assert flops([1, 2], TRANSFORMER) - flops([1, 2], HSTU) == 3 * 3 * (2 * 7 * 512 * 512)
    assert flops([2, 1, 2], HSTU) == flops([2], HSTU) * 2 + flops([1], HSTU)


def counted(x: torch.Tensor, forward: torch.nn.Module, *given: object) -> int:
    with FlopCounterMode(display=False) as counter:
        forward(x.requires_grad_(), *given).square().sum().backward()
    products = counter.get_flop_counts()["Global"]
    return sum(count for kind, count in products.items() if kind in (torch.ops.aten.mm, torch.ops.aten.addmm))


def test_the_weights_of_both_layers_are_all_counted() -> None:
    tokens = 6
    linear = {weights: flops([tokens], weights) - flops([tokens], 0) for weights in (HSTU, TRANSFORMER)}
    assert counted(torch.randn(1, tokens, WIDTH), Block()) == linear[TRANSFORMER]
    layer = HSTULayer(HSTUConfig(heads=HEADS, bias="none", dropout=0.0), WIDTH, tokens, salt=0)
    layer.forward = layer.by_parts  # type: ignore[method-assign]
    batch = tokens_of([tokens])
    assert counted(torch.randn(tokens, WIDTH), layer, batch, ops.Geometry(batch)) == linear[HSTU]


def test_the_expected_draw_costs_a_sixteenth_of_the_transformer() -> None:
    assert flops([LONGEST], TRANSFORMER) / expected_flops(1.6) == pytest.approx(15.8, abs=0.05)
    assert expected_flops(2.0) == flops([LONGEST], HSTU)


def test_draws_keep_those_left_whole() -> None:
    lengths = drawn(1.6, longest=1024, histories=2 * HISTORIES)
    assert set(lengths) == {threshold(1.6, 1024), 1024} and len(lengths) == 512
    mean = sum(flops([length], HSTU) for length in lengths) / len(lengths)
    assert mean == pytest.approx(expected_flops(1.6, longest=1024), rel=0.15)


def test_micro_batches_keep_rows_and_order() -> None:
    groups = micro_batches([3, 5, 2, 9, 1, 7], 8)
    assert groups == [[3, 5], [2], [9], [1, 7]]


def test_deviations_are_shares_of_alpha_2() -> None:
    found = deviations({1.6: 3.0, 1.8: 4.5, 2.0: 10.0}, {1.6: 20.0, 1.8: 50.0, 2.0: 100.0})
    assert found == pytest.approx({1.6: 0.5, 1.8: -0.1, 2.0: 0.0})
