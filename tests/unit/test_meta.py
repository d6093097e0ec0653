"""Every model is built on the meta device, and has all of its tensors when it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facta.artifact.model import restored, state_of
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


def test_loading_draws_nothing_that_the_file_overwrites(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values of a million items take 20 s to draw, and .2 s to read."""
    built = []

    def watched(config: RecommenderConfig, catalogue: Catalogue, seed: int = 0) -> nn.Module:
        model = build(config, catalogue, seed)
        built.extend(model.state_dict().values())
        return model

    config, build = find("movielens-1m/hstu").model, RecommenderConfig.build
    state = state_of(config.build(Catalogue(5)))
    monkeypatch.setattr(RecommenderConfig, "build", watched)
    restored(config, Catalogue(5), state)
    assert built and all(tensor.is_meta for tensor in built)
