"""A model's statement of its own memory is what it keeps, and of its operations what torch counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from facta.data.dataset.catalogue import Catalogue
from facta.encoders.encoder import EncoderConfig
from facta.encoders.fuxi import FuXiLinearConfig
from facta.encoders.gru import GRUConfig
from facta.encoders.hstu import HSTU, HSTUConfig
from facta.encoders.ligr import LiGRConfig
from facta.encoders.production import HSTUProductionConfig
from facta.encoders.transformer import TransformerConfig
from facta.ops import backend
from facta.recipes.find import find
from facta.types import Negatives
from tests.numerics.test_kernels import KERNELS, tokens_of
from tests.worlds import batch_of

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
    encoder, width = HSTUConfig(heads=heads, qk_width=qk, v_width=v, bias="none"), 16
    seen = (TOKENS + 1) / 2
    with backend.use(name):
        found = encoder.cost(width, seen).activation_bytes
        assert found * TOKENS == kept_bytes(encoder.build(width, window=TOKENS), width)
    with backend.use(backend.REFERENCE):
        assert encoder.cost(width, seen).activation_bytes > 1.5 * found


WIDTH, LENGTH, ROWS = 12, 7, 3
SOFTMAX = {"heads": 2, "attention_dropout": 0.5}  # with dropout both of its products are written out for the counter
ENCODERS: dict[str, EncoderConfig] = {
    "hstu": HSTUConfig(heads=2, qk_width=5, v_width=9),
    "production": HSTUProductionConfig(layers=2, heads=2, qk_width=5, v_width=9),
    "sasrec": TransformerConfig(hidden=20, **SOFTMAX),
    "modern": TransformerConfig(preset="modern", **SOFTMAX),
    "ligr": LiGRConfig(hidden=20, **SOFTMAX),
    "fuxi": FuXiLinearConfig(hidden=20, places=3, periods=4),
    "gru": GRUConfig(layers=2, hidden=10),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_operations_are_those_that_torch_counts(name: str) -> None:
    """The reference multiplies all n keys for every query: as many as the average token sees among 2 n - 1."""
    config, tokens = ENCODERS[name], tokens_of([LENGTH] * ROWS, seed=1)
    counter = FlopCounterMode(display=False)
    with backend.use(backend.REFERENCE), counter, torch.no_grad():
        config.build(WIDTH, LENGTH).train()(torch.randn(LENGTH * ROWS, WIDTH), tokens)
    expected = config.cost(WIDTH, LENGTH).flops
    assert counter.get_total_flops() == pytest.approx(LENGTH * ROWS * expected)


def test_a_token_of_linear_attention_multiplies_one_chunk_however_long_its_row_is() -> None:
    config, counter = FuXiLinearConfig(chunk=6), FlopCounterMode(display=False)
    with counter, torch.no_grad():
        config.build(WIDTH, 60)(torch.randn(84, WIDTH), tokens_of([60, 24], seed=1))
    assert config.cost(WIDTH, 30.5) == config.cost(WIDTH, 4000)
    assert counter.get_total_flops() == pytest.approx(84 * config.cost(WIDTH, 30.5).flops)


KEPT: dict[str, EncoderConfig] = {
    "fuxi": FuXiLinearConfig(layers=1),
    "fuxi-timeless": FuXiLinearConfig(layers=1, times=False),
    "fuxi-small-chunks": FuXiLinearConfig(layers=1, chunk=8, hidden=100),
    "ligr": LiGRConfig(layers=1),
}


@pytest.mark.skipif(not KERNELS, reason="facta was installed without its compiled kernels")
@pytest.mark.parametrize("name", KEPT)
def test_activations_are_about_what_autograd_keeps(name: str) -> None:
    width, kept = 64, dict[int, int]()
    encoder = KEPT[name].build(width, TOKENS)
    own = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.dtype == torch.float32 and storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = encoder(torch.randn(TOKENS, width, requires_grad=True), tokens_of([TOKENS], seed=1))
    del out
    stated = KEPT[name].cost(width, (TOKENS + 1) / 2).activation_bytes
    assert stated == pytest.approx(sum(kept.values()) / TOKENS, rel=0.15)


@pytest.mark.parametrize("loss", ["softmax", "sampled-softmax"])
def test_a_models_cost_has_its_losses_and_its_parameters_by_group(loss: str) -> None:
    """Torch counts the products of a full softmax, and none of drawn negatives, which are gathered."""
    items, width, targets = 50, 16, 15
    recipe = find("debug/hstu").override({"model.next_item.loss.kind": loss, "model.encoder.bias": "none"})
    model, counter = recipe.model.build(Catalogue(items)).eval(), FlopCounterMode(display=False)
    with backend.use(backend.REFERENCE), counter, torch.no_grad():
        model(batch_of([[1, 2, 3, 4]] * 5), Negatives(each=128))
    cost = model.cost(2 * 3 - 1)  # of tokens that see three in the mean, as all do of the reference
    compared = items if loss == "softmax" else 1 + 128
    assert cost.flops_per_target == 2 * width * compared
    losses = targets * cost.flops_per_target if loss == "softmax" else 0
    assert counter.get_total_flops() == pytest.approx(targets * cost.flops_per_token + losses)
    assert sum(cost.parameters.values()) == sum(p.numel() for p in model.parameters())
    assert cost.parameters["table"] == items * width and cost.cache_bytes_per_token == 4 * 2 * 2 * width
