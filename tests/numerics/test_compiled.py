"""torch.compile takes every operator and a whole layer as one graph, and computes what they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from facta import ops
from facta.encoders.hstu import HSTUConfig, HSTULayer
from facta.ops import backend
from facta.ops.buckets import LAST_BUCKET
from facta.ops.loss import SPARSE_ROW_FACTOR, sampled_loss
from facta.types import TokenBatch
from tests.numerics.test_kernels import KERNELS, random_like, tokens_of
from tests.numerics.test_past import cut

BATCHES = ([9, 5], [12, 0, 7])  # of two sizes: the graph must not hold on to the first one's
Function = Callable[..., Tensor]
needs_kernels = pytest.mark.skipif(not KERNELS, reason="facta was installed without its compiled kernels")
# torch's own, while it traces any autograd.Function
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@pytest.fixture(params=KERNELS or ["none"])
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    torch.compiler.reset()
    with backend.use(request.param):
        yield request.param
    torch.compiler.reset()


def biased(tokens: TokenBatch, q: Tensor, k: Tensor, v: Tensor, position: Tensor, time: Tensor) -> Tensor:
    return ops.hstu_attention(q, k, v, ops.Geometry(tokens), position_bias=position, time_bias=time, scale=0.1)


def softmax(tokens: TokenBatch, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ops.softmax_attention(q, k, v, ops.Geometry(tokens), scale=0.4, dropout=0.2, salt=3)


def gate(tokens: TokenBatch, o: Tensor, u: Tensor) -> Tensor:
    return ops.gate(o, ops.dropout(u, 0.3, tokens.key, 5), tokens.key, p=0.3, salt=2, eps=1e-6)


def loss(tokens: TokenBatch, queries: Tensor, table: Tensor) -> Tensor:
    positive, weight = torch.arange(len(queries)), torch.ones(len(queries))
    given = backend.current(), queries, table, positive, tokens.key, weight
    return sampled_loss(*given, negatives=3, cosine=True)


def same(function: Function, tensors: Callable[[TokenBatch], list[Tensor]], parameters: list[nn.Parameter]) -> None:
    """Output and gradients bit by bit, of one graph without breaks."""
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    for lengths in BATCHES:
        tokens = tokens_of(lengths, seed=1)
        inputs = [x.requires_grad_() for x in tensors(tokens)]
        found, expected = compiled(tokens, *inputs), function(tokens, *inputs)
        (grad,) = random_like(4, tuple(expected.shape))
        leaves = [*inputs, *parameters]
        both = [torch.autograd.grad(out, leaves, grad) for out in (found, expected)]
        assert torch.equal(found, expected)
        assert all(torch.equal(_dense(a), _dense(b)) for a, b in zip(*both, strict=True))


def _dense(x: Tensor) -> Tensor:
    return x.to_dense() if x.is_sparse else x


OPERATORS: dict[str, tuple[Function, Callable[[int], list[tuple[int, ...]]]]] = {
    "hstu attention": (biased, lambda count: [(count, 2, 6), (count, 2, 6), (count, 2, 4), (12,), (LAST_BUCKET + 1,)]),
    "softmax attention": (softmax, lambda count: [(count, 2, 6), (count, 2, 6), (count, 2, 4)]),
    "gate and dropout": (gate, lambda count: [(count, 6), (count, 6)]),
    "sampled loss": (loss, lambda count: [(count, 6), (30, 6)]),
    "sampled loss, few rows": (loss, lambda count: [(count, 6), (100 * SPARSE_ROW_FACTOR, 6)]),
}


@needs_kernels
@pytest.mark.parametrize("what", OPERATORS)
def test_an_operator(kernels: str, what: str) -> None:
    function, shapes = OPERATORS[what]
    same(function, lambda tokens: random_like(2, *shapes(len(tokens.sees))), [])


@needs_kernels
@pytest.mark.parametrize("changes", [{}, {"activated": "uvq"}, {"attention": "softmax", "bias": "none"}])
def test_a_layer(kernels: str, changes: dict[str, str]) -> None:
    torch.manual_seed(0)
    config = HSTUConfig(heads=2, dropout=0.3, init_std=0.3).change(**changes)
    layer = HSTULayer(config, width=12, window=20, salt=1)
    parameters = list(layer.parameters())
    same(
        lambda tokens, x: layer(x, tokens, ops.Geometry(tokens)),
        lambda tokens: random_like(2, (len(tokens.sees), 12)),
        parameters,
    )


@needs_kernels
def test_attention_with_a_past(kernels: str) -> None:
    tokens = tokens_of([9, 5], seed=1)
    q, k, v = random_like(2, *[(14, 2, 6)] * 3)
    called, past, asked = cut(tokens, [2, 3], k, v)

    def both(*x: Tensor) -> Tensor:
        given = *x, ops.Geometry(called)
        return ops.hstu_attention(*given, past=past) + ops.softmax_attention(*given, scale=0.3, past=past)

    compiled, inputs = torch.compile(both, backend="aot_eager", fullgraph=True), (q[asked], k[asked], v[asked])
    assert torch.equal(compiled(*inputs), both(*inputs))


def test_the_backend_that_is_asked_for_later_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled for one backend is compiled again for the next one."""
    torch.compiler.reset()
    compiled = torch.compile(lambda x: (x, backend.current()), backend="eager", fullgraph=True)
    for name in (*backend.available(), *backend.available()):
        with backend.use(name):
            assert compiled(torch.ones(1))[1] == name
    for name in backend.available():
        monkeypatch.setenv("FACTA_BACKEND", name)
        assert compiled(torch.ones(1))[1] == name
