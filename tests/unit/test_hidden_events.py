"""Batches of a log whose targets do not see all before them: each column by a loop, and one by one as the slow twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import facta
from facta import jagged
from facta.data.batches.rows import Rows, limited_windows, one_row_per_limited_target
from facta.data.batches.spec import InputSpec
from facta.data.batches.stochastic_length import StochasticLengthConfig
from facta.data.batches.training import TrainingBatches, prediction_batches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import leave_one_out
from facta.data.split.visibility import BLIND, OWN, Delayed, Visibility
from facta.encoders.hstu import HSTUConfig
from facta.models.dlrm import DLRMConfig
from facta.models.model import Model, ModelConfig
from facta.models.recommender import RecommenderConfig
from facta.objectives.feedback import FeedbackConfig
from facta.testing.case import SAME, far_from_start
from facta.types import SequenceBatch

HOUR, WINDOW = 3_600_000, 12
T0 = 1_600_000_000_000
SEES = {"blind": BLIND, "delayed": Delayed(4 * HOUR), "long": Delayed(12 * HOUR)}
SPECS = {
    "own": InputSpec(("liked",), targets_are_inputs=True),
    "ahead": InputSpec(("liked",), targets_are_inputs=True, reads_token_before=True),
    "item": InputSpec(("liked",)),
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Every event has an item of its own, which tells it from all others; a third come at the time of another one.
    `liked` of every fourth event is known five hours later; a plan changes every two hours."""
    rng = np.random.default_rng(3)
    user = np.repeat(np.arange(9), [1, 2, 5, 9, 14, 20, 26, 33, 8])
    time = T0 + HOUR * np.concatenate([np.cumsum(rng.integers(0, 3, n)) for n in np.bincount(user)])
    liked = rng.integers(0, 2, len(user))
    late = np.where((np.arange(len(user)) % 4 == 0) & (liked == 1), time + 5 * HOUR, time)
    frame = pl.DataFrame(
        {
            "user_id": user,
            "item_id": np.arange(len(user)),
            "timestamp": time,
            "liked": liked,
            "liked_at": pl.Series(late).set(pl.Series(liked == 0), None),
        }
    )
    hours = np.arange(0, 60, 2)
    changes = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(9), len(hours)),
            "timestamp": np.tile(T0 + HOUR * hours + HOUR // 2, 9),
            "field": ["plan"] * 9 * len(hours),
            "value": [f"{n}" for n in rng.integers(0, 4, 9 * len(hours))],
        }
    )
    return facta.prepare(
        frame,
        tmp_path_factory.mktemp("log") / "d",
        fields={"liked": {"time": "liked_at"}},
        series=changes,
        series_fields={"plan": {"kind": "categorical"}},
    )


def events(log: Dataset, items: torch.Tensor) -> list[tuple[int, int]]:
    """(user row, place) of events by their items."""
    where = np.empty(log.num_items, dtype=np.int64)
    where[np.asarray(log.item)] = np.arange(log.num_events)
    at = where[items.numpy()]
    user = np.searchsorted(log.offsets, at, side="right") - 1
    return list(zip(user.tolist(), (at - log.offsets[user]).tolist(), strict=True))


def visible(log: Dataset, sees: Visibility, user: int, place: int) -> int:
    """The definition: a loop over the events before."""
    assert log.timestamp is not None
    times = log.timestamp[log.offsets[user] : log.offsets[user + 1]].tolist()
    least = sees.ms if isinstance(sees, Delayed) else 1
    return sum(times[place] - time >= least for time in times[:place])


def made(log: Dataset, spec: InputSpec, sees: Visibility, **changes: Any) -> list[SequenceBatch]:
    settings = {"window": WINDOW, "batch_size": 3, "seed": 5, "spec": spec, "sees": sees, **changes}
    batches = TrainingBatches(log, leave_one_out(log), **settings)  # type: ignore[arg-type]
    return [batches.batch(0, step) for step in range(batches.steps(0))]


