"""A model's statement of its own memory is what it keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facta.encoders.hstu import HSTU, HSTUConfig
from facta.models.cost import cost
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
