"""Item towers with features: vectors against the sum written out, new items, hidden ids."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facta.data.dataset.catalogue import Catalogue
from facta.errors import ConfigError
from facta.layers.embedding import EmbeddingConfig
from facta.layers.items import ItemTower
from facta.models.recommender import Recommender, RecommenderConfig
from facta.testing.batches import ITEMS, catalogue, features
from facta.training.optim import OptimiserConfig, adamw

WIDTH = 5


def tower(hidden_ids: float = 0.0, id_width: int | None = None) -> ItemTower:
    torch.manual_seed(0)
    config = EmbeddingConfig(features=True, hidden_ids=hidden_ids, item_std=1.0, id_width=id_width)
    made = ItemTower(config, catalogue(users=False, series=False, described=True), WIDTH)
    with torch.no_grad():
        made.unknown.normal_()
    return made


def described(made: ItemTower, item: int) -> Tensor:
    """What its features add: a category's vector, the mean of its tags', and its text turned into width D."""
    known, parts = features(), made.features
    assert parts.table is not None and parts.project is not None and known["tags"].offsets is not None
    found = parts.table.weight[known["kind"].values[item]] + known["text"].values[item] @ parts.project.weight.T
    first, last = known["tags"].offsets[item : item + 2].tolist()
    tags = known["tags"].values[first:last]
    return found + (parts.bags[0][tags].mean(dim=0) if len(tags) else 0)


def test_vectors_are_ids_and_features_and_unknown_ids_one_vector() -> None:
    made = tower()
    made.trained[[3, 7]] = False
    vectors = made.vectors()
    for item in range(ITEMS):
        own = made.unknown if item in (3, 7) else made.ids.weight[item]
        torch.testing.assert_close(vectors[item], own + described(made, item))
    for rows in (torch.tensor([3, 3, 0]), torch.arange(ITEMS).repeat(3)):  # few of them, and more than there are
        torch.testing.assert_close(made.vectors(rows), vectors[rows])
        torch.testing.assert_close(made.eval().read(5, rows, rows), vectors[rows])


def test_narrow_ids_are_made_wide_by_one_matrix() -> None:
    made = tower(id_width=2)
    made.trained[3] = False
    assert made.wide is not None and made.ids.weight.shape == (ITEMS, 2)
    for item, vector in enumerate(made.vectors()):
        own = made.unknown if item == 3 else made.wide.weight @ made.ids.weight[item]
        torch.testing.assert_close(vector, own + described(made, item))


@pytest.mark.parametrize("table", ["adam", "lazy-adam", "row-wise-adam"])
def test_a_step_moves_tower_and_table(table: str) -> None:
    """Rows of items move by the rule of the table; the vectors that stand for no item move as all other weights do."""
    config = RecommenderConfig(window=10, width=8, embedding=EmbeddingConfig(features=True, hidden_ids=0.5))
    model = Recommender(config, catalogue(users=False, series=False, described=True))
    groups = model.parameter_groups()
    tower = model.embedder.item
    assert isinstance(tower, ItemTower)
    assert id(tower.ids.weight) in map(id, groups["table"]) and id(tower.unknown) in map(id, groups["backbone"])
    optimiser = adamw(groups, OptimiserConfig(table=table))  # type: ignore[arg-type]
    before = {name: one.detach().clone() for name, one in tower.named_parameters()}
    tower.read(0, torch.arange(ITEMS).repeat(9), torch.arange(9 * ITEMS)).square().sum().backward()
    optimiser.step()
    moved = {name for name, one in tower.named_parameters() if not torch.equal(one, before[name])}
    assert moved == set(before)


def test_hidden_ids_are_drawn_by_token_in_training_alone() -> None:
    made = tower(hidden_ids=0.3)
    rows, keys = torch.zeros(2000, dtype=torch.int64), torch.arange(2000)
    vectors = made.read(0, rows, keys)
    hidden = torch.isclose(vectors, made.unknown + described(made, 0), atol=1e-5).all(dim=1)
    shown = torch.isclose(vectors, made.ids.weight[0] + described(made, 0), atol=1e-5).all(dim=1)
    assert (hidden ^ shown).all()
    assert float(hidden.double().mean()) == pytest.approx(0.3, abs=0.05)
    turned = torch.arange(2000).flip(0)
    torch.testing.assert_close(made.read(0, rows, keys[turned]), vectors[turned])
    torch.testing.assert_close(made.read(0, rows), made.vectors(rows))  # what is scored is never hidden


def test_a_new_item_is_told_by_its_features_and_trains_no_id() -> None:
    made = tower()
    made.trained[4] = False
    made.vectors(torch.tensor([4])).sum().backward()
    assert made.ids.weight.grad is None or not made.ids.weight.grad.to_dense()[4].any()
    assert made.unknown.grad is not None and made.unknown.grad.any()
    assert made.features.bags[0].grad is not None


def test_a_model_is_told_which_items_were_trained() -> None:
    config = RecommenderConfig(window=8, width=8, embedding=EmbeddingConfig(features=True))
    model = Recommender(config, catalogue(users=False, series=False, described=True))
    item = model.embedder.item
    assert isinstance(item, ItemTower)
    item.mark_trained(torch.arange(ITEMS) % 2 == 1)
    assert torch.nonzero(item.trained).squeeze(1).tolist() == [*range(1, ITEMS, 2)]
    assert "embedder.item.trained" in model.state_dict()  # an artifact knows it too


def test_features_that_the_data_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match="without declared item features"):
        Recommender(RecommenderConfig(embedding=EmbeddingConfig(features=True)), Catalogue(ITEMS))
