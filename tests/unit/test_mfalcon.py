"""M-FALCON: however candidates are divided, ordered and accompanied, and whatever is kept of the person, each gets what
it gets alone, when everything is computed for it (reference/hstu.md 6.4: a, b, c)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from facta.data.batches.encoded import EncodedHistory
from facta.data.batches.request import Asked, request
from facta.data.dataset.dataset import Dataset
from facta.infer.asking import Asking, KeptUnder
from facta.infer.cache import Cache
from facta.infer.candidates import Candidates, Microbatch, advance, scores
from facta.infer.history import encoded
from facta.infer.history_of import history_of
from facta.infer.memories import Memories
from facta.models.recommender import Recommender
from tests.live_world import ENCODERS, artifact_of
from tests.unit.test_candidates import LAYOUTS, T0
from tests.unit.test_candidates import log as log

EXACT = 1e-6  # scores are float32, made of float64
PEOPLE, STRIDE = (11, 7, 3, 0), 2


def model_of(log: Dataset, layout: str, encoder: dict[str, Any]) -> Recommender:
    made = artifact_of(log, layout, encoder, window=8).model
    assert isinstance(made, Recommender)
    return made.double()


def given(log: Dataset, model: Recommender, seed: int) -> Asking:
    """Some people, each with candidates, some of them twice, in a random order, at a time of their own."""
    rng = np.random.default_rng(seed)
    histories = [encoded(history_of(log, user), log.item_rows, log.manifest, model.inputs) for user in PEOPLE]
    at = [T0 + 60_000 * int(rng.integers(1500, 3000)) for _ in PEOPLE]
    codes = {"tab": 1} if "tab" in model.inputs.fields else {}
    asked = [Asked(rng.integers(0, log.num_items, rng.integers(0, 12)), codes) for _ in PEOPLE]
    return Asking(histories, at, asked, STRIDE)


def naive(model: Recommender, asking: Asking) -> dict[str, np.ndarray[Any, Any]]:
    """Each candidate alone, and everything computed for it."""
    found: dict[str, list[float]] = {name: [] for name in model.predicted}
    assert asking.at is not None and asking.asked is not None
    for history, at, asked in zip(asking.histories, asking.at, asking.asked, strict=True):
        for row in asked.rows:
            alone = [Asked(np.array([row]), asked.context)]
            batch = request([history], [at], model.window_of_requests, alone, stride=STRIDE)
            with torch.inference_mode():
                for name, column in model.scores(batch).items():
                    found[name].append(float(column))
    return {name: np.array(column) for name, column in found.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_no_microbatch_changes_a_score(log: Dataset, layout: str, encoder: str) -> None:
    model = model_of(log, layout, ENCODERS[encoder])
    asking = given(log, model, seed=len(encoder))
    right = naive(model, asking)
    assert max(column.std() for column in right.values()) > 100 * EXACT, "scores differ"
    memories: Memories = Cache(1 << 24)
    kept = Asking(asking.histories, asking.at, asking.asked, STRIDE, KeptUnder(memories, PEOPLE))
    for microbatch in (1, 3, 100):
        for what, one in (("nothing kept", asking), ("kept", kept)):
            found = scores(model, one, microbatch)
            for name, column in right.items():
                np.testing.assert_allclose(found[name], column, atol=EXACT, err_msg=f"{what}, {microbatch} at a time")
    assert len(memories) == sum(len(one.rows) > 0 for one in asking.asked or []), "of everybody who was asked about"


def test_people_at_their_first_microbatch_and_others_share_a_step(log: Dataset) -> None:
    """And one whose history grows meanwhile: a request goes on with the history that it began with."""
    model = model_of(log, "interleaved", ENCODERS["hstu"])
    asking = given(log, model, seed=2)
    assert asking.at is not None and asking.asked is not None
    right, memories = naive(model, asking)["click"], Cache(1 << 24)  # type: Any, Memories
    every = [
        Candidates(history.copy(), at, asked, user)
        for history, at, asked, user in zip(asking.histories, asking.at, asking.asked, PEOPLE, strict=True)
    ]
    waiting = [one for one in every if one.left]
    advance(model, [Microbatch(waiting[0], 1)], STRIDE, memories)
    grown: EncodedHistory = asking.histories[0].copy()
    grown.cut(len(grown) - 1)
    one = [Asked(np.array([1]), asking.asked[0].context)]
    scores(model, Asking([grown], asking.at[:1], one, STRIDE, KeptUnder(memories, PEOPLE[:1])))
    while waiting:
        advance(model, [Microbatch(one, min(2, one.left)) for one in waiting], STRIDE, memories)
        waiting = [one for one in waiting if one.left]
    found = np.concatenate([np.concatenate(one.found["click"]) for one in every if one.found])
    np.testing.assert_allclose(found, right, atol=EXACT)
