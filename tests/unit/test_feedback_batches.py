"""Batches of feedback: every training event a target once, in whichever examples; and what Stochastic Length leaves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import facta
from facta import jagged
from facta.data.batches.spec import InputSpec
from facta.data.batches.stochastic_length import StochasticLengthConfig, threshold
from facta.data.batches.training import TrainingBatches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import Split, leave_one_out
from facta.encoders.hstu import HSTUConfig
from facta.errors import ConfigError
from facta.models.recommender import Recommender, RecommenderConfig
from facta.objectives.feedback import FeedbackConfig
from facta.training import journal
from facta.types import Negatives, SequenceBatch

WINDOW = 16
OWN = InputSpec(("liked", "surface"), targets_are_inputs=True)
AHEAD = InputSpec(("liked", "surface"), targets_are_inputs=True, reads_token_before=True)
ITEM = InputSpec(("liked", "surface"))
SHORT = StochasticLengthConfig(alpha=1.2, subsequence="uniform")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Times tell an event from all others, so that rows can be followed through batches."""
    rng = np.random.default_rng(1)
    user = np.repeat(np.arange(14), rng.integers(1, 45, 14))
    frame = pl.DataFrame(
        {
            "user_id": user,
            "item_id": rng.integers(0, 30, len(user)),
            "timestamp": 1_700_000_000_000 + 3_600_000 * rng.permutation(len(user)),
            "liked": pl.Series(rng.integers(-1, 2, len(user))).replace(-1, None),
            "surface": rng.choice(["feed", "search"], len(user)),
        }
    )
    schema = {"fields": {"liked": {"kind": "binary"}, "surface": "context"}}
    return facta.prepare(frame, tmp_path_factory.mktemp("log") / "d", **schema)


@pytest.fixture(scope="module")
def split(log: Dataset) -> Split:
    return leave_one_out(log)


def batches(log: Dataset, split: Split, spec: InputSpec = OWN, **changes: Any) -> TrainingBatches:
    return TrainingBatches(log, split, **{"window": WINDOW, "batch_size": 4, "seed": 5, "spec": spec, **changes})


def epoch(made: TrainingBatches, number: int = 0) -> list[SequenceBatch]:
    return [made.batch(number, step) for step in range(made.steps(number))]


def told(log: Dataset, time: torch.Tensor) -> list[tuple[int, int]]:
    """(user row, place in the history) of events, by their times."""
    assert log.timestamp is not None
    order = np.argsort(log.timestamp)
    at = order[np.searchsorted(log.timestamp[order], time.numpy())]
    user = np.searchsorted(log.offsets, at, side="right") - 1
    return list(zip(user.tolist(), (at - log.offsets[user]).tolist(), strict=True))


def targets(log: Dataset, made: list[SequenceBatch]) -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    for batch in made:
        assert batch.targets.events.time is not None
        found.update(told(log, batch.targets.events.time))
    return found


def trained(split: Split, first: int = 0) -> Counter[tuple[int, int]]:
    return Counter((u, p) for u, last in enumerate(split.train_end.tolist()) for p in range(first, last))


@pytest.mark.parametrize("examples", ["user", "impression"])
def test_every_training_event_is_a_target_once(log: Dataset, split: Split, examples: str) -> None:
    made = batches(log, split, examples=examples)
    found = epoch(made)
    assert targets(log, found) == trained(split)
    assert made.events == sum(trained(split).values())
    since = np.minimum(3, split.train_end)
    assert targets(log, epoch(batches(log, split, examples=examples, since=since))) == trained(split, first=3)


def test_impressions_of_the_next_item_are_refused(log: Dataset, split: Split) -> None:
    with pytest.raises(ConfigError, match="for models that predict feedback"):
        batches(log, split, ITEM, examples="impression")


