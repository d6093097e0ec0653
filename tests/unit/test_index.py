"""Item vectors are made once, for evaluation and for requests, and a request does no work for each item beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from facta.artifact.model import parse
from facta.data.batches.spec import InputSpec
from facta.data.dataset.catalogue import Catalogue
from facta.eval.evaluation import evaluate
from facta.eval.experiment import Experiment
from facta.eval.protocol import ProtocolConfig
from facta.infer.artifact import Artifact
from facta.retrieval import score_block
from facta.retrieval.index import Index
from facta.similarity.inner import InnerProduct, InnerProductConfig
from facta.types import FactoredScores, SequenceBatch
from tests.rankers import dataset_of, random_log

ITEMS = 1003  # no whole number of tiles
MODEL = {"kind": "recommender", "window": 4, "width": 8, "encoder": {"kind": "hstu", "layers": 1, "bias": "position"}}


class Vectors:
    """Scores that are products of the newest item's query with vectors; asked for them, it counts how often."""

    window_of_requests, inputs = 50, InputSpec()
    scoring: InnerProduct | None = InnerProductConfig(kind="dot", temperature=1.0).build(8)

    def __init__(self, items: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(2, items, 8, generator=generator)
        self.made = 0

    def queries(self, batch: SequenceBatch) -> Tensor:
        return self.table[0][batch.events.item[batch.offsets[1:] - 1]]

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        self.made += 1
        return self.table[1] if rows is None else self.table[1][rows]

    def catalogue_scores(self, batch: SequenceBatch) -> FactoredScores:
        return FactoredScores(self.queries(batch), self.table[1])


class Products(Vectors):
    """The same without a promise: its products come with every batch."""

    scoring = None


def artifact(untrained: int = 1) -> Artifact:
    rows = np.arange(ITEMS)
    catalogue = pl.DataFrame(
        {"row": rows, "item_id": rows * 3, "title": [f"title {row}" for row in rows], "training_events": 1 + rows % 5}
    ).with_columns(training_events=pl.when(pl.col("row") < untrained).then(0).otherwise(pl.col("training_events")))
    model = parse(MODEL).build(Catalogue(ITEMS), seed=1)
    model.eval()
    return Artifact({"name": "t", "model": MODEL, "protocol": {}}, {}, catalogue, model)


@pytest.mark.parametrize("rank", ["all", "trained"])
def test_an_evaluation_makes_item_vectors_once(tmp_path: Path, rank: str) -> None:
    dataset = dataset_of(tmp_path / "log", random_log(), titles=range(40))
    protocol = ProtocolConfig(rank=rank)  # type: ignore[arg-type]
    once, each = Vectors(dataset.num_items), Products(dataset.num_items)
    found, expected = (evaluate(one, Experiment(dataset, protocol), batch_size=7) for one in (once, each))
    assert once.made == 1 and each.made == 0
    assert np.array_equal(found.lists, expected.lists)
    assert found.means == expected.means


@pytest.mark.parametrize("untrained", [0, 1])
def test_an_artifact_makes_item_vectors_once(monkeypatch: pytest.MonkeyPatch, untrained: int) -> None:
    asked, made = artifact(untrained), []
    vectors = asked.model.item_vectors  # type: ignore[union-attr]
    monkeypatch.setattr(asked.model, "item_vectors", lambda rows: made.append(rows) or vectors(rows), raising=False)
    for start in range(5):
        asked.recommend([3 * start, 30, 60])
    assert len(made) == 1
    assert made[0] is None if untrained == 0 else made[0].tolist() == list(range(1, ITEMS))


def test_scores_of_an_index_are_those_of_the_model_bit_by_bit() -> None:
    asked = artifact(untrained=7)
    answer = asked.recommend([30, 60, 90], ITEMS, exclude="nothing")
    with torch.inference_mode():
        every = asked.model.item_vectors()  # type: ignore[operator, union-attr]
        listed = Index.of(asked.model, np.arange(7, ITEMS), ITEMS).vectors
    assert listed is not None and torch.equal(listed[: ITEMS - 7], every[7:]) and not listed[ITEMS - 7 :].any()
    assert len(answer.ids[0]) == ITEMS - 7 and min(answer.ids[0]) == 3 * 7


def test_a_request_copies_no_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the last block to fill it up took longer than the answer, for a million items."""
    asked, padded, copied = artifact(), score_block._padded, []

    def watched(vectors: Tensor, count: int) -> Tensor:
        if len(vectors) != count:
            copied.append(len(vectors))
        return padded(vectors, count)

    first = asked.recommend([30, 60, 90])
    monkeypatch.setattr(score_block, "_padded", watched)
    assert asked.recommend([30, 60, 90]) == first
    assert not copied


def test_a_request_makes_no_object_for_each_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the first one: of a million ids, lists and dictionaries take a second and 200 MB."""
    asked, lengths, to_list = artifact(), [], pl.Series.to_list

    def watched(self: pl.Series) -> list[Any]:
        lengths.append(len(self))
        return to_list(self)

    monkeypatch.setattr(pl.Series, "to_list", watched)
    answer = asked.recommend([30, 60, 90, 1], 10)
    assert len(answer.ids[0]) == 10 and answer.unknown == [1] and max(lengths) <= 10
    assert answer.titles[0] == [f"title {id_ // 3}" for id_ in answer.ids[0]]  # type: ignore[operator]
