"""Tables of items: keys of ids, and a hashed table against a plain one with the same vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

import facta
from facta import draws
from facta.artifact.model import restored, state_of
from facta.data.batches.negatives import NegativesConfig, draw
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.keys import id_keys
from facta.errors import ConfigError
from facta.layers.embedding import EmbeddingConfig
from facta.layers.items import ItemsConfig
from facta.layers.tables import HashedTable, HashedTableConfig, PlainTable, PlainTableConfig
from facta.models.dlrm import DLRM, DLRMConfig
from facta.models.recommender import Recommender, RecommenderConfig
from facta.objectives.losses import BCEConfig, GBCEConfig, LossConfig, SampledSoftmaxConfig, SoftmaxConfig
from facta.objectives.next_item import NextItemConfig
from facta.ops import backend
from facta.recipes.find import find
from facta.similarity.inner import InnerProductConfig
from facta.similarity.mol import MoLConfig
from facta.similarity.similarity import SimilarityConfig
from facta.testing.batches import catalogue
from facta.training.identity import Identity
from facta.training.log import Log
from facta.types import Negatives
from tests import worlds

TEXTS = ["a", "b", "ab", "12345678", "123456789", "naïve", "日本語のタイトル", "a\0", "x" * 41]


def by_hand(id_: int | str) -> int:
    """The definition, on Python integers."""
    if isinstance(id_, int):
        return draws.mix_int(id_)
    raw = id_.encode()
    words = [int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8)]
    return draws.mix_int(len(raw), *words)


@pytest.mark.parametrize("kind", [pl.Int64, pl.UInt64, pl.String])
def test_keys_are_what_is_written_of_them(kind: pl.DataType) -> None:
    numbers = [0, 1, 7, 2**40, *([-3] if kind == pl.Int64 else [2**64 - 5])]
    ids: list[int] | list[str] = TEXTS if kind == pl.String else numbers
    keys = id_keys(pl.Series("item_id", ids, dtype=kind))
    assert keys.tolist() == [by_hand(id_) for id_ in ids]
    assert len(set(keys.tolist())) == len(ids)
    assert id_keys(pl.Series("item_id", [], dtype=kind)).tolist() == []


def test_keys_never_change() -> None:
    """Artifacts hold rows that these keys lead to."""
    assert id_keys(pl.Series("i", [318, -1])).tolist() == [3727297947669526266, 0]
    assert id_keys(pl.Series("i", ["B00005N7PF", "é"])).tolist() == [3088722665899073413, 1109926207668250875]


def items(ids: list[str]) -> Catalogue:
    return Catalogue(len(ids), ids=pl.Series("item_id", ids))


def hashed(known: Catalogue, rows: int = 50, hashes: int = 3, width: int = 6) -> HashedTable:
    table = HashedTableConfig(rows=rows, hashes=hashes).build(known, width, 0.5)
    assert isinstance(table, HashedTable)
    return table


def test_a_vector_is_the_sum_of_the_rows_that_its_id_leads_to() -> None:
    table = hashed(items(TEXTS))
    every = table.vectors()
    for row, id_ in enumerate(TEXTS):
        bits = [draws.mix(torch.tensor(by_hand(id_)), h) for h in range(3)]
        places = [int(draws.below(one, 50)) for one in bits]
        assert table.places()[row].tolist() == places
        torch.testing.assert_close(every[row], table.weight[places].sum(dim=0))
    asked = torch.tensor([4, 0, 4])
    torch.testing.assert_close(table.vectors(asked), every[asked])


def test_a_vector_depends_neither_on_the_order_of_a_catalogue_nor_on_its_size() -> None:
    config = RecommenderConfig(window=8, width=6, embedding=EmbeddingConfig(table=HashedTableConfig(rows=50)))
    known, grown = items(TEXTS), items([*reversed(TEXTS), "new", "newer"])
    model = config.build(known, seed=1)
    larger = restored(config, grown, state_of(model))
    for row, id_ in enumerate(TEXTS):
        again = len(TEXTS) - 1 - row
        assert torch.equal(model.item_vectors()[row], larger.item_vectors()[again]), id_
    assert len(larger.item_vectors()) == len(TEXTS) + 2


@pytest.mark.parametrize("hashes", [1, 2, 4])
def test_initial_vectors_are_as_wide_as_those_of_a_plain_table(hashes: int) -> None:
    torch.manual_seed(0)
    known = Catalogue(3000)
    spread = HashedTableConfig(rows=4000, hashes=hashes).build(known, 8, 0.02).vectors().std()
    plain = PlainTableConfig().build(known, 8, 0.02).vectors().std()
    assert spread.item() == pytest.approx(plain.item(), rel=0.03)


V = 400
LOSSES: dict[str, LossConfig] = {
    "softmax": SoftmaxConfig(),
    "in-batch": SampledSoftmaxConfig(negatives=NegativesConfig(kind="in-batch")),
    "mixed": SampledSoftmaxConfig(negatives=NegativesConfig(kind="mixed", count=9, correction="negatives")),
    "uniform": SampledSoftmaxConfig(negatives=NegativesConfig(count=7)),
    "bce": BCEConfig(),
    "gbce": GBCEConfig(negatives=NegativesConfig(count=7)),
}
SIMILARITIES: dict[str, SimilarityConfig] = {
    "cosine": InnerProductConfig(),
    "dot": InnerProductConfig(kind="dot", temperature=1.0),
    "mol": MoLConfig(query_components=2, item_components=2, component_width=4, query_hidden=8, gate_hidden=4),
}


def twins(loss: LossConfig, similarity: SimilarityConfig, dropout: float) -> tuple[Recommender, Recommender]:
    """A hashed table in which every item has rows of its own, and a plain one with the sums of these rows."""

    def model(table: HashedTableConfig | None) -> Recommender:
        embedding = EmbeddingConfig(table=table, table_dropout=dropout)
        next_item = NextItemConfig(similarity=similarity, loss=loss)
        return Recommender(RecommenderConfig(window=6, width=8, embedding=embedding, next_item=next_item), Catalogue(V))

    ours, plain = model(HashedTableConfig(rows=2**30 >> 12)), model(None)  # 262,144 rows for 800 places
    table, other = ours.embedder.item, plain.embedder.item
    assert isinstance(table, HashedTable) and isinstance(other, PlainTable)
    while len(torch.unique(table.places())) < 2 * V:  # few of them meet: those keys are drawn again
        table.keys = draws.mix(table.keys, 1)
    state = ours.state_dict()
    with torch.no_grad():
        plain.load_state_dict({**state, "embedder.item.weight": table.vectors()})
    return ours, plain


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kernels", [True, False])
def test_without_collisions_losses_and_gradients_are_those_of_a_plain_table(
    name: str, similarity: str, dropout: float, kernels: bool
) -> None:
    ours, plain = twins(LOSSES[name], SIMILARITIES[similarity], dropout)
    rows = draws.below(draws.mix(torch.arange(20), 0), V).view(4, 5).tolist()
    batch = worlds.batch_of(rows, [[0, 10, 200, 3000, 40_000]] * 4)

    def learned(model: Recommender) -> tuple[Tensor, Tensor]:
        given = Negatives() if model.negatives is None else draw(model.negatives, batch, torch.ones(V), 3)
        loss = model(batch, given)["next_item"].total
        return loss, torch.autograd.grad(loss, model.embedder.item.weight)[0].to_dense()

    with backend.use(backend.current() if kernels else backend.REFERENCE):
        (loss, gradient), (expected, slope) = learned(ours), learned(plain)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    table = ours.embedder.item
    assert isinstance(table, HashedTable) and slope.abs().max() > 0
    for place in table.places().T:  # each of its rows moves as the item's own would
        torch.testing.assert_close(gradient[place], slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["uniform", "bce", "in-batch", "mixed"])
def test_a_sampled_loss_asks_a_hashed_table_for_the_items_that_it_meets(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catalogue may have a thousand times as many items as the table has rows."""
    ours, _ = twins(LOSSES[name], SIMILARITIES["cosine"], 0.0)
    asked, vectors = [], HashedTable.vectors

    def watched(table: HashedTable, rows: Tensor | None = None) -> Tensor:
        asked.append(V if rows is None else len(rows))
        return vectors(table, rows)

    monkeypatch.setattr(HashedTable, "vectors", watched)
    batch = worlds.batch_of([[1, 2, 3, 4]], [[0, 10, 200, 3000]])
    assert ours.negatives is not None
    loss = ours(batch, draw(ours.negatives, batch, torch.ones(V), 3))["next_item"].total
    assert max(asked) < V / 10
    assert torch.autograd.grad(loss, ours.embedder.item.weight)[0].is_sparse


