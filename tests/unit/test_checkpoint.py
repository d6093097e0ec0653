"""Checkpoints come back bit by bit, or are found to be torn."""

import json
import resource
from pathlib import Path

import pytest
import torch

from facta.errors import ArtifactError, ResourceError
from facta.training import checkpoint
from facta.training.optim import OptimiserConfig, adamw
from facta.training.step import take_step
from facta.types import Negatives
from tests.toy_training import ToyBatches, ToyModel


def save(folder: Path, step: int, best_step: int | None = None) -> Path:
    path = checkpoint.place(folder, "step", step)
    checkpoint.save(path, {"weights": {"x": torch.full((3,), float(step))}}, {"best_step": best_step, "step": step})
    return path


def save_best(folder: Path, step: int) -> Path:
    path = checkpoint.place(folder, "best", step)
    checkpoint.save(path, {"weights": {"x": torch.ones(2)}}, {})
    return path


def trained() -> tuple[ToyModel, torch.optim.AdamW]:
    model = ToyModel()
    optimiser = adamw(model.parameter_groups(), OptimiserConfig())
    for place in range(3):
        take_step(model, optimiser, [(ToyBatches().batch(0, place), Negatives())], 1, clip_norm=None)
    return model, optimiser


def test_weights_and_optimiser_come_back_bit_by_bit_and_tied_weights_are_kept_once(tmp_path: Path) -> None:
    model, optimiser = trained()
    path = tmp_path / "step-1"
    tensors = {"weights": checkpoint.weights(model), "optimiser": checkpoint.optimiser_tensors(optimiser, model)}
    checkpoint.save(path, tensors, {"share": 0.1})
    found = checkpoint.open_checkpoint(path)
    assert found.state == {"share": 0.1}
    assert set(found.tensors("weights")) == {"table", "out", "bias", "scale"}

    other = ToyModel()
    second = adamw(other.parameter_groups(), OptimiserConfig())
    checkpoint.restore_weights(other, found.tensors("weights"))
    checkpoint.restore_optimiser(second, other, found.tensors("optimiser"))
    for one, opt in ((model, optimiser), (other, second)):
        take_step(one, opt, [(ToyBatches().batch(1, 0), Negatives())], 1, clip_norm=None)
    assert other.tied is other.bias
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def change_a_number(path: Path) -> None:
    body = json.loads(path.read_text())
    body["state"]["step"] = 7
    path.write_text(json.dumps(body))


def not_a_checkpoint(path: Path) -> None:
    path.write_text("[]")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("weights.safetensors", flip_a_bit),
        ("weights.safetensors", truncate),
        ("weights.safetensors", Path.unlink),
        ("state.json", truncate),
        ("state.json", empty),
        ("state.json", change_a_number),
        ("state.json", not_a_checkpoint),
        ("state.json", Path.unlink),
    ],
)
def test_a_damaged_one_is_passed_over_with_the_file_named(tmp_path: Path, file: str, damage) -> None:  # type: ignore[no-untyped-def]
    older, newer = save(tmp_path, 100), save(tmp_path, 200)
    damage(newer / file)
    found, passed_over = checkpoint.newest(tmp_path)
    assert found is not None and found.path == older
    assert torch.equal(found.tensors("weights")["x"], torch.full((3,), 100.0))
    assert list(passed_over) == [newer] and file in passed_over[newer]


def test_a_step_whose_best_weights_are_torn_is_passed_over_too(tmp_path: Path) -> None:
    save_best(tmp_path, 100)
    older = save(tmp_path, 150, best_step=100)
    newer = save(tmp_path, 250, best_step=200)
    truncate(save_best(tmp_path, 200) / "weights.safetensors")
    found, passed_over = checkpoint.newest(tmp_path)
    assert found is not None and found.path == older
    assert "best-00000200" in passed_over[newer]


def test_no_checkpoint_is_a_fresh_start_but_only_torn_ones_are_an_error(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) == (None, {})
    truncate(save(tmp_path, 1) / "state.json")
    with pytest.raises(ArtifactError, match=r"No checkpoint in .* is whole .*Delete"):
        checkpoint.newest(tmp_path)


def test_a_newer_format_says_update(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    body = json.loads((path / "state.json").read_text())
    body["format"] = checkpoint.FORMAT + 1
    (path / "state.json").write_text(json.dumps(body))
    with pytest.raises(ArtifactError, match="update facta"):
        checkpoint.open_checkpoint(path)


def test_two_steps_and_the_bests_they_speak_of_are_kept_and_drafts_are_not(tmp_path: Path) -> None:
    for step in (100, 200):
        save_best(tmp_path, step)
    for step, best in ((100, None), (150, 100), (250, 200), (300, 200)):
        save(tmp_path, step, best)
    (tmp_path / ".step-00000200.x77.partial").mkdir()
    checkpoint.prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-00000200", "step-00000250", "step-00000300"]


def test_another_model_is_refused_by_name(tmp_path: Path) -> None:
    saved = {name: value.detach() for name, value in checkpoint.weights(ToyModel()).items()}
    saved["table"] = saved["table"][1:]
    del saved["bias"]
    with pytest.raises(ArtifactError, match=r"another model: bias, table"):
        checkpoint.restore_weights(ToyModel(), saved)


def test_a_full_disk_is_a_sentence_and_leaves_the_older_one_alone(tmp_path: Path) -> None:
    older = save(tmp_path, 100)

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, limit[1]))
    try:
        with pytest.raises(ResourceError, match=r"Cannot write .*step-00000200.*File too large"):
            save(tmp_path, 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path.name for path in tmp_path.iterdir()] == [older.name]
