"""The item table: what a training step sees of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from facta.data.dataset.catalogue import Catalogue
from facta.layers.embedding import Embedder, EmbeddingConfig
from facta.layers.tables import PlainTable
from facta.layouts.layout import INTERLEAVED
from facta.models.recommender import Recommender, RecommenderConfig
from facta.testing.batches import batch, catalogue, random_row
from facta.types import Negatives
from tests.worlds import batch_of

ROWS, TIMES = [[1, 2, 3, 4], [5, 6, 7]], [[0, 9, 99, 999], [0, 5, 50]]


def test_a_step_drops_entries_by_its_key_and_scoring_drops_none() -> None:
    table = PlainTable(300, 20, std=0.02, dropout=0.3)
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
    losses = [m(batch, Negatives(each=4))["next_item"].total.item() for m in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    again = one(replace(batch, key=8), Negatives(each=4))["next_item"].total.item()
    assert again != pytest.approx(losses[0], rel=1e-6)


def test_the_calendar_is_part_of_the_context() -> None:
    """A week later everything looks the same; an hour later the tokens that show context differ, and no others."""
    config = EmbeddingConfig(dropout=0.0, calendar=True)
    embedder = Embedder(config, catalogue(users=False, series=False, described=False), 8, 10, INTERLEAVED.shows)
    row = random_row(np.random.default_rng(0), 5, 1)

    def vectors(shift: int) -> tuple[Tensor, Tensor]:
        plain = batch([row], users=False, series=False)
        events = replace(plain.events, time=plain.events.time + shift)  # type: ignore[operator]
        targets = replace(plain.targets, events=replace(plain.targets.events, time=events.time))
        moved = replace(plain, events=events, targets=targets)
        tokens = INTERLEAVED.tokens(moved, ("feedback",))
        return embedder.tokens(moved, tokens), tokens.kind

    (now, kind), (week, _), (hour, _) = vectors(0), vectors(7 * 24 * 3_600_000), vectors(3_600_000)
    assert torch.equal(now, week)
    changed = (now != hour).any(dim=1)
    assert torch.equal(changed, kind == 0)
