"""LiGR's block: each residual passes a gate that reads the block's input."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from facta import ops
from facta.encoders.ligr import LiGR, LiGRConfig
from tests.numerics.test_kernels import tokens_of

WIDTH, LENGTHS = 8, [5, 1, 9]


def made(**settings: object) -> LiGR:
    """Far from the initial point, where gates are about a half."""
    torch.manual_seed(3)
    model = LiGRConfig.parse({"layers": 1, **settings}).build(WIDTH, 16).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0).add_(0.1 * torch.randn_like(parameter))
    return model


def by_hand(model: LiGR, x: Tensor) -> Tensor:
    """The equations of one row [n, D], one head, with dense attention."""
    block = model.layers[0]
    y, causal = block.norm_attention(x), torch.ones(len(x), len(x), dtype=torch.bool).tril()
    attention = block.attention
    q, (k, v) = attention.q(y), attention.kv(y).chunk(2, dim=1)
    weights = (q @ k.T / WIDTH**0.5).masked_fill(~causal, -torch.inf).softmax(dim=1)
    x = x + torch.sigmoid(block.gate_attention(x)) * attention.out(weights @ v)
    gate, value = block.inner(block.norm_feed(x)).chunk(2, dim=1)
    x = x + torch.sigmoid(block.gate_feed(x)) * block.outer(F.silu(gate) * value)
    return model.norm(x)


def test_the_block_is_its_equations() -> None:
    model, tokens = made(), tokens_of(LENGTHS, seed=1)
    x = torch.randn(sum(LENGTHS), WIDTH, dtype=torch.float64)
    expected = torch.cat([by_hand(model, row) for row in x.split(LENGTHS)])
    torch.testing.assert_close(model(x, tokens), expected, rtol=1e-11, atol=1e-11)


def test_closed_gates_let_nothing_pass() -> None:
    block, tokens = made().layers[0], tokens_of(LENGTHS, seed=1)
    x = torch.randn(sum(LENGTHS), WIDTH, dtype=torch.float64)
    for gate in (block.gate_attention, block.gate_feed):
        assert not torch.allclose(block(x, tokens, ops.Geometry(tokens)), x)
        with torch.no_grad():
            gate.weight.zero_()
            gate.bias.fill_(-200.0)
    torch.testing.assert_close(block(x, tokens, ops.Geometry(tokens)), x, rtol=0, atol=1e-12)
