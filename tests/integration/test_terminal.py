"""What surrounds a command: interrupts before it begins, disks without locks, and the first line of a long run."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import facta
from facta.errors import ResourceError
from facta.training.journal import Journal

COMMAND = """
import sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from facta.cli import main
main()
"""


@pytest.mark.parametrize(("name", "said"), [("facta", "facta: interrupted"), ("other", "Traceback")])
def test_an_interrupt_while_importing_is_a_sentence_of_the_command_alone(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_text(COMMAND)
    run = subprocess.run([sys.executable, tmp_path / name], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode in (-2, 130) and said in run.stderr
    assert ("Traceback" in run.stderr) == (name != "facta")


@pytest.mark.parametrize(
    ("code", "refused"),
    [(errno.EWOULDBLOCK, True), (errno.ENOLCK, False), (errno.ENOSYS, False), (errno.ENOTSUP, False)],
)
def test_a_disk_without_locks_is_not_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, refused: bool
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, "as the kernel says")

    monkeypatch.setattr(fcntl, "flock", flock)
    if refused:
        with pytest.raises(ResourceError, match="Another process is training"):
            Journal(tmp_path)
        return
    journal = Journal(tmp_path)
    journal.close()
    assert "has no file locks (as the kernel says)" in (journal.unlocked or "")
    dataset = facta.prepare(pl.DataFrame({"user_id": [1], "item_id": [1]}), tmp_path / "data")  # drafts are locked too
    assert dataset.num_events == 1


def test_the_first_line_comes_before_the_model_is_built(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    people = {"user_id": [1] * 5 + [2] * 5, "item_id": [*range(5)] * 2}
    log = pl.DataFrame({**people, "timestamp": range(10**9, 10**9 + 10)})
    dataset = facta.prepare(log, tmp_path / "data")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="no model"):
        patch.setattr("facta.recipes.fit._untrained", lambda *_: (_ for _ in ()).throw(RuntimeError("no model")))
        facta.train(dataset, "debug/hstu", tmp_path / "artifact")
    assert "debug/hstu: 10 events, 5 items." in capfd.readouterr().err
