"""Feedback that becomes known later changes no prediction before: every layout, encoder and ranker, of a prepared log.

One person has seven events, 36 hours apart. A model predicts all of them from one row; a prefix of the row and a
request with the person's history give the same.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from facta.data.batches.dataset_requests import request_batch
from facta.data.batches.request import Asked, request
from facta.data.batches.rows import Rows, one_row_per_limited_target
from facta.data.batches.training import prediction_batches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import Requests
from facta.data.split.visibility import Frozen
from facta.infer.history import encoded as looked_up
from facta.infer.history_of import history_of
from facta.layouts.layout import CLOZE, ITEM
from facta.models.model import Model
from facta.testing.case import OTHER, SAME, Case, far_from_start
from tests.contract.test_order_of_facts import MODELS
from tests.late_world import ITEMS, T0, Event, code, known, prepared

EVENTS, HOUR = 7, 3_600_000
GAP = 36 * HOUR
DELAYS = (3, 60, None, 36, 200, 0, 5)  # hours from each event to its purchase: before, after and at the next event

Found = dict[str, Tensor]


def person() -> list[Event]:
    found = []
    for place, delay in enumerate(DELAYS):
        time = T0 + place * GAP
        bought = None if delay is None else time + delay * HOUR
        event = {"user_id": 0, "item_id": (5 * place) % ITEMS, "timestamp": time, "tab": ["home", "search"][place % 2]}
        event |= {"click": place % 2, "buy": int(delay is not None), "bought_at": bought}
        event |= {"rated": None if delay is None else 1 + place % 5}
        found.append({**event, "rated_at": None if bought is None else bought + 2 * HOUR})
    return found


def changes() -> dict[str, tuple[int, Event]]:
    """What -> (the event that is changed, the event after it): another value, another time, or no purchase at all."""
    found = {}
    for place, event in enumerate(person()):
        if event["buy"]:
            found[f"rating of {place}"] = (place, {**event, "rated": 1 + event["rated"] % 5})
            nothing = dict.fromkeys(("bought_at", "rated", "rated_at"))
            found[f"purchase of {place}"] = (place, {**event, "buy": 0, **nothing})
            later = {name: event[name] + 500 * HOUR for name in ("bought_at", "rated_at")}
            found[f"time of {place}"] = (place, {**event, **later})
    return found


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """The log as it is (""), and with each change."""
    folder: Path = tmp_path_factory.mktemp("late")
    found = {"": prepared(person(), folder / "log")}
    for number, (name, (place, event)) in enumerate(changes().items()):
        found[name] = prepared([*person()[:place], event, *person()[place + 1 :]], folder / str(number))
    return found


@cache
def _made(name: str, path: Path) -> Model:
    return far_from_start(MODELS[name].config.build(Catalogue.of(Dataset.open(path, verify=False)), 3)).eval()


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(name: str) -> Case:
    return MODELS[name]


@pytest.fixture
def model(name: str, logs: dict[str, Dataset]) -> Model:
    return _made(name, logs[""].path)


def told(model: Model, dataset: Dataset, rows: Rows) -> Tensor:
    """[S, K] scores of the targets of rows, in their order."""
    parts = [
        (part, torch.stack(list(model.scores(batch).values()), dim=1))
        for part, batch in prediction_batches(dataset, rows, window=10, spec=model.inputs)
    ]
    return torch.cat([scores for part, scores in sorted(parts, key=lambda one: int(one[0][0]))])


def one_row(end: int, targets: int) -> Rows:
    """The first events as inputs, of which the last `targets` are predicted."""
    start, first, last = (np.array([place]) for place in (0, end - targets, end))
    return Rows(np.array([0]), start, last, first, last)


def predicted(model: Model, dataset: Dataset) -> Found:
    """Fact -> [7, …] of every event: scores, from one row; the query for its item, of one request each."""
    found = {}
    with torch.no_grad():
        if "feedback" in model.tasks:
            found["feedback"] = told(model, dataset, one_row(EVENTS, EVENTS))
        if "next_item" in model.tasks:
            assert dataset.timestamp is not None
            places = np.arange(EVENTS)
            times, relevant = np.array(dataset.timestamp), np.array(dataset.item, dtype=np.int64)
            asked = Requests(np.zeros(EVENTS, dtype=np.int64), places, times, np.arange(EVENTS + 1), relevant)
            found["item"] = model.queries(request_batch(dataset, asked, slice(0, EVENTS), 10, model.inputs))
    return found


def seen(event: Event, place: int, target: int) -> list[int]:
    """What an event shows to the prediction of another one, by the definition."""
    moment = T0 + (place + 1) * GAP
    return [code(name, known(event, name, moment)) for name in ("buy", "rated")] if place < target else []


def test_what_is_not_known_yet_changes_nothing_and_what_is_known_does(
    case: Case, model: Model, logs: dict[str, Dataset]
) -> None:
    base, reads, moved = predicted(model, logs[""]), case.history and case.layout not in (ITEM, CLOZE), 0.0
    for name, (place, event) in changes().items():
        for what, values in predicted(model, logs[name]).items():
            for target in range(EVENTS):
                difference = float((values[target] - base[what][target]).abs().max())
                if seen(person()[place], place, target) == seen(event, place, target):
                    assert difference <= SAME, f"{what} of {target} and the {name}: moved by {difference:.1e}"
                elif reads and name.startswith("purchase"):
                    moved = max(moved, difference)
    assert moved > OTHER or not reads


def test_prefixes_and_requests_read_the_same(case: Case, model: Model, logs: dict[str, Dataset]) -> None:
    dataset, whole = logs[""], predicted(model, logs[""])
    if "feedback" not in model.tasks:
        return
    for target in range(1, EVENTS):
        with torch.no_grad():
            prefix = told(model, dataset, one_row(target + 1, target + 1))
        torch.testing.assert_close(prefix, whole["feedback"][: target + 1], rtol=SAME, atol=SAME)
        if not case.aside:
            continue
        event = person()[target]
        history = history_of(dataset, 0, until=event["timestamp"] - 1)
        one = looked_up(history, lambda ids: np.array(ids, dtype=np.int64), dataset.manifest, model.inputs)
        candidate = Asked(np.array([event["item_id"]]), {"tab": code("tab", event["tab"])})
        with torch.no_grad():
            scores = model.scores(request([one], [event["timestamp"]], 10, [candidate]))
        asked = torch.stack(list(scores.values()), dim=1)[0]
        torch.testing.assert_close(asked, whole["feedback"][target], rtol=SAME, atol=SAME)


def test_a_frozen_state_knows_what_was_known_at_the_cut(case: Case, model: Model, logs: dict[str, Dataset]) -> None:
    """The purchase of event 3 is known when event 4 comes to no state, and that of event 5 to the state after it."""
    if "feedback" not in model.tasks or not case.aside:
        return
    cuts = {"before": T0 + 3 * GAP + HOUR, "after": T0 + 3 * GAP + 36 * HOUR + 1}

    def asked(log: str, cut: int) -> Tensor:
        place = np.arange(4, EVENTS)
        sees = Frozen(np.array([4]), np.array([cut]))
        with torch.no_grad():
            return told(model, logs[log], one_row_per_limited_target(logs[log], place * 0, place, 10, sees))

    reads = case.history and case.layout not in (ITEM, CLOZE)
    difference = {name: float((asked("", cut) - asked("purchase of 3", cut)).abs().max()) for name, cut in cuts.items()}
    assert difference["before"] <= SAME
    assert difference["after"] <= SAME or reads
