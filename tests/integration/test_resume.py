"""Exact resume: a run killed with SIGKILL anywhere and started again ends with the bits of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import facta
from facta.data.synthetic.simulate import SCHEMA, write
from facta.data.synthetic.simulator import SimulatorConfig, World
from facta.ops import backend
from facta.training.journal import TIMINGS
from tests import toy_training, worlds

SLOWLY = "0.02"  # seconds a batch, so that a kill lands where it is aimed
ROOT = Path(toy_training.__file__).parents[1]
THREADS = "2"  # sums in any order would show
FASTEST = backend.available()[0]  # the kernels, where they were compiled

TRAIN = """
import sys, facta
from facta.ops import backend
print(f"backend {backend.current()}", file=sys.stderr)
facta.train(sys.argv[1], "debug/hstu", sys.argv[2], ["training.epochs=8", "training.checkpoint_every=5",
    "model.embedding.dropout=0.2", "model.encoder.dropout=0.2"])
"""
KILL_WITHIN_THE_CHECKPOINT_OF_STEP_20 = """
import os, signal, sys
from pathlib import Path
rename = Path.rename
def killing(self, target):
    if target.name == "step-00000020":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = killing
from tests.toy_training import script_run
script_run(Path(sys.argv[1]))
"""


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """In the environment of the test, its FACTA_BACKEND included."""
    environment = {**os.environ, "OMP_NUM_THREADS": THREADS}
    return subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, env=environment, cwd=ROOT)


def finish(*arguments: str) -> str:
    run = start(*arguments)
    said = run.communicate(timeout=120)[1].decode()
    assert run.returncode == 0, said
    return said


def kill_at(step: int, folder: Path, *arguments: str) -> None:
    """SIGKILL as soon as the journal shows `step`."""
    run = start(*arguments)
    deadline = time.monotonic() + 120
    while steps_in(folder) < step:
        assert run.poll() is None and time.monotonic() < deadline, run.communicate()[1].decode()
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL, "it ended before it was killed"


def steps_in(folder: Path) -> int:
    """The newest step in the journal, whole lines only."""
    path = folder / "metrics.jsonl"
    text = path.read_bytes() if path.exists() else b""
    found = [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
    return max((record["step"] for record in found), default=0)


def story(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMINGS} for line in lines]


def bits(folder: Path) -> dict[str, dict[str, bytes]]:
    """Every tensor below a folder, byte by byte."""
    return {
        str(file.relative_to(folder)): {name: value.numpy().tobytes() for name, value in load_file(file).items()}
        for file in sorted(folder.rglob("*.safetensors"))
    }


def assert_equal_runs(one: Path, other: Path) -> None:
    assert story(one)[-1]["event"] == "end"
    assert story(one) == story(other)
    assert bits(one) == bits(other)


@pytest.mark.parametrize("name", [FASTEST])
def test_a_recipe_killed_at_several_steps_and_started_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTA_BACKEND", name)
    dataset = facta.prepare(worlds.checkerboard(), tmp_path / "data")
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    finish("-c", TRAIN, str(dataset.path), str(straight))
    steps = steps_in(facta.run_folder(straight))
    for step in sorted(random.Random(3).sample(range(2, steps - 5), 3)):
        kill_at(step, facta.run_folder(killed), "-c", TRAIN, str(dataset.path), str(killed))
    said = finish("-c", TRAIN, str(dataset.path), str(killed))
    assert f"backend {name}" in said and "Going on from step" in said
    assert_equal_runs(facta.run_folder(straight), facta.run_folder(killed))
    assert bits(straight) == bits(killed)  # the artifacts


def test_killed_inside_the_writing_of_a_checkpoint_and_then_the_newest_one_torn(tmp_path: Path) -> None:
    script, straight, killed = toy_training.__file__, tmp_path / "straight", tmp_path / "killed"
    finish(script, str(straight))
    run = start("-c", KILL_WITHIN_THE_CHECKPOINT_OF_STEP_20, str(killed))
    run.communicate(timeout=120)
    assert run.returncode == -signal.SIGKILL
    assert any(path.name.startswith(".step-00000020") for path in (killed / "checkpoints").iterdir())
    kill_at(27, killed, script, str(killed), SLOWLY)
    newest = max((killed / "checkpoints").glob("step-*"))
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    said = finish(script, str(killed))
    assert f"Passed over a checkpoint: {newest.name}/weights.safetensors has another checksum" in said
    assert_equal_runs(straight, killed)
    assert len(bits(straight)) == 6  # two steps of weights and optimiser, and two best weights


@pytest.mark.parametrize("name", [FASTEST])
@pytest.mark.parametrize(
    "system",
    [
        *("hstu", "sasrec", "sasrec-ss", "sasrec-ce", "gsasrec", "gru4rec", "transformer-modern"),
        *("ligr-ss", "fuxi-linear"),
    ],
)
def test_every_system_goes_on_exactly_after_a_crash(
    system: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTA_BACKEND", name)
    dataset = facta.prepare(worlds.checkerboard(users=40), tmp_path / "data")
    settings = ["training.epochs=3", "training.checkpoint_every=2", "model.encoder.dropout=0.3"]
    assert_crashed_goes_on(dataset, facta.find_recipe(f"debug/{system}", settings), tmp_path, monkeypatch)


FEEDBACK = [
    *("model.window=16", "model.width=16", "model.encoder.layers=2", "training.batch_size=4"),
    *("training.checkpoint_every=2", "training.patience=null"),
]
SHORT = 'training.stochastic_length={"alpha": 1.3, "subsequence": "uniform"}'


@pytest.mark.parametrize("name", [FASTEST])
@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("gr-ranking", ["training.epochs=3", "model.embedding.rates=5", SHORT]),
        ("gr-ranking", ["training.epochs=1", 'model.next_item={"loss": {"kind": "softmax"}, "positive": "click"}']),
        ("gr-ranking", ["training.epochs=1", "training.hours=200", "training.keep=last"]),
        ("gr-fused", ["training.epochs=1", "training.examples=impression", "training.batch_size=20", SHORT]),
    ],
    ids=["shortened", "joint", "stream", "impressions"],
)
def test_every_way_to_learn_feedback_goes_on_exactly_after_a_crash(
    recipe: str, settings: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTA_BACKEND", name)
    world, log = World(SimulatorConfig(users=24, items=40, events_per_user=20)), tmp_path / "log"
    write(world, log, seed=1)
    dataset = facta.prepare(
        log / "events.parquet", tmp_path / "data", items=log / "items.parquet", fields=SCHEMA.fields,
        item_fields=SCHEMA.items,
    )  # fmt: skip
    chosen = facta.find_recipe(f"simulator/{recipe}", [*FEEDBACK, *settings])
    assert_crashed_goes_on(dataset, chosen, tmp_path, monkeypatch)


ENCODERS = {
    "hstu": {"kind": "hstu", "heads": 2},
    "softmax": {"kind": "hstu", "bias": "none", "attention": "softmax", "normaliser": None},
    "production": {"kind": "hstu-production", "heads": 2},
    "transformer": {"kind": "transformer", "heads": 2, "attention_dropout": 0.2},
    "ligr": {"kind": "ligr", "heads": 2, "attention_dropout": 0.2},
    "fuxi-linear": {"kind": "fuxi-linear"},
    "gru": {"kind": "gru"},
}
JOINT: dict[str, object] = {}  # sampled softmax: negatives are drawn


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    place = tmp_path_factory.mktemp("service")
    write(World(SimulatorConfig(users=24, items=40, events_per_user=12)), place / "log", seed=1)
    tables = {"items": place / "log" / "items.parquet", "fields": SCHEMA.fields, "item_fields": SCHEMA.items}
    return facta.prepare(place / "log" / "events.parquet", place / "data", **tables)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("layout", ["fused", "interleaved", "paired"])
@pytest.mark.parametrize("task", ["feedback", "joint"])
def test_every_layout_and_encoder_goes_on_exactly_after_a_crash(
    layout: str, encoder: str, task: str, service: facta.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [f'model.layout="{layout}"', f"model.encoder={json.dumps(ENCODERS[encoder])}", "training.epochs=2"]
    chosen += [f"model.next_item={json.dumps(JOINT)}"] if task == "joint" else []
    recipe = facta.find_recipe("simulator/gr-ranking", [*FEEDBACK[:2], *FEEDBACK[3:], *chosen])
    assert_crashed_goes_on(service, recipe, tmp_path, monkeypatch)


@pytest.mark.parametrize("ranker", ["dlrm", "bst", "sim", "twin", "transact", "rates"])
def test_every_ranker_of_impressions_goes_on_exactly_after_a_crash(
    ranker: str, service: facta.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = ["model.history.search=soft", "model.window=3"] if ranker == "sim" else []
    recipe = facta.find_recipe(f"simulator/{ranker}", [*FEEDBACK[3:], "training.epochs=2", *searched])
    assert_crashed_goes_on(service, recipe, tmp_path, monkeypatch)


@pytest.mark.parametrize("where", ["first", "second"])
def test_a_model_that_is_trained_twice_goes_on_exactly_in_either_run(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTA_BACKEND", FASTEST)
    dataset = facta.prepare(worlds.checkerboard(users=40), tmp_path / "data")
    recipe = facta.find_recipe(
        "debug/hstu",
        ["training.epochs=4", "training.checkpoint_every=2", "model.encoder.dropout=0.3", "protocol.refit=yes"],
    )
    facta.train(dataset, recipe, tmp_path / "whole")
    runs = {"first": facta.run_folder(tmp_path / "whole"), "second": facta.run_folder(tmp_path / "whole") / "refit"}
    steps = {name: sum(line["event"] == "step" for line in story(run)) for name, run in runs.items()}
    after = steps["first"] // 2 if where == "first" else steps["first"] + steps["second"] // 2
    assert_crashed_goes_on(dataset, recipe, tmp_path, monkeypatch, after=after)
    assert_equal_runs(*(facta.run_folder(tmp_path / name) / "refit" for name in ("straight", "crashed")))
    again = bits(tmp_path / "crashed")
    assert again == bits(tmp_path / "straight") == bits(tmp_path / "whole")


def assert_crashed_goes_on(
    dataset: facta.Dataset,
    recipe: facta.RecipeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    after: int = 5,
) -> None:
    """A run that breaks down between two checkpoints, `after` that many steps, and one that does not, end in the same
    bits.
    """
    from facta.training import trainer

    class Crash(Exception):
        pass

    straight = facta.train(dataset, recipe, tmp_path / "straight").fingerprint
    with monkeypatch.context() as patch:
        record, left = trainer.Trainer._record, [after + 1]  # step 5 is in the journal, not in a checkpoint

        def crashing(*arguments: Any) -> None:
            left[0] -= 1
            if not left[0]:
                raise Crash
            record(*arguments)

        patch.setattr(trainer.Trainer, "_record", crashing)
        with pytest.raises(Crash):
            facta.train(dataset, recipe, tmp_path / "crashed")
    assert facta.train(dataset, recipe, tmp_path / "crashed").fingerprint == straight
    assert_equal_runs(facta.run_folder(tmp_path / "straight"), facta.run_folder(tmp_path / "crashed"))
