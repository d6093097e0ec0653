"""What a run leaves behind, when it stops, and what it refuses."""

import json
import os
import resource
import signal
import threading
from pathlib import Path

import pytest
import torch

from facta.data.batches.negatives import NegativesConfig
from facta.errors import ArtifactError, ConfigError, ResourceError, TrainingError
from facta.training import journal
from facta.training.log import Log
from facta.training.prefetch import BATCHES_AHEAD, prefetched
from facta.training.trainer import TrainingConfig
from facta.types import LossSum, Negatives, SequenceBatch
from tests.toy_training import ITEMS, Accuracy, ToyBatches, ToyModel, toy_config, toy_trainer


def checkpoints(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoints").iterdir())


class Scripted:
    """Validation that follows a script."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def __call__(self, _: int) -> dict[str, float]:
        return {"MRR": self.values.pop(0)}


def test_a_run_learns_and_writes_down_every_step(tmp_path: Path) -> None:
    model = ToyModel()
    result = toy_trainer(tmp_path, toy_config(epochs=12), model=model).fit()
    assert result.metrics["MRR"] > 0.9
    assert (result.steps, result.epochs, result.stopped) == (72, 12, "epochs")
    assert result.events == 72 * 8 * 5
    steps = journal.read(tmp_path, "step")
    assert [record["step"] for record in steps] == list(range(1, 73))
    assert [record["epoch"] for record in steps] == [1 + i // 6 for i in range(72)]
    assert steps[-1]["loss"] < steps[0]["loss"] / 2
    assert all(record["events_per_second"] > 0 and record["learning_rate"] == 0.01 for record in steps)
    (start, *_), (end,) = journal.read(tmp_path, "start"), journal.read(tmp_path, "end")
    assert start["recipe"]["epochs"] == 12 and start["parameters"] == 2 * ITEMS * 8 + ITEMS
    assert end["MRR"] == result.metrics["MRR"] and end["best_step"] == result.best_step


def test_the_loss_of_an_epoch_is_the_mean_over_its_targets(tmp_path: Path) -> None:
    toy_trainer(tmp_path, toy_config(epochs=1)).fit()
    losses = [record["loss"] for record in journal.read(tmp_path, "step")]  # equal weights in every batch
    (epoch,) = journal.read(tmp_path, "epoch")
    assert epoch["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-6)


def test_the_best_weights_are_restored_and_patience_ends_the_run(tmp_path: Path) -> None:
    model = ToyModel()
    seen: list[torch.Tensor] = []
    scripted = Scripted(0.1, 0.5, 0.5, 0.2, 0.9)

    def validate(_: int) -> dict[str, float]:
        seen.append(model.table.detach().clone())
        return scripted(0)

    result = toy_trainer(tmp_path, toy_config(epochs=9, patience=2), model=model, validate=validate).fit()
    assert (result.stopped, result.epochs, result.best_epoch) == ("patience", 4, 2)  # a tie is no improvement
    assert result.metrics == {"MRR": 0.5}
    assert torch.equal(model.table, seen[1]) and not torch.equal(seen[1], seen[3])
    assert not model.training
    assert checkpoints(tmp_path) == ["best-00000012", "step-00000020", "step-00000024"]


def test_validation_keeps_its_rhythm_and_never_misses_the_last_epoch(tmp_path: Path) -> None:
    toy_trainer(tmp_path, toy_config(epochs=5, validate_every=2)).fit()
    assert [record["epoch"] for record in journal.read(tmp_path, "validation")] == [2, 4, 5]


def test_without_validation_the_last_weights_stay(tmp_path: Path) -> None:
    result = toy_trainer(tmp_path, toy_config(epochs=2), validate=None).fit()
    assert (result.metrics, result.best_step) == ({}, None)
    assert checkpoints(tmp_path) == ["step-00000008", "step-00000012"]


def test_the_same_run_twice_has_the_same_bits_and_another_seed_has_not(tmp_path: Path) -> None:
    class Contrasted(ToyModel):
        negatives = NegativesConfig(kind="mixed", count=3)

        def forward(self, batch: SequenceBatch, negatives: Negatives) -> dict[str, LossSum]:
            assert negatives.shared is not None
            pushed = (self.bias[negatives.shared] ** 2 + self.bias[negatives.shared]).sum()
            found = super().forward(batch, negatives)["next_item"]
            return {"next_item": LossSum(found.total + pushed, found.weight)}

    def weights(name: str, seed: int) -> torch.Tensor:
        model = Contrasted()
        toy_trainer(tmp_path / name, toy_config(epochs=2, seed=seed), model=model).fit()
        return model.bias

    assert torch.equal(weights("one", 0), weights("two", 0))
    assert not torch.equal(weights("three", 0), weights("four", 1))


def test_accumulation_takes_one_step_for_several_batches_and_the_rest_of_an_epoch_is_a_step_too(tmp_path: Path) -> None:
    result = toy_trainer(tmp_path, toy_config(epochs=1, accumulate=4)).fit()
    assert result.steps == 2
    assert [record["events"] for record in journal.read(tmp_path, "step")] == [160, 80]


def test_the_schedule_reaches_the_optimiser(tmp_path: Path) -> None:
    toy_trainer(tmp_path, toy_config(epochs=2, schedule="cosine", warmup_steps=2)).fit()
    rates = [record["learning_rate"] for record in journal.read(tmp_path, "step")]
    assert rates[0] == pytest.approx(0.005) and rates[6] == pytest.approx(0.005)  # warm-up; half of the cosine
    assert max(rates) == rates[1] and rates[-1] < 0.0005


def test_objectives_are_told_apart_in_the_journal(tmp_path: Path) -> None:
    toy_trainer(tmp_path, toy_config(epochs=1), model=ToyModel(objectives=2)).fit()
    for record in journal.read(tmp_path, "step"):
        assert record["loss"] == pytest.approx(record["loss/next_item"] + record["loss/even"])


# --- stopping and going on ---


def test_a_finished_run_gives_its_result_again_without_a_step(tmp_path: Path) -> None:
    model, again = ToyModel(), ToyModel()
    first = toy_trainer(tmp_path, model=model).fit()
    lines = (tmp_path / "metrics.jsonl").read_text()
    assert toy_trainer(tmp_path, model=again, batches=ToyBatches(count=0)).fit() == first
    assert torch.equal(model.table, again.table)
    assert (tmp_path / "metrics.jsonl").read_text() == lines


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(
    tmp_path: Path, number: int, raised: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupting(ToyModel):
        calls = 0

        def forward(self, batch: SequenceBatch, negatives: Negatives) -> dict[str, LossSum]:
            self.calls += 1
            if self.calls == 9:
                os.kill(os.getpid(), number)
            return super().forward(batch, negatives)

    config = toy_config(checkpoint_every=1000)
    handler = signal.getsignal(number)
    with pytest.raises(raised):
        toy_trainer(tmp_path / "one", config, model=Interrupting(), log=Log("plain")).fit()
    assert signal.getsignal(number) is handler
    assert "Interrupted after step 9; the same command goes on from there." in capsys.readouterr().err
    assert "step-00000009" in checkpoints(tmp_path / "one")
    resumed, straight = ToyModel(), ToyModel()
    toy_trainer(tmp_path / "one", config, model=resumed).fit()
    toy_trainer(tmp_path / "two", config, model=straight).fit()
    assert torch.equal(resumed.table, straight.table)


def test_another_thread_may_train_too(tmp_path: Path) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(toy_trainer(tmp_path).fit()))
    thread.start()
    thread.join()
    assert results[0].steps == 24


def test_other_settings_or_another_dataset_are_refused_by_name(tmp_path: Path) -> None:
    toy_trainer(tmp_path, toy_config(epochs=1), dataset_hash="aaaa").fit()
    with pytest.raises(
        ArtifactError, match=r"other settings: epochs was 1, is 2; weight_decay\.head was None, is 0\.5\. Use"
    ):
        changed = toy_config(epochs=2, weight_decay={"head": 0.5})
        toy_trainer(tmp_path, changed, dataset_hash="aaaa").fit()
    with pytest.raises(ArtifactError, match=r"dataset aaaa, not on bbbb"):
        toy_trainer(tmp_path, toy_config(epochs=1), dataset_hash="bbbb").fit()


def test_a_torn_checkpoint_is_said_and_its_steps_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, resumed = ToyModel(), ToyModel()
    expected = toy_trainer(tmp_path / "one", model=straight).fit()
    toy_trainer(tmp_path / "two").fit()
    state = tmp_path / "two" / "checkpoints" / "step-00000024" / "state.json"
    state.write_text(state.read_text()[:100])
    result = toy_trainer(tmp_path / "two", model=resumed, log=Log("plain")).fit()
    assert torch.equal(straight.table, resumed.table)
    assert (result.metrics, result.steps) == (expected.metrics, 24)
    said = capsys.readouterr().err
    assert "Passed over a checkpoint: step-00000024/state.json" in said and "Going on from step 20" in said


# --- what it refuses ---


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_loss_that_is_not_finite_stops_the_run_with_the_batch_named(tmp_path: Path, accumulate: int) -> None:
    batches, model = ToyBatches(), ToyModel()
    batches.poisoned = (1, 4)
    config = toy_config(accumulate=accumulate)
    taken = 10 if accumulate == 1 else 3
    with pytest.raises(TrainingError) as caught:
        toy_trainer(tmp_path, config, model=model, batches=batches).fit()
    message = str(caught.value)
    assert f"The loss became nan in batch 4 of epoch 2, after {taken} steps; the last finite loss" in message
    assert "learning_rate" in message
    *_, last = journal.read(tmp_path, "step")
    assert f"last finite loss was {last['loss']}" in message
    healthy = ToyModel()
    with pytest.raises(TrainingError):  # the weights are those after the last good step: the run repeats to the bit
        toy_trainer(tmp_path / "again", config, model=healthy, batches=batches).fit()
    assert torch.equal(model.table, healthy.table) and bool(model.table.isfinite().all())
    assert journal.read(tmp_path, "stopped")[0]["first"] == 4


def test_patience_without_validation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Found training\.patience=3 without validation.*null"):
        toy_trainer(tmp_path, toy_config(patience=3), validate=None)


def test_a_metric_that_is_not_measured_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'NDCG@11'; validation measures HR@1, MRR"):
        toy_trainer(tmp_path, toy_config(metric="NDCG@11")).fit()


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to learn from"):
        toy_trainer(tmp_path, batches=ToyBatches(count=0)).fit()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ResourceError, match=r"Cannot write .*out.*choose a place"):
        toy_trainer(tmp_path / "out").fit()


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_one_goes_on(tmp_path: Path) -> None:
    def validate(_: int) -> dict[str, float]:
        with pytest.raises(ResourceError, match="Another process is training"):
            toy_trainer(tmp_path).fit()
        return {"MRR": 0.5}

    toy_trainer(tmp_path, toy_config(epochs=1), validate=validate).fit()
    assert toy_trainer(tmp_path, toy_config(epochs=1)).fit().steps == 6


def test_an_unknown_key_lists_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=r"'learning_rat'.*learning_rate"):
        TrainingConfig.parse({"learning_rat": 1})


# --- journal and prefetch ---


def test_a_torn_line_is_cut_and_not_read(tmp_path: Path) -> None:
    log = journal.Journal(tmp_path)
    log.write("step", 1, 1, loss=0.1)
    kept = log.size()
    log.write("step", 2, 1, loss=0.2)
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "st')
    assert [record["loss"] for record in journal.read(tmp_path)] == [0.1, 0.2]
    again = journal.Journal(tmp_path)
    again.cut(kept, 1, tensorboard=False)
    again.write("step", 2, 1, loss=0.3)
    again.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [0.1, 0.3]


def test_a_disk_that_fills_up_is_a_sentence(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # a write beyond it fails, as on a full disk
    try:
        with pytest.raises(ResourceError, match=r"Cannot write .*metrics\.jsonl.*free some space"):
            toy_trainer(tmp_path, validate=None).fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_tensorboard_receives_the_numbers(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="extra 'track'")
    toy_trainer(tmp_path, toy_config(epochs=1, tensorboard=True)).fit()
    board = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = [scalar.value for scalar in board.Scalars("step/loss")]
    assert losses == pytest.approx([record["loss"] for record in journal.read(tmp_path, "step")])


def test_tensorboard_missing_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'facta\[track\]'"):
        toy_trainer(tmp_path, toy_config(tensorboard=True)).fit()


def test_prefetching_keeps_the_order_and_builds_little_ahead() -> None:
    built: list[int] = []

    def build(place: int) -> int:
        built.append(place)
        return place * place

    stream = prefetched(build, range(100))
    assert [next(stream) for _ in range(5)] == [0, 1, 4, 9, 16]
    stream.close()
    assert len(built) <= 5 + BATCHES_AHEAD


def test_an_error_while_building_reaches_the_caller() -> None:
    stream = prefetched(lambda place: 1 // (2 - place), range(5))
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_validation_runs_without_gradients_in_evaluation_mode(tmp_path: Path) -> None:
    model = ToyModel()
    validate = Accuracy(model)  # asserts both
    toy_trainer(tmp_path, toy_config(epochs=2), model=model, validate=validate).fit()
    assert validate.calls == 2
