"""What has first derivatives only says so: a second derivative that is silently zero would train something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from facta import ops
from facta.encoders.hstu import HSTUConfig, HSTULayer
from facta.errors import ConfigError
from facta.objectives.items import Items
from facta.objectives.losses import Contrast, sampled_softmax, softmax
from facta.ops import backend
from facta.ops.loss import sampled_loss
from facta.types import Negatives
from tests.numerics.test_kernels import random_like, tokens_of

COUNT = 13
TOKENS = tokens_of([9, 4], seed=1)
KERNELS = [name for name in backend.available() if name != backend.REFERENCE]
POSITIVE, ONES = torch.arange(COUNT), torch.ones(COUNT)
ONLY_FIRST = "first derivatives only|no autograd formula was registered"


def layer(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return HSTULayer(HSTUConfig(dropout=0.0), width=6, window=20, salt=1)(x, TOKENS, ops.Geometry(TOKENS))


def heads(x: Tensor) -> tuple[Tensor, Tensor, Tensor, ops.Geometry]:
    x = x[:, None]
    return x, x, x, ops.Geometry(TOKENS)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "hstu attention": lambda x: ops.hstu_attention(*heads(x)),
    "softmax attention": lambda x: ops.softmax_attention(*heads(x), scale=0.4),
    "gate": lambda x: ops.gate(x, x, TOKENS.key, p=0.1, salt=1, eps=1e-6),
    "layer": layer,
    "sampled loss": lambda x: sampled_loss(
        backend.current(), x, x.detach(), POSITIVE, TOKENS.key, ONES, negatives=3, cosine=False
    ),
}
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda x: softmax(Contrast(x, Items.of(x.detach()), POSITIVE, ONES)).total,
    "negatives of its own": lambda x: (
        sampled_softmax(Contrast(x, Items.of(x.detach()), POSITIVE, ONES, Negatives(each=3), TOKENS.key)).total
    ),
    "shared negatives": lambda x: (
        sampled_softmax(
            Contrast(x, Items.of(x.detach()), POSITIVE, ONES, Negatives(shared=torch.arange(4)), TOKENS.key)
        ).total
    ),
}


def refuses(function: Callable[[Tensor], Tensor]) -> None:
    """Beside a term that has second derivatives, so that a missing one would not be noticed otherwise."""
    (x,) = random_like(2, (COUNT, 6))
    x = x.requires_grad_()
    with pytest.raises((ConfigError, RuntimeError), match=ONLY_FIRST):
        first = torch.autograd.grad(function(x).sum() + (x**3).sum(), x, create_graph=True)[0]
        torch.autograd.grad(first.square().sum(), x)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("what", FUNCTIONS)
def test_kernels(what: str, name: str) -> None:
    with backend.use(name):
        refuses(FUNCTIONS[what])


@pytest.mark.parametrize("what", LOSSES)
def test_losses(what: str) -> None:
    refuses(LOSSES[what])


@pytest.mark.parametrize("name", KERNELS)
def test_dropout_has_them(name: str) -> None:
    """It is linear: kept numbers times a constant."""
    (x,) = random_like(2, (COUNT, 6))
    x = x.requires_grad_()
    with backend.use(name):
        out = ops.dropout(x, 0.3, TOKENS.key, 1)
        first = torch.autograd.grad(out.square().sum(), x, create_graph=True)[0]
        second = torch.autograd.grad(first.sum(), x)[0]
    torch.testing.assert_close(second, 2 * (out.detach() / x.detach()).square())