def test_features_stand_beside_hashed_ids() -> None:
    known = catalogue(users=False, series=False, described=True)
    config = ItemsConfig(features=True, table=HashedTableConfig(rows=70), id_width=3)
    tower = config.build(known, 8)
    assert not tower.plain
    tower.mark_trained(torch.ones(known.items, dtype=torch.bool))
    rows = torch.tensor([3, 3, 11])
    torch.testing.assert_close(tower.vectors(rows), tower.vectors()[rows])
    assert ItemsConfig(features=True).build(known, 8).plain
    ranker = DLRMConfig(table=HashedTableConfig(rows=70)).build(known)
    assert isinstance(ranker, DLRM)
    assert not ranker.item.plain and ranker.item.tables[0].shape == (70, 32)


def test_a_table_says_what_it_costs() -> None:
    known = Catalogue(1000)
    assert PlainTableConfig().build(known, 8, 0.1).bytes == 1000 * 8 * 4
    assert hashed(known, rows=50, width=8).bytes == 50 * 8 * 4 + 1000 * 8
    config = RecommenderConfig(width=8, embedding=EmbeddingConfig(table=HashedTableConfig(rows=50)))
    cost = config.build(known).cost(10)
    assert cost.parameters["table"] == 50 * 8
    assert cost.table_bytes == 50 * 8 * 4 + 1000 * 8