def check(log: Dataset, spec: InputSpec, batch: SequenceBatch, *, shortened: bool) -> None:
    """Every column of a batch against the dataset and the sentence that describes it."""
    assert log.timestamp is not None and batch.events.time is not None and batch.next_time is not None
    inputs, asked = told(log, batch.events.time), told(log, batch.targets.events.time)  # type: ignore[arg-type]
    items = [int(log.item[log.offsets[u] + p]) for u, p in inputs]
    assert batch.events.item.tolist() == items
    assert batch.targets.events.item.tolist() == [int(log.item[log.offsets[u] + p]) for u, p in asked]
    rows = jagged.rows(batch.targets.offsets).tolist()
    for s, (user, place) in enumerate(asked):
        first, stop = batch.offsets[rows[s]], batch.offsets[rows[s] + 1]
        row = inputs[first:stop]
        assert {u for u, _ in row} == {user} and [p for _, p in row] == sorted(p for _, p in row)
        before = [p for _, p in row if p < place]
        assert int(batch.targets.num_visible[s]) == len(before)
        slot = [p for _, p in row].index(place) if (user, place) in row else -1
        assert int(batch.targets.input_index[s]) == slot
        if spec.targets_are_inputs and not spec.reads_token_before:
            assert slot >= 0  # kept itself
        elif place > 0 and before:
            assert before[-1] == place - 1  # what it follows is its true predecessor
        if not shortened:
            assert before == list(range(place - len(before), place))
        index = batch.index[first:stop].tolist()
        assert np.diff(index).tolist() == np.diff([p for _, p in row]).tolist()  # gaps keep their true distance
        newest = max(place for t, (_, place) in enumerate(asked) if rows[t] == rows[s])
        for e, (_, place) in enumerate(row):
            after = min(place + 1, newest)  # of the true successor, as far as it is known
            if place < newest:
                assert int(batch.next_time[first + e]) == int(log.timestamp[log.offsets[user] + after])


@pytest.mark.parametrize("subsequence", ["recent", "uniform", "weighted"])
@pytest.mark.parametrize("spec", [OWN, AHEAD, ITEM], ids=["own", "ahead", "item"])
def test_what_stochastic_length_leaves(log: Dataset, split: Split, spec: InputSpec, subsequence: str) -> None:
    config = StochasticLengthConfig(alpha=1.2, subsequence=subsequence)  # type: ignore[arg-type]
    whole, short = batches(log, split, spec), batches(log, split, spec, stochastic_length=config)
    for batch in epoch(whole):
        check(log, spec, batch, shortened=False)
        assert batch.dropped == 0
    dropped = False
    for step, batch in enumerate(epoch(short)):
        check(log, spec, batch, shortened=True)
        before = whole.batch(0, step)
        assert batch.dropped == len(before.index) - len(batch.index)
        dropped |= batch.dropped > 0
        single = jagged.lengths(before.targets.offsets) == 1
        assert (jagged.lengths(batch.targets.offsets)[single] == 1).all()  # a row's only target stays
        lengths, full = jagged.lengths(batch.offsets), jagged.lengths(before.offsets)
        assert ((lengths == full) | (lengths <= threshold(1.2, WINDOW) + 1)).all()
    assert dropped
    assert targets(log, epoch(short)) <= targets(log, epoch(whole))


def test_over_epochs_every_target_has_its_turn(log: Dataset, split: Split) -> None:
    for spec in (OWN, AHEAD, ITEM):
        short = batches(log, split, spec, stochastic_length=SHORT)
        seen = set().union(*(targets(log, epoch(short, number)) for number in range(25)))
        assert seen == set(targets(log, epoch(batches(log, split, spec))))


def test_alpha_2_keeps_everything(log: Dataset, split: Split) -> None:
    config = StochasticLengthConfig(alpha=2.0)
    for whole, short in zip(
        epoch(batches(log, split)), epoch(batches(log, split, stochastic_length=config)), strict=True
    ):
        assert short.dropped == 0
        for one, other in ((whole.events, short.events), (whole.targets.events, short.targets.events)):
            assert torch.equal(one.item, other.item) and torch.equal(one.key, other.key)
        assert torch.equal(whole.targets.input_index, short.targets.input_index)


def test_impressions_keep_the_event_that_is_predicted(log: Dataset, split: Split) -> None:
    for spec in (OWN, AHEAD):
        short = batches(log, split, spec, examples="impression", stochastic_length=SHORT)
        found = epoch(short)
        assert targets(log, found) == trained(split)
        assert sum(batch.dropped for batch in found) > 0


def rows_of(made: TrainingBatches) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """(times of the inputs of a row) -> all that the row holds."""
    found = {}
    for batch in epoch(made, 3):
        assert batch.events.time is not None
        for row in range(len(batch.offsets) - 1):
            inputs = slice(int(batch.offsets[row]), int(batch.offsets[row + 1]))
            asked = slice(int(batch.targets.offsets[row]), int(batch.targets.offsets[row + 1]))
            name = tuple(batch.events.time[inputs].tolist())
            columns = (batch.events.key, batch.index, batch.next_time, *batch.events.fields.values())
            given = (batch.targets.num_visible, batch.targets.input_index, batch.targets.events.key)
            found[name] = (
                *(tuple(one[inputs].tolist()) for one in columns if one is not None),
                *(tuple(one[asked].tolist()) for one in given),
            )
    return found


