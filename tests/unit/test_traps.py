"""The known ways to measure recommenders wrongly, and that facta does not fall for them: a test or a few per trap."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from math import log2
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from facta.data.batches.negatives import NegativesConfig, draw
from facta.data.batches.spec import InputSpec
from facta.data.batches.training import TrainingBatches
from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.data.split.splits import leave_one_out, leave_one_out_test, training_events
from facta.data.split.statistics import Statistics
from facta.errors import ConfigError, ProtocolError
from facta.eval.comparison import compare
from facta.eval.evaluation import evaluate
from facta.eval.experiment import Experiment
from facta.eval.protocol import ProtocolConfig
from facta.eval.result import average
from facta.models.baselines import (
    DecayedPopularity,
    DecayedPopularityConfig,
    ItemKNN,
    ItemKNNConfig,
    Popularity,
    PopularityConfig,
)
from facta.models.rules import Rules, RulesConfig
from facta.recipes.find import every
from facta.types import FactoredScores, SequenceBatch
from tests.rankers import MINUTE, T0, Fixed, Seeded, dataset_of, random_log

PROTOCOL = ProtocolConfig()


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return dataset_of(tmp_path / "d", random_log())


def tied_frame(users: int = 40, events: int = 60) -> pl.DataFrame:
    """Every user's events have one time each three."""
    user, place = np.divmod(np.arange(users * events), events)
    item = np.random.default_rng(0).integers(0, 500, users * events)
    return pl.DataFrame({"user_id": user, "item_id": item, "timestamp": T0 + place // 3 * MINUTE})


# 1. Unstable sort on tied timestamps


def test_unstable_sort_ties_keep_the_order_of_the_input(tmp_path: Path) -> None:
    frame = tied_frame()
    data = prepare(frame, tmp_path / "d")
    ids = data.items["item_id"].to_numpy()
    np.testing.assert_array_equal(ids[data.item], frame["item_id"].to_numpy())
    assert data.manifest.tied_share == 1.0


def test_unstable_sort_another_order_is_another_dataset(tmp_path: Path) -> None:
    frame = tied_frame()
    within = frame.with_columns(turn=-pl.int_range(pl.len())).sort("user_id", "timestamp", "turn").drop("turn")
    found = []
    for name, log in (("as-given", frame), ("ties-turned", within)):
        data = prepare(log, tmp_path / name)
        found.append(evaluate(Seeded(data.num_items), Experiment(data, PROTOCOL)))
    with pytest.raises(ProtocolError, match="different datasets"):
        compare(found[0], found[1], "NDCG@10")


def test_unstable_sort_a_dataset_in_another_order_is_refused(data: Dataset) -> None:
    data.manifest = data.manifest.change(order="user, timestamp")
    with pytest.raises(ProtocolError, match="order 'user, timestamp'"):
        evaluate(Seeded(data.num_items), Experiment(data, PROTOCOL))


# 2. Masking


def test_masking_covers_the_whole_history_not_the_window(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", {"a": [(i, i) for i in range(1, 9)]})
    best_first = {item: 10.0 - item for item in range(1, 9)}
    ids = np.array(data.items["item_id"].to_list())
    ranker = Fixed(data, best_first, window=2)
    whole = evaluate(ranker, Experiment(data, PROTOCOL), ks=(1,))
    assert ids[whole.lists].tolist() == [[8]]  # all of 1 … 7 were seen, though the model sees two of them
    windowed = evaluate(ranker, Experiment(data, PROTOCOL.change(mask="window(2)")), ks=(1,))
    assert ids[windowed.lists].tolist() == [[1]]
    assert whole.means["HR@1"] == 1.0
    assert windowed.means["HR@1"] == 0.0
    with pytest.raises(ProtocolError, match="different protocols"):
        compare(whole, windowed, "HR@1")


def test_masking_is_minus_infinity_not_zero(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", {"a": [(1, 0), (2, 1), (3, 2), (4, 3)]})
    found = evaluate(Fixed(data, {1: -1.0, 2: -2.0, 3: -3.0, 4: -4.0}), Experiment(data, PROTOCOL), ks=(1,))
    assert found.means["HR@1"] == 1.0  # a seen item at score 0 would beat every negative score


def test_masking_a_repeated_target_counts_as_a_miss_and_the_share_is_told(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", {"a": [(1, 0), (2, 1), (1, 2)], "b": [(1, 0), (2, 1), (3, 2)]})
    ranker = Fixed(data, {1: 9.0, 3: 8.0})
    masked = evaluate(ranker, Experiment(data, PROTOCOL), ks=(1, 3))
    assert masked.values["HR@3"].tolist() == [0.0, 1.0]  # both users count
    assert masked.unreachable == 0.5
    free = evaluate(ranker, Experiment(data, PROTOCOL.change(mask="nothing")), ks=(1, 3))
    assert free.values["HR@1"].tolist() == [1.0, 0.0]
    assert free.unreachable == 0.0


# 3. No validation split


def test_no_validation_split_is_an_error_when_validation_is_asked_for(data: Dataset) -> None:
    with pytest.raises(ProtocolError, match="no validation request"):
        evaluate(Seeded(data.num_items), Experiment(data, ProtocolConfig(split="loo-paper")), stage="validation")


def test_no_validation_split_training_ends_before_what_is_validated_and_tested(data: Dataset) -> None:
    split = leave_one_out(data)
    length = np.diff(data.offsets)
    np.testing.assert_array_equal(split.train_end, length - 2)
    np.testing.assert_array_equal(split.validation.end, length - 2)
    np.testing.assert_array_equal(leave_one_out_test(data).end, length - 1)


# 4. The catalogue that is ranked


def test_catalogue_never_rated_titles_are_ranked_only_on_request(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", {"a": [(1, 0), (2, 1), (3, 2)]}, titles=range(1, 30))
    ranker = Fixed(data, {3: 1.0}, rest=2.0)
    rated = evaluate(ranker, Experiment(data, PROTOCOL))
    everything = evaluate(ranker, Experiment(data, PROTOCOL.change(rank="all")))
    assert (rated.ranked, everything.ranked) == (3, 29)
    assert (rated.means["MRR"], everything.means["MRR"]) == (1.0, pytest.approx(1 / 27))
    with pytest.raises(ProtocolError, match="different protocols"):
        compare(rated, everything, "MRR")


def test_catalogue_targets_without_training_events_are_asked_and_missed(tmp_path: Path) -> None:
    histories = {**random_log(users=8), "z": [(1, 0), (2, 10), (3, 20), (99, 30)]}
    data = dataset_of(tmp_path / "d", histories)
    model = Popularity(PopularityConfig(), data.num_items).fit_statistics(Statistics(data, leave_one_out(data)))
    found = evaluate(model, Experiment(data, PROTOCOL))
    assert len(found.user) == 9
    assert found.values["HR@10"][data.user_rows(["z"])[0]] == 0.0


# 5. Sampled metrics


def test_sampled_metrics_do_not_exist(data: Dataset) -> None:
    with pytest.raises(ConfigError, match="'rated', 'all' or 'trained'"):
        ProtocolConfig.parse({"rank": "sampled-100"})
    found = evaluate(Seeded(data.num_items), Experiment(data, PROTOCOL))
    assert found.ranked == data.num_items
    length = np.diff(data.offsets)
    worst = data.num_items - (length - 1)  # all but the masked
    assert (1 / found.values["MRR"] <= worst + 1e-9).all()
    assert (1 / found.values["MRR"]).max() > data.num_items / 2


# 6. The loss hidden behind the model's name


def test_the_loss_is_part_of_what_a_recipe_s_name_means() -> None:
    losses: dict[str, set[str]] = {}
    for name, recipe in every().items():
        config = recipe()
        if config.model.kind == "recommender" and config.model.next_item is not None:
            losses.setdefault(name.partition("/")[2], set()).add(config.model.next_item.loss.kind)
    assert losses["sasrec"] == {"bce"}
    assert all(len(kinds) == 1 for kinds in losses.values()), losses
    assert len({*losses["sasrec"], *losses["sasrec-ss"], *losses["sasrec-ce"], *losses["gsasrec"]}) == 4


# 7. Variants of NDCG and recall


def test_ndcg_is_macro_with_the_ideal_of_what_fits(tmp_path: Path) -> None:
    """a: 1 of 1 target at rank 1; b: 1 of 3 targets, at rank 2. Frozen, so that one request has several targets."""
    data = dataset_of(tmp_path / "d", {"a": [(1, 0), (4, 60)], "b": [(1, 0), (5, 60), (6, 61), (7, 62)]})
    protocol = ProtocolConfig(
        split="temporal", train_end="2020-09-13T12:27", validation_end="2020-09-13T13:00", state="frozen"
    )
    found = evaluate(Fixed(data, {4: 9.0, 5: 8.0}), Experiment(data, protocol), ks=(2,))
    of_b = (1 / log2(3)) / (1 + 1 / log2(3))
    assert found.means["NDCG@2"] == pytest.approx((1 + of_b) / 2)
    micro = (1 + 1 / log2(3)) / (1 + 1 + 1 / log2(3))
    assert found.means["NDCG@2"] != pytest.approx(micro)
    assert found.means["Recall@2"] == pytest.approx((1 + 1 / 3) / 2)
    assert found.means["RecallCapped@2"] == pytest.approx((1 + 1 / 2) / 2)


@pytest.mark.parametrize("form", ["dense", "product"])
def test_ndcg_a_model_that_scores_everything_the_same_gets_nothing(data: Dataset, form: str) -> None:
    class Constant:
        window_of_requests, inputs = 50, InputSpec()

        def catalogue_scores(self, batch: SequenceBatch) -> FactoredScores | torch.Tensor:
            product = FactoredScores(torch.ones(len(batch.targets.num_visible), 4), torch.ones(data.num_items, 4))
            return product if form == "product" else product.dense()

    found = evaluate(Constant(), Experiment(data, PROTOCOL), ks=(10,))
    assert found.means["NDCG@10"] == 0.0
    np.testing.assert_allclose(1 / found.values["MRR"], data.num_items - np.diff(data.offsets) + 1)


# 8. Subsets of users


def test_user_subsets_every_user_counts_beyond_ten_thousand(tmp_path: Path) -> None:
    user, place = np.divmod(np.arange(10_500 * 3), 3)
    data = prepare(pl.DataFrame({"user_id": user, "item_id": (user * 7 + place * 3) % 50}), tmp_path / "d")
    for stage in ("validation", "test"):
        found = evaluate(Seeded(data.num_items), Experiment(data, PROTOCOL), stage=stage, ks=(10,), batch_size=4096)
        assert len(found.user) == found.requests == 10_500


# 9. Leaks


def two_logs(tmp_path: Path) -> list[Dataset]:
    """Two logs over the same users and items that differ in what leave-one-out holds out, and in nothing else."""
    log = random_log()
    other = {u: [*events[:-2], (29, events[-2][1]), (28, events[-1][1])] for u, events in log.items()}
    everybody = {"all": [(item, item) for item in range(30)] + [(0, 40), (1, 41)]}  # the same rows in both datasets
    return [dataset_of(tmp_path / name, {**everybody, **rows}) for name, rows in (("log", log), ("other", other))]


def test_leaks_nothing_is_fitted_on_what_is_held_out(tmp_path: Path) -> None:
    states = []
    for data in two_logs(tmp_path):
        split = leave_one_out(data)
        models: list[nn.Module] = [
            Popularity(PopularityConfig(), data.num_items).fit_statistics(Statistics(data, split)),
            DecayedPopularity(DecayedPopularityConfig(), data.num_items).fit_statistics(Statistics(data, split)),
            ItemKNN(ItemKNNConfig(), data.num_items).fit_statistics(Statistics(data, split)),
            Rules(RulesConfig(), data.num_items).fit_statistics(Statistics(data, split)),
        ]
        states.append([value for model in models for value in model.state_dict().values()])
    for one, two in zip(*states, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["in-batch", "mixed"])
def test_leaks_neither_inputs_targets_nor_negatives_know_what_is_held_out(
    tmp_path: Path, kind: Literal["in-batch", "mixed"]
) -> None:
    seen = []
    for data in two_logs(tmp_path):
        split = leave_one_out(data)
        batches = TrainingBatches(data, split, window=50, batch_size=4)
        trained = data.item[training_events(data, split)].astype(np.int64)
        counts = torch.bincount(torch.from_numpy(trained), minlength=data.num_items)
        config = NegativesConfig(kind=kind, correction="negatives")
        for step in range(batches.steps(0)):
            batch = batches.batch(0, step)
            drawn = draw(config, batch, counts, step)
            assert drawn.shared is not None and drawn.log_q is not None
            seen.append([batch.events.item, batch.targets.events.item, drawn.shared, drawn.log_q])
    half = len(seen) // 2
    assert half > 1
    for one, two in zip(seen[:half], seen[half:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_leaks_a_ranker_is_shown_neither_the_target_nor_what_follows(data: Dataset) -> None:
    ranker = Seeded(data.num_items)
    evaluate(ranker, Experiment(data, PROTOCOL), stage="validation")
    for batch in ranker.batches:
        assert (batch.targets.events.item == -1).all()
        assert not batch.targets.events.fields
    shown = sum(len(batch.events.item) for batch in ranker.batches)
    assert shown == (np.diff(data.offsets) - 2).sum()


# 10. Python's hash()


def test_hash_seeds_change_nothing(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from tests.rankers import dataset_of, random_log
from facta.data.split.splits import leave_one_out, leave_one_out_test
from facta.data.split.statistics import Statistics
from facta.eval.evaluation import evaluate
from facta.eval.experiment import Experiment
from facta.eval.protocol import ProtocolConfig
from facta.models.baselines import ItemKNN, ItemKNNConfig
data = dataset_of(Path(sys.argv[1]), random_log())
model = ItemKNN(ItemKNNConfig(), data.num_items).fit_statistics(Statistics(data, leave_one_out(data)))
found = evaluate(model, Experiment(data, ProtocolConfig()))
print(data.content_hash, found.means, found.lists.tolist())
"""
    root, said = Path(__file__).parents[2], []
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / seed)],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "PATH": "", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(run.stdout)
    assert said[0] == said[1]


# 11. Query time as an input


def test_query_time_is_the_request_s_own_and_no_event_s_after_it(data: Dataset) -> None:
    ranker = Seeded(data.num_items)
    evaluate(ranker, Experiment(data, PROTOCOL), batch_size=1)
    times = {}
    for batch in ranker.batches:
        assert batch.targets.events.time is not None and batch.next_time is not None and batch.events.time is not None
        asked = int(batch.targets.events.time[0])
        assert int(batch.next_time[-1]) == asked
        assert int(batch.events.time.max()) <= asked
        times[tuple(batch.events.item.tolist())] = asked
    assert data.timestamp is not None
    for start, end in zip(data.offsets[:-1], data.offsets[1:], strict=True):
        assert times[tuple(data.item[start : end - 1].tolist())] == data.timestamp[end - 1]


# 12. Dropping the last batch


@pytest.mark.parametrize("batch_size", [1, 7, 59, 60, 1000])
def test_last_batch_is_never_dropped(data: Dataset, batch_size: int) -> None:
    ranker, told = Seeded(data.num_items), []
    experiment = Experiment(data, PROTOCOL)
    found = evaluate(ranker, experiment, batch_size=batch_size, progress=lambda done, total: told.append((done, total)))
    whole = evaluate(ranker, experiment)
    assert found.requests == 60
    assert told[-1] == (60, 60)
    for name, column in whole.values.items():
        np.testing.assert_array_equal(found.values[name], column)
    np.testing.assert_array_equal(found.lists, whole.lists)


# 13. Seeds


def test_seeds_are_averaged_and_the_interval_is_over_users(data: Dataset) -> None:
    runs = [evaluate(Seeded(data.num_items, seed), Experiment(data, PROTOCOL)) for seed in range(3)]
    mean = average(runs)
    assert mean.runs == mean.summary()["runs"] == 3
    assert mean.means["NDCG@10"] == pytest.approx(np.mean([run.means["NDCG@10"] for run in runs]))
    low, high = mean.intervals["NDCG@10"]
    assert low < mean.means["NDCG@10"] < high
    assert replace(mean).intervals == mean.intervals  # always the same resamples


# Not in the list, and as easily made: dropout left on


def test_dropout_is_off_while_judged_and_on_again_after(data: Dataset) -> None:
    class Noisy(nn.Module):
        window_of_requests, inputs = 50, InputSpec()

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(data.num_items, 64))
            self.dropout = nn.Dropout(0.5)

        def catalogue_scores(self, batch: SequenceBatch) -> FactoredScores:
            newest = batch.events.item[batch.offsets[1:] - 1]
            return FactoredScores(self.dropout(self.table[newest]), self.table)

    model = Noisy().train()
    first, second = (evaluate(model, Experiment(data, PROTOCOL)) for _ in range(2))
    np.testing.assert_array_equal(first.lists, second.lists)
    assert model.training
