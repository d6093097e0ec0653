"""A model's statement of its own memory is what it keeps, and of its operations what torch counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from facta.encoders.gru import GRU, GRUConfig
from facta.encoders.hstu import HSTU, HSTUConfig
from facta.encoders.production import HSTUProduction, HSTUProductionConfig
from facta.encoders.transformer import Transformer, TransformerConfig
from facta.models.cost import cost
from facta.models.recommender import EncoderConfig
from facta.ops import backend
from facta.recipes.find import find
from tests.numerics.test_kernels import KERNELS, tokens_of

TOKENS = 200


def kept_bytes(encoder: HSTU, width: int) -> int:
    """Of tensors with a line for each token, between forward and backward."""
    tokens, kept = tokens_of([TOKENS], seed=1), dict[int, int]()

    def keep(tensor: Tensor) -> Tensor:
        if len(tensor) == TOKENS and tensor.dtype == torch.float32:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = encoder(torch.randn(TOKENS, width, requires_grad=True), tokens)
    del out
    return sum(kept.values())


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(("heads", "qk", "v"), [(1, None, None), (2, 5, 7)])
def test_activations_by_kernels_are_counted_exactly(name: str, heads: int, qk: int | None, v: int | None) -> None:
    encoder = HSTUConfig(heads=heads, qk_width=qk, v_width=v, bias="none")
    config = find("debug/hstu").model.model_copy(update={"encoder": encoder})
    with backend.use(name):
        found = cost(config, parameters=0, tokens=TOKENS).activation_bytes_per_token
        assert found * TOKENS == kept_bytes(HSTU(encoder, config.width, window=TOKENS), config.width)
    with backend.use(backend.REFERENCE):
        assert cost(config, parameters=0, tokens=TOKENS).activation_bytes_per_token > 1.5 * found


WIDTH, LENGTH, ROWS = 12, 7, 3
SOFTMAX = {"heads": 2, "attention_dropout": 0.5}  # with dropout both of its products are written out for the counter
ENCODERS: dict[str, tuple[EncoderConfig, Callable[[EncoderConfig], nn.Module]]] = {
    "hstu": (HSTUConfig(heads=2, qk_width=5, v_width=9), lambda config: HSTU(config, WIDTH, LENGTH)),
    "production": (
        HSTUProductionConfig(layers=2, heads=2, qk_width=5, v_width=9),
        lambda config: HSTUProduction(config, WIDTH, LENGTH),
    ),
    "sasrec": (TransformerConfig(hidden=20, **SOFTMAX), lambda config: Transformer(config, WIDTH)),
    "modern": (TransformerConfig(preset="modern", **SOFTMAX), lambda config: Transformer(config, WIDTH)),
    "gru": (GRUConfig(layers=2, hidden=10), lambda config: GRU(config, WIDTH)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_operations_are_those_that_torch_counts(name: str) -> None:
    """The reference multiplies all n keys for every query: as many as the average token sees among 2 n - 1."""
    config, made = ENCODERS[name]
    stated = find("debug/hstu").model.model_copy(update={"encoder": config, "width": WIDTH})
    tokens = tokens_of([LENGTH] * ROWS, seed=1)
    counter = FlopCounterMode(display=False)
    with backend.use(backend.REFERENCE), counter, torch.no_grad():
        made(config).train()(torch.randn(LENGTH * ROWS, WIDTH), tokens)
    expected = cost(stated, parameters=0, tokens=2 * LENGTH - 1).flops_per_token
    assert counter.get_total_flops() == pytest.approx(LENGTH * ROWS * expected)