@pytest.mark.parametrize("spec", [OWN, AHEAD, ITEM], ids=["own", "ahead", "item"])
def test_nothing_depends_on_batch_size(log: Dataset, split: Split, spec: InputSpec) -> None:
    small = rows_of(batches(log, split, spec, stochastic_length=SHORT, batch_size=1))
    large = rows_of(batches(log, split, spec, stochastic_length=SHORT, batch_size=50))
    assert small == large and len(small) > 10


def model_of(log: Dataset, layout: str = "interleaved", *, joint: bool = False, window: int = WINDOW) -> Recommender:
    config = RecommenderConfig.parse(
        {
            "window": window,
            "width": 8,
            "layout": layout,
            "encoder": HSTUConfig(heads=2, init_std=0.3).model_dump(),
            "next_item": {"loss": {"kind": "softmax"}} if joint else None,
            "feedback": FeedbackConfig().model_dump(),
        }
    )
    return Recommender(config, Catalogue.of(log), seed=1).double().eval()


def test_models_say_where_they_read_feedback(log: Dataset) -> None:
    assert model_of(log).inputs.targets_are_inputs and not model_of(log).inputs.reads_token_before
    assert model_of(log, "fused").inputs.reads_token_before


@pytest.mark.parametrize("layout", ["interleaved", "paired", "fused"])
def test_user_and_impression_examples_have_the_same_loss_at_equal_history(
    log: Dataset, split: Split, layout: str
) -> None:
    """A window that holds every history: one row with a loss at every event, or a row for each of them."""
    model = model_of(log, layout, window=64)

    def total(examples: str) -> tuple[float, float]:
        made = batches(log, split, model.inputs, window=64, examples=examples)
        with torch.no_grad():
            sums = [model(batch, None)["liked"] for batch in epoch(made)]
        return sum(float(one.total) for one in sums), sum(float(one.weight) for one in sums)

    (one, weight), (other, count) = total("user"), total("impression")
    assert one == pytest.approx(other, rel=1e-10) and weight == count > 0


@pytest.mark.parametrize("layout", ["interleaved", "paired", "fused"])
def test_joint_models_learn_the_next_item_from_its_true_predecessor_alone(
    log: Dataset, split: Split, layout: str
) -> None:
    model = model_of(log, layout, joint=True).float()
    read = 0
    for batch in epoch(batches(log, split, model.inputs, stochastic_length=SHORT)):
        inputs = told(log, batch.events.time)  # type: ignore[arg-type]
        asked = told(log, batch.targets.events.time)  # type: ignore[arg-type]
        tokens, _ = model.encode(batch, ("item", "feedback"))
        chosen = tokens.reads["item"]
        for state, target in zip(chosen.state.tolist(), chosen.target.tolist(), strict=True):
            user, place = asked[target]
            assert inputs[int(tokens.source[state])] == (user, place - 1)
        read += len(chosen.target)
        assert set(model(batch, Negatives())) == {"next_item", "liked"}
    assert read > 0


def test_the_journal_tells_the_share_that_was_dropped(log: Dataset, tmp_path: Path) -> None:
    changes = ["model.window=16", "model.width=8", "model.encoder.layers=1", "model.feedback.fields=null",
               "model.embedding.features=false", "model.embedding.id_width=null", "model.embedding.hidden_ids=0",
               "training.metric=NE(liked)", "training.epochs=2",
               "training.batch_size=4", "protocol.split=loo-val", "protocol.train_end=null",
               "protocol.validation_end=null",
               'training.stochastic_length={"alpha": 1.2}']  # fmt: skip
    facta.train(log, "simulator/gr-ranking", tmp_path / "out", changes)
    lines = journal.read(facta.run_folder(tmp_path / "out"), "epoch")
    made = batches(log, leave_one_out(log), seed=0, stochastic_length=StochasticLengthConfig(alpha=1.2))
    assert len(lines) == 2
    for number, line in enumerate(lines):
        dropped, kept = (sum(x) for x in zip(*((b.dropped, len(b.index)) for b in epoch(made, number)), strict=True))
        assert line["dropped"] == pytest.approx(dropped / (dropped + kept)) and 0.1 < line["dropped"] < 0.9
