"""Search in two stages: exact scores of the items that a rough search puts first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import facta
from facta.artifact.model import parse
from facta.cli import app
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.errors import ConfigError
from facta.infer import parts
from facta.infer.artifact import Artifact
from facta.infer.history_of import histories_of
from facta.training.log import Log
from tests import worlds

ITEMS = 403
MOL = {"kind": "mol", "query_components": 3, "item_components": 2, "component_width": 16, "gate_hidden": 4}


def artifact(similarity: dict[str, object], untrained: int = 2) -> Artifact:
    rows = np.arange(ITEMS)
    catalogue = pl.DataFrame(
        {"row": rows, "item_id": rows * 3, "title": [None] * ITEMS, "training_events": 1 + rows % 5}
    )
    catalogue = catalogue.with_columns(training_events=pl.when(pl.col("row") < untrained).then(0).otherwise(2))
    config = {
        "kind": "recommender",
        "window": 4,
        "width": 8,
        "encoder": {"kind": "hstu", "layers": 1, "bias": "position"},
        "next_item": {"similarity": similarity},
    }
    model = parse(config).build(Catalogue(ITEMS), seed=1)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.eval()
    return Artifact({"name": "t", "model": config, "protocol": {}}, {}, catalogue, model)


@pytest.fixture(scope="module")
def mixture() -> Artifact:
    return artifact(MOL)


HISTORIES = [[30, 60, 90], [300], [], [900, 3]]


def test_a_shortlist_of_all_items_is_the_exact_list(mixture: Artifact) -> None:
    for exclude in ("history", "nothing", [9, 12, 15]):
        for length in (ITEMS - 2, 10 * ITEMS):
            found = mixture.recommend(HISTORIES, ITEMS, exclude=exclude, shortlist=length)  # type: ignore[arg-type]
            wanted = mixture.recommend(HISTORIES, ITEMS, exclude=exclude)  # type: ignore[arg-type]
            assert found.source == wanted.source
            for ours, theirs, scores, exact in zip(found.ids, wanted.ids, found.scores, wanted.scores, strict=True):
                assert set(ours) == set(theirs) and ours[:12] == theirs[:12]
                assert np.allclose(scores, exact, rtol=1e-5)


def test_exact_scores_decide_within_a_shortlist(mixture: Artifact) -> None:
    every = mixture.recommend(HISTORIES[0], ITEMS)
    exact = dict(zip(every.ids[0], every.scores[0], strict=True))
    found = mixture.recommend(HISTORIES[0], 5, shortlist=40)
    assert np.allclose(found.scores[0], [exact[id_] for id_ in found.ids[0]], rtol=1e-5)
    assert found.scores[0] == sorted(found.scores[0], reverse=True)


def test_the_rough_search_finds_most_of_the_best(mixture: Artifact) -> None:
    """Of a fifth of the items; by chance it would be a fifth."""
    met = []
    for first in range(0, 3 * ITEMS, 60):
        wanted = mixture.recommend([first + 6, first + 3], 20).ids[0]
        met.append(len({*wanted} & {*mixture.recommend([first + 6, first + 3], 20, shortlist=80).ids[0]}) / 20)
    assert np.mean(met) > 0.8


def test_a_short_shortlist_holds_the_list(mixture: Artifact) -> None:
    found = mixture.recommend(HISTORIES[0], 9, shortlist=1)
    assert len(found.ids[0]) == 9 and not {0, 3, 30, 60, 90} & {*found.ids[0]}  # untrained, or seen


def test_products_have_no_shortlist() -> None:
    with pytest.raises(ConfigError, match="a model without a rough search"):
        artifact({"kind": "cosine"}).recommend(HISTORIES, 5, shortlist=10)


def test_a_shortlist_is_a_count(mixture: Artifact) -> None:
    with pytest.raises(ConfigError, match="shortlist = 0"):
        mixture.recommend(HISTORIES, 5, shortlist=0)


@pytest.fixture
def log(tmp_path: Path) -> Dataset:
    """Users with 1 to 12 items; the last one has met untrained items alone."""
    events = [(user, 3 * (7 * user + 11 * place + 2)) for user in range(30) for place in range(1 + user % 12)]
    return prepare(
        pl.DataFrame([*events, (30, 0), (30, 3)], schema=["user_id", "item_id"], orient="row"), tmp_path / "log"
    )


def test_all_users_get_the_lists_of_the_same_shortlist(mixture: Artifact, log: Dataset) -> None:
    histories = histories_of(log, log.users["user_id"])
    expected = mixture.recommend(histories, 5, shortlist=7)
    assert set(expected.source) == {"model", "popularity"}
    found = mixture.recommend_users(log, 5, shortlist=7)
    for user, ids in zip(log.users["user_id"], expected.ids, strict=True):
        assert found.filter(pl.col("user_id") == user)["item_id"].to_list() == ids
    assert found["item_id"].to_list() != mixture.recommend_users(log, 5)["item_id"].to_list()


def test_a_file_is_of_one_shortlist(mixture: Artifact, log: Dataset, tmp_path: Path) -> None:
    """A run that was stopped goes on with the same shortlist alone."""
    begun = []
    for shortlist in (None, 7, 8):

        def stop(*_: int) -> None:
            raise KeyboardInterrupt

        out = tmp_path / f"{shortlist}.parquet"
        with pytest.raises(KeyboardInterrupt):
            mixture.recommend_users(log, 5, shortlist=shortlist, out=out, progress=stop)
        begun.append({key: value for key, value in (parts.started(out) or {}).items() if key != "artifact"})
    assert "shortlist" not in begun[0] and [one["shortlist"] for one in begun[1:]] == [7, 8]


@pytest.mark.parametrize("config", [{"kind": "popularity"}, {"kind": "item-knn"}])
def test_a_model_without_vectors_has_no_shortlist(config: dict[str, object], log: Dataset, tmp_path: Path) -> None:
    model = parse(config).build(Catalogue(ITEMS), seed=1).eval()
    catalogue = pl.DataFrame({"row": range(ITEMS), "item_id": range(ITEMS), "training_events": [1] * ITEMS})
    counted = Artifact({"name": "t", "model": config, "protocol": {}}, {}, catalogue, model)
    for ask in (lambda: counted.recommend([5], 3, shortlist=9), lambda: counted.recommend_users(log, 3, shortlist=9)):
        with pytest.raises(ConfigError, match="a model without a rough search"):
            ask()


def test_the_command_takes_a_shortlist(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """That it arrives is told by a model that has none."""
    data, out = facta.prepare(worlds.cycle(items=40), tmp_path / "log"), tmp_path / "top.parquet"
    artifact = facta.train(data, "debug/hstu-mol", tmp_path / "mol", {"training.epochs": 1}, log=Log("quiet"))
    facta.train(data, "debug/item-knn", tmp_path / "knn", log=Log("quiet"))
    given = ["--data", str(data.path), "--at", "2030-01-01", "--shortlist", "9", "-k", "6"]
    for whose in (["--user", "5", "--json"], ["--all-users", "--out", str(out)]):
        app(["recommend", str(tmp_path / "mol"), *given, *whose], standalone_mode=False)
        with pytest.raises(ConfigError, match="a model without a rough search"):
            app(["recommend", str(tmp_path / "knn"), *given, *whose, "--overwrite"], standalone_mode=False)
    said = json.loads(capfd.readouterr().out)
    expected = artifact.recommend(facta.history_of(data, 5), 6, at="2030-01-01", shortlist=9)
    assert [one["id"] for one in said["items"]] == expected.ids[0]
    found = artifact.recommend_users(data, 6, at="2030-01-01", shortlist=9)
    assert pl.read_parquet(out)["item_id"].equals(found["item_id"])