def check(log: Dataset, spec: InputSpec, sees: Visibility, batch: SequenceBatch, *, shortened: bool) -> None:
    assert log.timestamp is not None and batch.next_time is not None and batch.targets.sees is not None
    inputs, asked = events(log, batch.events.item), events(log, batch.targets.events.item)
    for target, row in enumerate(jagged.rows(batch.targets.offsets).tolist()):
        first, last = int(batch.offsets[row]), int(batch.offsets[row + 1])
        (user, place), places = asked[target], [p for _, p in inputs[first:last]]
        seen, after = visible(log, sees, user, place), int(batch.targets.num_visible[target])
        assert [p for p in places if p < seen] == places[:after]
        slot = places.index(place) if place in places else -1
        assert int(batch.targets.input_index[target]) == slot
        if not shortened:
            assert places[:after] == list(range(seen - after, seen))
            assert after >= min(seen, WINDOW // 2)
        if places:
            begins = places[0] - int(batch.index[first])
            assert int(batch.targets.sees[target]) == seen - begins
        if shortened and int(batch.targets.sees[target]) > 0:
            at_own = spec.targets_are_inputs and not spec.reads_token_before and slot >= 0 and seen == place
            assert at_own or places[after - 1] == seen - 1  # what the prediction is read from was kept
        for e in range(first, last):
            at = log.offsets[user] + inputs[e][1]
            if sees is not BLIND:
                assert int(batch.next_time[e]) == int(log.timestamp[at])
            elif e + 1 < last:
                assert int(batch.next_time[e]) == int(log.timestamp[at + 1])


@pytest.mark.parametrize("shortened", [False, True])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("sees", SEES)
def test_every_column_by_a_loop(log: Dataset, spec: str, sees: str, shortened: bool) -> None:
    length = StochasticLengthConfig(alpha=1.2, subsequence="uniform") if shortened else None
    found = made(log, SPECS[spec], SEES[sees], stochastic_length=length)
    for batch in found:
        check(log, SPECS[spec], SEES[sees], batch, shortened=shortened)
    targets = [pair for batch in found for pair in events(log, batch.targets.events.item)]
    assert len(targets) == len(set(targets))
    if shortened:
        assert sum(batch.dropped for batch in found) > 0
    else:
        whole = made(log, SPECS[spec], OWN)
        assert set(targets) == {pair for batch in whole for pair in events(log, batch.targets.events.item)}


@pytest.mark.parametrize("sees", SEES)
def test_impressions_hold_what_their_target_sees(log: Dataset, sees: str) -> None:
    for batch in made(log, SPECS["own"], SEES[sees], examples="impression"):
        check(log, SPECS["own"], SEES[sees], batch, shortened=False)
        assert (batch.targets.input_index == -1).all() and (jagged.lengths(batch.targets.offsets) == 1).all()


MODELS: dict[str, ModelConfig] = {
    layout: RecommenderConfig(window=40, width=8, layout=layout, encoder=HSTUConfig(heads=2), feedback=FeedbackConfig())
    for layout in ("fused", "interleaved")
} | {"dlrm": DLRMConfig(window=40, width=8, features="gr")}


@pytest.mark.parametrize("sees", SEES)
@pytest.mark.parametrize("name", MODELS)
def test_many_targets_a_row_say_what_each_says_in_a_row_of_its_own(log: Dataset, name: str, sees: str) -> None:
    """Late feedback and changes of facts included: a row of its own shows only what its target sees. (Beside a target
    that sees no event, a row of many keeps the last change before its first event alone.)"""
    model = far_from_start(MODELS[name].build(Catalogue.of(log), 3)).eval()
    users = np.arange(log.num_users)
    user = np.repeat(users, np.diff(log.offsets))
    place = np.arange(log.num_events) - log.offsets[user]
    together = said(model, log, limited_windows(log, user, place, 40, SEES[sees]))
    alone = said(model, log, one_row_per_limited_target(log, user, place, 40, SEES[sees]))
    assert together.keys() == alone.keys() and len(together) == log.num_events
    for event, values in alone.items():
        if not visible(log, SEES[sees], *event):
            continue
        torch.testing.assert_close(together[event], values, rtol=SAME, atol=SAME)


def said(model: Model, log: Dataset, rows: Rows) -> dict[tuple[int, int], torch.Tensor]:
    """Event -> all that is predicted of it."""
    found = {}
    with torch.no_grad():
        for _, batch in prediction_batches(log, rows, window=40, spec=model.inputs):
            columns = [torch.stack(list(model.scores(batch).values()), dim=1)]
            columns += [model.queries(batch)] if "next_item" in model.tasks else []
            found |= dict(zip(events(log, batch.targets.events.item), torch.cat(columns, dim=1), strict=True))
    return found


def test_nothing_younger_than_the_delay_moves_a_prediction(log: Dataset) -> None:
    """An event and a change of a fact, in a row of many targets: what is younger is another item, another value."""
    sees, model = Delayed(6 * HOUR), far_from_start(MODELS["fused"].build(Catalogue.of(log), 3)).eval()
    user = np.full(33, 7)
    rows = limited_windows(log, user, np.arange(33), 40, sees)
    (batch,) = [batch for _, batch in prediction_batches(log, rows, window=40, spec=model.inputs)]
    assert batch.series is not None and batch.series.time is not None and batch.events.time is not None
    assert batch.targets.events.time is not None
    between = []  # whether a hidden change follows the newest visible event directly
    with torch.no_grad():
        before = model.scores(batch)["liked"]
        for target in range(12, 28):
            last = int(batch.targets.events.time[target]) - sees.ms
            young, fresh = batch.events.time > last, batch.series.time > last
            assert young.any() and not young.all()
            between.append(bool((fresh & (batch.series.after <= batch.targets.num_visible[target])).any()))
            item = torch.where(young, (batch.events.item + 1) % log.num_items, batch.events.item)
            value = torch.where(fresh, (batch.series.value + 1) % 4, batch.series.value)
            changed = _with(batch, item, value)
            assert float((model.scores(changed)["liked"] - before)[target].abs()) <= SAME
            old = _with(batch, torch.where(young, batch.events.item, item.roll(1)), batch.series.value)
            assert float((model.scores(old)["liked"] - before)[target].abs()) > 1e-6
    assert any(between)


def _with(batch: SequenceBatch, item: torch.Tensor, value: torch.Tensor) -> SequenceBatch:
    assert batch.series is not None
    return replace(batch, events=replace(batch.events, item=item), series=replace(batch.series, value=value))
