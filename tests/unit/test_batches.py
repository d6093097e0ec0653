"""Batches on hand-written histories: what is input, what is target, when it is asked, and from where it is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from facta import jagged
from facta.data.batches.dataset_requests import request_batch
from facta.data.batches.negatives import NegativesConfig, draw
from facta.data.batches.training import TrainingBatches
from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.data.split.splits import leave_one_out, leave_one_out_test
from facta.errors import ConfigError
from facta.types import SequenceBatch

T0, MINUTE = 1_600_000_000_000, 60_000


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """User u has u + 2 events, items counting up from 10 u."""
    rows = [(u, 10 * u + p, T0 + MINUTE * (10 * p + u), p % 5) for u in range(8) for p in range(u + 2)]
    return prepare(
        pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "rating"], orient="row"), tmp_path / "d"
    )


def rows_of(dataset: Dataset, values: torch.Tensor, offsets: torch.Tensor) -> list[list[int]]:
    names = dataset.items["item_id"].to_numpy()
    return [names[part].tolist() for part in np.split(values.numpy(), offsets[1:-1].tolist())]


def test_training_rows_have_every_later_event_as_target(dataset: Dataset) -> None:
    batches = TrainingBatches(dataset, leave_one_out(dataset), window=3, batch_size=100)
    assert batches.steps(0) == 1
    batch = batches.batch(0, 0)
    inputs = rows_of(dataset, batch.events.item, batch.offsets)
    targets = rows_of(dataset, batch.targets.events.item, batch.targets.offsets)
    seen = sorted(zip(inputs, targets, strict=True))
    # user u trains on its first u events; the last is a target only; at most 3 are inputs
    assert seen[0] == ([20], [21])
    assert seen[1] == ([30, 31], [31, 32])
    assert seen[-1] == ([73, 74, 75], [74, 75, 76])
    assert len(seen) == 6
    assert batches.events == len(batch.targets.num_visible)


def test_slots_after_and_times_agree(dataset: Dataset) -> None:
    batch = TrainingBatches(dataset, leave_one_out(dataset), window=3, batch_size=100).batch(0, 0)
    first = batch.offsets[:-1][jagged.rows(batch.targets.offsets)]
    inline = batch.targets.input_index >= 0
    assert torch.equal(
        batch.events.item[(first + batch.targets.input_index)[inline]], batch.targets.events.item[inline]
    )
    assert torch.equal(batch.targets.input_index[inline], batch.targets.num_visible[inline])
    assert (~inline).sum() == len(batch.offsets) - 1
    assert batch.next_time is not None and batch.events.time is not None
    assert torch.equal(batch.next_time, batch.targets.events.time)
    assert ((batch.next_time - batch.events.time) == 10 * MINUTE).all()


def test_requests_see_the_window_and_know_only_their_own_time(dataset: Dataset) -> None:
    batch = request_batch(dataset, leave_one_out_test(dataset), slice(None), window=3)
    inputs = rows_of(dataset, batch.events.item, batch.offsets)
    assert sorted(inputs)[0] == [0] and sorted(inputs)[-1] == [75, 76, 77]
    assert (batch.targets.events.item == -1).all()
    newest = batch.offsets[1:] - 1
    assert (
        batch.next_time is not None and batch.events.time is not None and leave_one_out_test(dataset).time is not None
    )
    assert batch.next_time[newest].tolist() == leave_one_out_test(dataset).time.tolist()
    older = torch.ones(len(batch.index), dtype=torch.bool)
    older[newest] = False
    assert ((batch.next_time - batch.events.time)[older] == 10 * MINUTE).all()


def test_a_request_without_history_is_an_empty_row(dataset: Dataset) -> None:
    requests = leave_one_out_test(dataset)
    requests.end[2] = 0
    batch = request_batch(dataset, requests, slice(1, 4), window=5)
    assert jagged.lengths(batch.offsets).tolist() == batch.targets.num_visible.tolist()
    assert batch.targets.num_visible[1] == 0


def flat(batches: TrainingBatches, epoch: int) -> list[tuple[int, int, int]]:
    """(input item, target item, key) of an epoch, step by step."""
    rows = []
    for step in range(batches.steps(epoch)):
        batch = batches.batch(epoch, step)
        rows += zip(
            batch.events.item.tolist(),
            batch.targets.events.item.tolist(),
            batch.targets.events.key.tolist(),
            strict=True,
        )
    return rows


def test_every_epoch_holds_every_target_once_in_another_order(dataset: Dataset) -> None:
    batches = TrainingBatches(dataset, leave_one_out(dataset), window=50, batch_size=2, seed=5)
    first, second = flat(batches, 0), flat(batches, 1)
    assert batches.steps(0) > 1
    assert sorted(r[:2] for r in first) == sorted(r[:2] for r in second)
    assert {r[2] for r in first}.isdisjoint(r[2] for r in second)
    assert len(set(first)) == len(first) == batches.events


def test_batches_are_functions_of_their_place(dataset: Dataset) -> None:
    split = leave_one_out(dataset)
    one, other = (TrainingBatches(dataset, split, window=50, batch_size=2, seed=5) for _ in range(2))
    for step in range(other.steps(3)):
        other.batch(3, step)
    for step in (1, 0):
        same(one.batch(0, step), other.batch(0, step))


def same(a: SequenceBatch, b: SequenceBatch) -> None:
    assert torch.equal(a.events.item, b.events.item)
    assert torch.equal(a.events.key, b.events.key)
    assert torch.equal(a.targets.events.key, b.targets.events.key)


def test_keys_do_not_depend_on_batch_size(dataset: Dataset) -> None:
    split = leave_one_out(dataset)
    small = TrainingBatches(dataset, split, window=50, batch_size=1, seed=5)
    large = TrainingBatches(dataset, split, window=50, batch_size=6, seed=5)
    assert sorted(flat(small, 2)) == sorted(flat(large, 2))


def test_batches_hold_about_equal_numbers_of_events(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(400), rng.geometric(0.05, 400) + 3)
    frame = pl.DataFrame(
        {"user_id": user, "item_id": rng.integers(0, 50, len(user)), "timestamp": T0 + np.arange(len(user))}
    )
    data = prepare(frame, tmp_path / "e")
    batches = TrainingBatches(data, leave_one_out(data), window=100, batch_size=32)
    sizes = [len(batches.batch(0, step).index) for step in range(batches.steps(0))]
    assert sum(sizes) == batches.events
    assert max(sizes) < 1.3 * batches.events / len(sizes)
    padded = [jagged.lengths(batches.batch(0, step).offsets) for step in range(batches.steps(0))]
    assert sum(int(n.max()) * len(n) for n in padded) < 1.5 * batches.events


def test_sizes_below_one_are_refused(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        TrainingBatches(dataset, leave_one_out(dataset), window=0, batch_size=2)


def test_shared_negatives(dataset: Dataset) -> None:
    batch = TrainingBatches(dataset, leave_one_out(dataset), window=50, batch_size=100).batch(0, 0)
    counts = torch.ones(dataset.num_items)
    in_batch = draw(NegativesConfig(kind="in-batch"), batch, counts, key=1)
    assert in_batch.shared is not None
    assert in_batch.shared.tolist() == sorted(set(batch.targets.events.item.tolist()))
    with pytest.raises(ConfigError, match="in-batch negatives, which draw none"):
        NegativesConfig(kind="in-batch", count=7)
    mixed = draw(NegativesConfig(kind="mixed", count=7, correction="negatives"), batch, counts, key=1)
    assert mixed.shared is not None and mixed.log_q is not None
    assert len(mixed.shared) == len(in_batch.shared) + 7 == len(mixed.log_q)
    again = draw(NegativesConfig(kind="mixed", count=7), batch, counts, key=1)
    assert torch.equal(mixed.shared, again.shared) and again.log_q is None
    assert not torch.equal(mixed.shared, draw(NegativesConfig(kind="mixed", count=7), batch, counts, key=2).shared)
    assert draw(NegativesConfig(count=7), batch, counts, key=1).each == 7


def test_log_q_is_the_expected_number_of_appearances() -> None:
    """Simulated: items drawn by popularity into batches of 20 targets, 5 uniform ones added."""
    from facta.data.batches.negatives import log_inclusion

    counts = torch.tensor([1.0, 3, 6, 10])
    log_q = log_inclusion(NegativesConfig(kind="mixed", count=5, correction="negatives"), counts, targets=20)
    rng = np.random.default_rng(0)
    law = (counts / counts.sum()).numpy().astype(np.float64)
    present = np.mean(
        [np.bincount(np.unique(rng.choice(4, 20, p=law / law.sum())), minlength=4) for _ in range(4000)], 0
    )
    np.testing.assert_allclose(np.exp(log_q.numpy()), present + 5 / 4, atol=0.03)
