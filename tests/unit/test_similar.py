"""Similar items: what the vectors and the counted pairs say, without the item itself and what nobody trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import facta
import facta.artifact.model as saved_model
import facta.infer.similar as similar_module
from facta.artifact.files import ArtifactData
from facta.cli import app
from facta.data.dataset.catalogue import Catalogue
from facta.infer.artifact import Artifact
from facta.training.log import Log
from tests import worlds
from tests.unit.test_candidates import artifact as featured
from tests.unit.test_candidates import log as log  # the fixture
from tests.unit.test_engine import artifact as small
from tests.unit.test_shortlist import MOL
from tests.unit.test_shortlist import artifact as large

QUIET = Log("quiet")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    return facta.prepare(worlds.checkerboard(), tmp_path_factory.mktemp("similar") / "data")


@pytest.mark.parametrize("recipe", ["item-knn", "rules", "ease", "sasrec-ce"])
def test_items_of_one_colour_are_similar(board: facta.Dataset, tmp_path: Path, recipe: str) -> None:
    """Everyone meets items of one parity alone."""
    short = {"training.epochs": 8} if recipe == "sasrec-ce" else {}
    artifact = facta.train(board, f"debug/{recipe}", tmp_path / "a", short, log=QUIET)
    found = facta.load(tmp_path / "a").similar_items(range(12), 5)
    assert found.items == [*range(12)] and found.untrained == [False] * 12 and found.by
    for item, ids, scores in zip(found.items, found.ids, found.scores, strict=True):
        assert set(ids) == {other for other in range(item % 2, 12, 2) if other != item}, item
        assert scores == sorted(scores, reverse=True)
    assert artifact.similar_items(range(12), 5) == found
    everything = artifact.similar_items(3, 50)
    pairs = recipe in ("item-knn", "rules", "ease")
    assert len(everything.ids[0]) == (5 if pairs else 11), "pairs that nobody met are not similar at all"


def by_hand(artifact: Artifact, rows: list[int]) -> np.ndarray:
    """[n, V] cosines in float64; -inf for the item itself and for items without training events."""
    vectors = artifact.model.item_vectors().detach().double().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = vectors[rows] @ vectors.T
    scores[:, artifact.catalogue["training_events"].to_numpy() == 0] = -np.inf
    scores[np.arange(len(rows)), rows] = -np.inf
    return scores


@pytest.mark.parametrize("kind", ["cosine", "dot"])
def test_vectors_are_compared_by_their_cosine(kind: str) -> None:
    """Of 403 items the first two are untrained; vectors of `dot` have unlike lengths."""
    artifact, rows = large({"kind": kind}), [5, 402, 17]
    lengths = artifact.model.item_vectors().norm(dim=1)
    assert bool((lengths.max() - lengths.min() > 0.1) == (kind == "dot"))
    found, scores = artifact.similar_items([3 * row for row in rows], 403), by_hand(artifact, rows)
    for place, ids in enumerate(found.ids):
        expected = np.argsort(-scores[place], kind="stable")[:400]
        assert len(ids) == 400 and not {0, 3, 3 * rows[place]} & {*ids}
        assert found.scores[place] == pytest.approx(scores[place][expected].tolist(), abs=1e-5)
        assert [id_ // 3 for id_ in ids[:20]] == expected[:20].tolist()
        assert artifact.similar_items(3 * rows[place], 7).ids == [ids[:7]]


def test_a_prior_changes_no_vector() -> None:
    config: dict[str, Any] = {"kind": "recommender", "window": 4, "width": 8, "prior": {}}
    model = saved_model.parse(config).build(Catalogue(30), seed=1).eval()
    catalogue = pl.DataFrame({"row": range(30), "item_id": range(30), "training_events": [0, *[3] * 29]})
    artifact = Artifact.of(ArtifactData({"name": "t", "model": config, "protocol": {}}, {}, catalogue, model))
    assert not model.factored
    found, scores = artifact.similar_items(4, 10), by_hand(artifact, [4])[0]
    assert found.ids[0] == np.argsort(-scores, kind="stable")[:10].tolist()


def test_rules_have_a_direction_and_an_item_in_row_0_keeps_its_weight(tmp_path: Path) -> None:
    """Rows of rules end in zeros that point to row 0, which may be a neighbour itself."""
    histories = [(1, 0, 3)] * 4 + [(1, 2, 3)] * 2  # the last event is held out
    pairs = [(user, item) for user, history in enumerate(histories) for item in history]
    data = facta.prepare(pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row"), tmp_path / "data")
    settings = {"model.backward": 0.0, "choose": False, "protocol": {"split": "loo-paper", "mask": "nothing"}}
    artifact = facta.train(data, "debug/rules", tmp_path / "a", settings, log=QUIET)
    assert artifact.similar_items([1, 0, 2], 5).ids == [[0, 2], [], []]


def test_items_without_training_events_are_marked_and_left_out(log: facta.Dataset) -> None:
    plain, ids = small(), [10 * row for row in range(12)]
    assert plain.catalogue["training_events"][4] == 0
    found = plain.similar_items([40, 10], 20)
    assert found.ids[0] == [] and found.untrained == [True, False]
    assert set(found.ids[1]) == {*ids} - {10, 40}
    told = featured(log, joint=True)
    new = log.items["item_id"][int(np.flatnonzero(np.bincount(log.item, minlength=log.num_items) == 0)[0])]
    found = told.similar_items([new], 3)
    assert found.untrained == [True] and len(found.ids[0]) == 3, "features say what it is like"
    vectors = told.model.item_vectors()
    best = torch.nn.functional.cosine_similarity(vectors[told.rows_of([new])], vectors[told.rows_of(found.ids[0])])
    assert found.scores[0] == pytest.approx(best.tolist(), abs=1e-5)


def test_many_items_are_compared_in_parts(
    board: facta.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = facta.train(board, "debug/ease", tmp_path / "a", log=QUIET)
    whole = artifact.similar_items(range(12), 4)
    monkeypatch.setattr(similar_module, "CELLS", 30)  # two items at a time
    assert artifact.similar_items(range(12), 4) == whole


def test_the_frame_has_a_line_for_each(log: facta.Dataset) -> None:
    found = featured(log, joint=True).similar_items([3, 8, 0], 2)
    frame = found.frame()
    assert frame.columns == ["similar_to", "rank", "item_id", "score", "title"]
    assert frame["similar_to"].to_list() == [3, 3, 8, 8, 0, 0] and frame["rank"].to_list() == [1, 2] * 3
    assert frame["item_id"].to_list() == [id_ for ids in found.ids for id_ in ids]
    assert frame["title"].to_list() == [f"film {id_}" for ids in found.ids for id_ in ids]
    text = small(ids=[f"i{row}" for row in range(12)])
    assert text.similar_items([], 3).frame().schema == text.similar_items("i3", 3).frame().schema


def test_a_model_that_compares_no_items_says_so(board: facta.Dataset, log: facta.Dataset, tmp_path: Path) -> None:
    popular = facta.train(board, "debug/popularity", tmp_path / "a", log=QUIET)
    for artifact, item in ((popular, 3), (large(MOL), 3), (featured(log), 3), (featured(log, "dlrm"), 3)):
        for asked in (item, [], [item]):
            with pytest.raises(facta.ConfigError, match=r"^This artifact compares no items: .* such as hstu"):
                artifact.similar_items(asked)


@pytest.mark.parametrize(
    ("item", "k", "message"),
    [
        (99, 3, "^Unknown item 99; expected one of 12 item ids"),
        ([10, 98, 99], 3, "^Unknown item 98, 99; expected one of 12"),
        ("10", 3, "^Found the item id '10' of type str; ids of this catalogue are of type int"),
        (None, 3, "^Found the item id None of type NoneType"),
        (10, 0, "^Found k = 0; expected a whole number, at least 1"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(item: Any, k: int, message: str) -> None:
    with pytest.raises(facta.FactaError, match=message):
        small().similar_items(item, k)


def test_the_command(board: facta.Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    items = pl.DataFrame({"item_id": range(13), "title": [f"film {n}" for n in range(13)]})
    data = facta.prepare(worlds.checkerboard(), tmp_path / "data", items=items)
    artifact = facta.train(data, "debug/item-knn", tmp_path / "a", log=QUIET)
    app(["similar", str(tmp_path / "a"), "3", "12", "-k", "2", "--json"], standalone_mode=False)
    said = json.loads(capfd.readouterr().out)
    found = artifact.similar_items([3, 12], 2)
    assert said["by"] == found.by and [one["id"] for one in said["items"]] == [3, 12]
    assert [one["id"] for one in said["items"][0]["similar"]] == found.ids[0]
    assert said["items"][0]["title"] == "film 3" and said["items"][1] == {
        "id": 12,
        "title": "film 12",
        "untrained": True,
        "similar": [],
    }
    app(["similar", str(tmp_path / "a"), "3", "12"], standalone_mode=False)
    printed = capfd.readouterr()
    assert "similar to film 3 (3)" in printed.out and f"film {found.ids[0][0]} ({found.ids[0][0]})" in printed.out
    assert "cosine of the users with both items" in printed.out
    assert "film 12 (12) has no training event: no similar items are known." in " ".join(printed.err.split())
