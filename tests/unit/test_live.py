"""The live engine says what its artifact says of the same histories, whatever happened before it was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from facta.data.dataset.dataset import Dataset
from facta.errors import ConfigError, DataError
from facta.eval.evaluation import evaluate
from facta.eval.experiment import Experiment
from facta.eval.protocol import ProtocolConfig
from facta.infer.artifact import Artifact
from facta.infer.engine import Engine
from facta.infer.filters import Filters
from facta.infer.history import History
from facta.infer.history_of import history_of
from facta.infer.work import Work
from tests.live_world import ENCODERS, World, artifact_of
from tests.unit.test_candidates import ITEMS, LAYOUTS, T0, artifact
from tests.unit.test_candidates import log as log

Scale = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
WORLD: dict[str, Any] = {
    "start": T0,
    "items": 8,
    "values": {
        "tab": ["home", "search", None],
        "click": [0, 1, None],
        "stars": [1.0, 2.5, 4.0, None],
        "seconds": [0.1, 0.7, 3.3],
    },
    "facts": lambda rng: {"city": str(rng.choice(["Ulm", "Bonn"])), "before": rng.integers(0, 8, 2).tolist()},
    "changing": {"plan": ["plan 0", "plan 1", "plan 2"], "level": [0.0, 2.0, 3.5]},
}
RELATIVE = 1e-6  # scores are float32 made of float64


def walked(
    made: Artifact, seed: int, *, stride: int, cache: int = 1 << 20, steps: int = 60, scale: Scale = np.asarray
) -> tuple[float, int]:
    """The largest difference between engine and artifact on a walk, over the largest score of a request, and how many
    requests there were. `scale`: what is compared of the scores of candidates."""
    world = World.of(made, seed, stride=stride, microbatch=4, cache=cache, **WORLD)
    worst, requests = 0.0, 0
    for _ in range(steps):
        for _ in range(int(world.rng.integers(1, 4))):
            world.happen()
        asked = world.ask()
        worst, requests = max(worst, _difference(world, made, asked, stride, scale)), requests + len(asked)
    return worst, requests


def _difference(world: World, made: Artifact, asked: list[tuple[int, int]], stride: int, scale: Scale) -> float:
    engine, context = world.engine, {"tab": "home"}
    candidates = [int(item) for item in world.rng.permutation(ITEMS)]
    works: list[Work] = []
    for user, at in asked:
        if "feedback" in made.model.tasks:
            works.append(engine.submit(engine.ranking(user, candidates, at=np.datetime64(at, "ms"), context=context)))
        if "next_item" in made.model.tasks:
            works.append(
                engine.submit(engine.recommendation(user, 5, at=np.datetime64(at, "ms"), filters=Filters("nothing")))
            )
    while any(not work.done for work in works):
        engine.step()
    worst = 0.0
    for work in works:
        assert work.error is None
        history, at = world.history(int(work.user)), np.datetime64(work.moment, "ms")
        if work.k is None:
            found, right = engine.ranked([work]), made.rank(history, candidates, at=at, context=context, stride=stride)
            for name, (scores,) in right.scores.items():
                ours = dict(zip(found.ids[0], found.scores[name][0], strict=True))
                theirs = dict(zip(right.ids[0], scores, strict=True))
                worst = max(
                    worst, _relative([ours[item] for item in candidates], [theirs[item] for item in candidates])
                )
        else:
            answer = engine.answer([work])
            best = made.recommend(history, 5, at=at, exclude="nothing", stride=stride)
            assert answer.source == best.source and answer.unknown == best.unknown
            worst = max(worst, _relative(answer.scores[0], best.scores[0]))
    return worst


def _relative(ours: Any, theirs: Any) -> float:
    one, other = np.array(ours), np.array(theirs)
    return float(np.abs(one - other).max(initial=0.0) / max(np.abs(other).max(initial=0.0), 1e-6))


@pytest.mark.parametrize("stride", [1, 5])
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_walk_with_a_memory_is_a_walk_without(log: Dataset, layout: str, joint: bool, stride: int) -> None:
    made = artifact(log, layout, window=16, joint=joint)
    with torch.no_grad():
        for parameter in made.model.parameters():  # attention is small at the start: a stale token would hardly show
            parameter.mul_(3.0)
    made.model.double()
    assert walked(made, len(layout), stride=stride)[0] <= RELATIVE


def test_the_models_stride_is_the_protocols(log: Dataset) -> None:
    """Evaluation under a stride asks what an engine of this stride asks: another window, another protocol."""
    made = artifact(log, "interleaved", window=6, joint=True)
    plain, wide = ProtocolConfig(split="loo-paper"), ProtocolConfig(split="loo-paper", stride=4)
    assert wide.id == plain.id + "/stride=4"
    one, other = (evaluate(made.model, Experiment(log, protocol), ks=(1, 5)) for protocol in (plain, wide))  # type: ignore[arg-type]
    assert one.protocol != other.protocol
    longer = [place for place, user in enumerate(other.user) if user > 5 and (user - 5) % 4]
    assert any((one.lists[place] != other.lists[place]).any() for place in longer), "windows have moved"
    for place, user in enumerate(other.user):
        at = int(log.timestamp[log.offsets[user + 1] - 1])  # type: ignore[index]
        history = history_of(log, int(user), until=np.datetime64(at - 1, "ms"))
        listed = made.recommend(history, 5, at=at, stride=4, exclude="history").ids[0]
        assert listed == [int(log.items["item_id"][int(row)]) for row in other.lists[place] if row >= 0]


@pytest.mark.parametrize("encoder", ["hstu", "hstu-softmax", "production", "sasrec"])
def test_a_walk_by_the_compiled_kernels(log: Dataset, encoder: str) -> None:
    """In float32, where these run."""
    made = artifact_of(log, "interleaved", ENCODERS[encoder], joint=True)
    assert walked(made, 5, stride=5, steps=20)[0] <= 1e-5


def test_nothing_to_rank_and_nobody_to_ask_are_answered(log: Dataset) -> None:
    """As the artifact answers them."""
    made = artifact(log, "interleaved", joint=True)
    engine = Engine(made, cache="1MiB")
    engine.append("17", {"item_id": 1, "timestamp": T0})
    history = History([1], times=[T0])
    empty, right = engine.rank(17, [], at=T0 + 5), made.rank(history, [], at=T0 + 5)
    assert empty.scores == right.scores and empty.ids == right.ids == [[]]
    some, whole = engine.rank(["17", 18], [3, 999, 4], at=T0 + 5), made.rank(history, [3, 999, 4], at=T0 + 5)
    assert some.left_out == [1, 1] and whole.left_out == [1] and some.ids[0] == whole.ids[0]
    assert engine.recommend([], 3).ids == []
    assert some.unknown == [0, 0] and engine.store.person(17).events and not engine.store.person("17").events
    with pytest.raises(DataError, match="user ids of this log are whole numbers"):
        engine.append("ann", {"item_id": 1, "timestamp": T0})
    with pytest.raises(ConfigError, match="Found k = 0"):
        engine.recommend(17, 0)
