"""The item table: what a training step sees of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from facta.data.catalogue import Catalogue
from facta.layers.embedding import EmbeddingConfig
from facta.layers.items import ItemTable
from facta.models.recommender import Recommender, RecommenderConfig
from facta.types import Negatives
from tests.worlds import batch_of

ROWS, TIMES = [[1, 2, 3, 4], [5, 6, 7]], [[0, 9, 99, 999], [0, 5, 50]]


def test_a_step_drops_entries_by_its_key_and_scoring_drops_none() -> None:
    table = ItemTable(300, 20, std=0.02, dropout=0.3)
    dropped = table.dropped(key=5)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], table.weight[kept] / 0.7)
    assert torch.equal(dropped, table.dropped(key=5))
    assert not torch.equal(dropped, table.dropped(key=6))
    assert table.eval().dropped(key=5) is table.weight
    assert table.vectors() is table.weight


def model(table_dropout: float) -> Recommender:
    embedding = EmbeddingConfig(dropout=0.0, table_dropout=table_dropout)
    return Recommender(RecommenderConfig(window=8, width=8, embedding=embedding), Catalogue(20)).double()


def test_items_are_read_and_scored_with_the_same_draw() -> None:
    """The loss of a step equals that of a model whose table is the dropped one, for input and output alike."""
    one, other = model(0.5), model(0.0)
    other.load_state_dict(one.state_dict())
    batch = replace(batch_of(ROWS, TIMES), key=7)
    with torch.no_grad():
        other.embedder.item.weight.copy_(one.embedder.item.dropped(7))
    for encoder in (one.encoder, other.encoder):
        encoder.eval()
    losses = [m.losses(batch, Negatives(each=4))["next_item"].total.item() for m in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    again = one.losses(replace(batch, key=8), Negatives(each=4))["next_item"].total.item()
    assert again != pytest.approx(losses[0], rel=1e-6)
