"""The corrections for sampling: their mean gradient, by all batches of a small world and by the exact integral."""

from __future__ import annotations

import math
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.quality.logq import OWN, bias, full_gradient, mean_gradient, world

from facta.arrays import Floats
from facta.artifact.model import parse
from facta.data.batches.negatives import Correction, NegativesConfig, draw
from facta.errors import ConfigError
from facta.objectives.items import Items
from facta.objectives.losses import Contrast, sampled_softmax, softmax
from facta.types import Negatives

V, S = 4, 4


def by_all_batches(share: Floats, logits: Floats, own: int, correction: Correction) -> Floats:
    """The gradient of the loss of target 0, in the mean over all items that the other S - 1 targets may have."""
    config, counts = NegativesConfig(kind="in-batch", correction=correction), torch.from_numpy(share * 1000)
    keys, weight = torch.zeros(S, dtype=torch.int64), torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    found, query = np.zeros(V), torch.ones(S, 1, dtype=torch.float64)
    for others in product(range(V), repeat=S - 1):
        positive = torch.tensor([own, *others])
        batch: Any = SimpleNamespace(targets=SimpleNamespace(events=SimpleNamespace(item=positive)))
        items = torch.from_numpy(logits)[:, None].requires_grad_()
        loss = sampled_softmax(Contrast(query, Items.of(items), positive, weight, draw(config, batch, counts, 0), keys))
        loss.total.backward()  # type: ignore[no-untyped-call]
        assert items.grad is not None
        found += math.prod(share[list(others)]) * items.grad[:, 0].numpy()
    return found


@pytest.mark.parametrize("correction", ["none", "negatives", "all"])
def test_the_integral_is_the_mean_over_all_batches(correction: Correction) -> None:
    share, logits = np.array([0.4, 0.3, 0.2, 0.1]), np.log(np.array([0.3, 0.1, 0.26, 0.34]))
    for own in range(V):
        expected = by_all_batches(share, logits, own, correction)
        found = mean_gradient(share, logits, own, S, correction)
        np.testing.assert_allclose(found, expected, atol=2e-6)  # the correction itself is in float32


def test_negatives_that_are_all_other_items_give_the_full_softmax() -> None:
    """N = the catalogue without the positive, every item once: log Q is 0, and the positive is left alone."""
    torch.manual_seed(0)
    queries, items = torch.randn(3, 5, dtype=torch.float64), torch.randn(9, 5, dtype=torch.float64)
    positive, weight, keys = torch.tensor([2, 0, 8]), torch.tensor([1.0, 2, 3]).double(), torch.zeros(3).long()
    drawn = Negatives(shared=torch.arange(9), log_q=torch.zeros(9, dtype=torch.float64))
    sampled = sampled_softmax(Contrast(queries, Items.of(items), positive, weight, drawn, keys))
    torch.testing.assert_close(sampled.total, softmax(Contrast(queries, Items.of(items), positive, weight)).total)


def test_correcting_the_positive_as_well_is_biased_where_it_is_likely() -> None:
    for own in OWN[1:]:
        share, logits, place = world(300, own)
        exact = full_gradient(logits, place)
        assert exact[place] == pytest.approx(own - 1) and exact.sum() == pytest.approx(0)
        off = {name: bias(share, logits, place, 256, name) for name in ("none", "negatives", "all")}  # type: ignore[arg-type]
        assert off["negatives"] < 0.05 < off["all"], off
        assert off["negatives"] < off["none"], off


@pytest.mark.parametrize(("old", "new"), [(True, "negatives"), (False, "none")])
def test_the_old_name_of_the_correction_is_read(old: bool, new: str) -> None:
    assert NegativesConfig(kind="mixed", log_q=old).correction == new  # type: ignore[call-arg]
    saved = {"kind": "sampled-softmax", "negatives": {"kind": "in-batch", "log_q": old}}
    model: Any = parse({"kind": "recommender", "next_item": {"loss": saved}})
    assert model.next_item.loss.negatives.correction == new
    changed = NegativesConfig(kind="mixed").override([f"log_q={str(old).lower()}"])
    assert changed.correction == new and "log_q" not in changed.model_dump()
    with pytest.raises(ConfigError, match=r"log_q = .*, an old name"):
        NegativesConfig(kind="mixed", log_q=old, correction="all")  # type: ignore[call-arg]
