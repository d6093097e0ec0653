"""docs/add_an_encoder.md: its encoder keeps the contract, learns, and its commands run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import facta
from facta.testing import check_encoder
from facta.training.log import Log
from tests import worlds
from tests.pages import commands

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add_an_encoder.md"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a reader who has saved the file."""
    (code, *_) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "gated_linear.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "gated_linear", raising=False)
    return tmp_path


def test_it_keeps_the_contract_and_is_as_short_as_the_page_says(home: Path) -> None:
    from gated_linear import GatedLinearConfig  # type: ignore[import-not-found]

    check_encoder(GatedLinearConfig(layers=2, state=4))
    lines = [line for line in (home / "gated_linear.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= 65


def test_it_learns_what_the_last_items_tell(home: Path) -> None:
    """In the world of `cycle` the next item follows from the last one."""
    log = facta.prepare(worlds.cycle(), home / "cycle")
    changes = {"model.encoder": {"kind": "gated_linear:GatedLinearConfig", "dropout": 0.0}, "training.epochs": 25}
    artifact = facta.train(log, "debug/hstu", home / "a", changes, log=Log("quiet"))
    assert facta.evaluate(artifact, log).means["HR@1"] > 0.95


def test_its_commands_run(home: Path) -> None:
    frame = worlds.checkerboard(users=40)
    facta.prepare(frame, home / "data" / "shop")
    quick = {"own-log/hstu": "own-log/hstu --set training.epochs=1 --set model.width=8"}
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands(PAGE):
        for long, short in quick.items():
            command = command.replace(long, short)
        run = subprocess.run(["bash", "-c", command], cwd=home, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, f"{command}\n{run.stderr}"
