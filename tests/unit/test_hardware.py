"""What the machine has: plausible everywhere, and the container's limit where there is one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from facta import hardware


def test_answers_are_plausible(tmp_path: Path) -> None:
    free = hardware.memory_free()
    assert free is None or 0 < free < 1 << 50
    assert 1 <= hardware.threads() < 10_000
    assert hardware.disk_free(tmp_path / "not" / "yet" / "there") == pytest.approx(
        shutil.disk_usage(tmp_path).free, rel=0.2
    )


def test_the_peak_rises_with_use() -> None:
    before = hardware.memory_peak()
    block = np.ones(1 << 24)  # 128 MB
    assert hardware.memory_peak() >= max(before, block.nbytes)


def test_a_container_is_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "max").write_text("1000000\n")
    (tmp_path / "current").write_text("400000\n")
    monkeypatch.setattr(hardware, "_CGROUPS", ((str(tmp_path / "max"), str(tmp_path / "current")),))
    assert hardware.memory_free() == 600_000
    (tmp_path / "max").write_text("max\n")
    assert hardware.memory_free() != 600_000


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1536, "1.5 KB"), (2e11, "200 GB"), (3e15, "3000 TB")]
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert hardware.human(size) == text
