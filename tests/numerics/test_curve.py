"""A model trained by the kernels and one trained by the definition lose the same, step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facta.data.dataset.catalogue import Catalogue
from facta.models.recommender import Recommender
from facta.ops import backend
from facta.recipes.find import find
from facta.training.optim import OptimiserConfig, adamw
from facta.training.step import take_step
from facta.types import Negatives
from tests.worlds import batch_of, random_rows

ITEMS, STEPS = 60, 50


def curve(recipe: str, kernels: str) -> list[float]:
    """Losses of 50 steps with dropout, over five batches of random rows."""
    config = find(recipe).override(["model.encoder.dropout=0.2", "model.embedding.dropout=0.2"]).model
    model = config.build(Catalogue(ITEMS), 0)
    assert isinstance(model, Recommender)
    optimiser = adamw(model.train().parameter_groups(), OptimiserConfig())
    losses = []
    with backend.use(kernels):
        for step in range(STEPS):
            batch = batch_of(*random_rows(np.random.default_rng(step % 5), 6, 16, ITEMS), first_user=10 * step)
            losses.append(take_step(model, optimiser, [(batch, Negatives(each=20))], 1, clip_norm=None).loss)
    return losses


@pytest.mark.parametrize("recipe", ["debug/hstu", "debug/sasrec-ss"])
@pytest.mark.parametrize("kernels", [name for name in backend.available() if name != backend.REFERENCE])
def test_kernels_train_as_the_definition_does(recipe: str, kernels: str) -> None:
    found, expected = curve(recipe, kernels), curve(recipe, backend.REFERENCE)
    assert expected[-1] < 0.95 * expected[0]  # it learns something
    assert torch.tensor(found).sub(torch.tensor(expected)).abs().max() < 2e-5 * max(expected)
