"""Search in two stages: exact scores of the items that a rough search puts first."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from facta.artifact.model import parse
from facta.data.dataset.catalogue import Catalogue
from facta.errors import ConfigError
from facta.infer.artifact import Artifact

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
    with pytest.raises(ConfigError, match="no faster search than its scores"):
        artifact({"kind": "cosine"}).recommend(HISTORIES, 5, shortlist=10)


def test_a_shortlist_is_a_count(mixture: Artifact) -> None:
    with pytest.raises(ConfigError, match="shortlist = 0"):
        mixture.recommend(HISTORIES, 5, shortlist=0)
