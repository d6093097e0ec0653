"""Every model is built on the meta device, and has all of its tensors when it is loaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facta.artifact.model import _Undrawn, restored, state_of
from facta.data.dataset.catalogue import Catalogue
from facta.models.recommender import RecommenderConfig
from facta.recipes.find import every, find
from facta.testing import batches as feedback_world
from tests.unit.test_recipes import catalogue_for

RICH: dict[str, Any] = {
    "window": 8,
    "width": 8,
    "layout": "interleaved",
    "embedding": {"features": True, "id_width": 4, "rates": 5.0, "calendar": True, "gaps": True},
    "next_item": {"positive": "rating"},
    "feedback": {},
}


def held(model: nn.Module) -> dict[str, Tensor]:
    """All tensors of a model by name: parameters, buffers, and what a module keeps as a plain attribute."""

    def tensors(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, (tuple, list)):
            for place, one in enumerate(value):
                yield from tensors(f"{name}.{place}", one)

    found: dict[str, Tensor] = {}
    for where, module in model.named_modules():
        for name, value in {**vars(module), **module._parameters, **module._buffers}.items():
            found |= tensors(f"{where}.{name}", value)
    return found


@pytest.mark.parametrize("name", [*every(), "rich", "hashed"])
def test_a_loaded_model_has_every_tensor_of_the_saved_one(name: str) -> None:
    own = {"rich": RICH, "hashed": {**RICH, "embedding": {**RICH["embedding"], "table": {"kind": "hashed", "rows": 9}}}}
    config = RecommenderConfig.parse(own[name]) if name in own else find(name).model
    rich = feedback_world.catalogue(users=True, series=True, described=True)
    catalogue: Catalogue = rich if name in own else catalogue_for(name)
    with torch.device("meta"):
        unfilled = config.build(catalogue)
    saved = config.build(catalogue, seed=1)
    assert all(tensor.is_meta for tensor in unfilled.state_dict().values())  # nothing was drawn or filled
    loaded = held(restored(config, catalogue, state_of(saved)))
    assert loaded.keys() == held(saved).keys()
    for key, tensor in held(saved).items():
        assert loaded[key].dtype == tensor.dtype and torch.equal(loaded[key], tensor), key


def test_a_loaded_model_keeps_no_hold_of_what_it_was_read_from() -> None:
    """A file is read by mapping: written over in place, it would change the weights of a model that serves."""
    config = find("movielens-1m/hstu").model
    state = state_of(config.build(Catalogue(5)))
    before = {name: tensor.clone() for name, tensor in state.items()}
    model = restored(config, Catalogue(5), state)
    for tensor in state.values():
        tensor.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["movielens-1m/hstu", "movielens-1m/gru4rec", "movielens-1m/fuxi-linear"])
def test_loading_draws_nothing_that_the_file_overwrites(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values of a million items take 20 s to draw, and .2 s to read."""
    config = find(name).model
    state = state_of(config.build(Catalogue(5)))
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())
    torch.manual_seed(0)
    before = torch.get_rng_state()
    restored(config, Catalogue(5), state)
    assert torch.equal(torch.get_rng_state(), before)
    config.build(Catalogue(5), seed=0)
    assert not torch.equal(torch.get_rng_state(), before), "a new model is drawn"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say what is resident")
def test_a_table_that_will_be_overwritten_takes_no_memory() -> None:
    """Neither for its draws nor for what is made of them."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * 4096

    before = resident()
    with _Undrawn():
        table = find("movielens-1m/hstu").model.build(Catalogue(2_000_000)).embedder.item.weight
    assert table.nbytes == 400_000_000 and resident() - before < 100_000_000


def test_loading_imports_no_compiler() -> None:
    """It takes 2 s and 70 MB, in each process that serves."""
    code = """
import sys
from facta.artifact.model import restored, state_of
from facta.data.dataset.catalogue import Catalogue
from facta.recipes.find import find

config = find("movielens-1m/hstu").model
restored(config, Catalogue(5), state_of(config.build(Catalogue(5))))
assert "torch._dynamo" not in sys.modules and "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