def test_a_recipe_of_before_is_the_same_run() -> None:
    """A run that was started without the setting goes on."""
    recipe = find("movielens-1m/hstu")
    values = recipe.model_dump(mode="json")
    del values["model"]["embedding"]["table"]
    Identity(recipe.model_dump(mode="json"), "d").check({"recipe": values, "dataset": "d"}, Path("out"))
    assert recipe.parse(values) == recipe
    plain = recipe.override({"model.embedding.table.kind": "plain"})
    states = [one.model.build(Catalogue(9), seed=2).state_dict() for one in (recipe, plain)]
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def test_a_kind_is_set_like_any_other(tmp_path: Path) -> None:
    changed = find("movielens-1m/hstu").override(["model.embedding.table.kind=hashed"])
    assert changed.override("model.embedding.table.rows=99").model.embedding.table == HashedTableConfig(rows=99)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="table"):
        changed.override("model.embedding.table.kind=cuckoo")


def test_it_trains_is_saved_and_recommends(tmp_path: Path) -> None:
    """After item i comes item i + 1. Rows are sums of others', and every next item is still told."""
    log = worlds.cycle().with_columns(item_id=pl.format("film-{}", pl.col("item_id")))
    data = facta.prepare(log, tmp_path / "d")
    settings = {
        "model.embedding.table": {"kind": "hashed", "rows": 32},
        "training.table": "lazy-adam",
        "training.epochs": 40,
        "training.patience": None,
        "training.alarm_after": None,
        "protocol.mask": "nothing",
    }
    artifact = facta.train(data, "debug/sasrec-ss", tmp_path / "a", settings, log=Log("quiet"))
    assert facta.evaluate(artifact, data).means["NDCG@10"] > 0.9
    loaded = facta.load(tmp_path / "a")
    asked = [["film-3", "film-4"], ["film-10"]]
    found = loaded.recommend(asked, k=3)
    assert [ids[0] for ids in found.ids] == ["film-5", "film-11"]
    before = artifact.recommend(asked, k=3)
    assert found.ids == before.ids and np.array_equal(found.scores, before.scores)
    table = loaded.model.embedder.item  # type: ignore[union-attr]
    assert np.array_equal(table.keys, id_keys(loaded.catalogue["item_id"]))  # type: ignore[arg-type, union-attr]
