"""What the machine has: plausible everywhere, and the container's limit where there is one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

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
    code = (
        "from facta.hardware import memory_peak\n"
        "before = memory_peak()\nblock = bytearray(b'1') * (before + (64 << 20))\nprint(memory_peak() - before)"
    )
    rise = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert rise >= 64 << 20


def test_a_container_is_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "max").write_text("1000000\n")
    (tmp_path / "current").write_text("400000\n")
    monkeypatch.setattr(hardware, "_CGROUPS", ((str(tmp_path / "max"), str(tmp_path / "current")),))
    assert hardware.memory_free() == 600_000
    (tmp_path / "memory.stat").write_text("anon 100000\ninactive_file 250000\n")
    assert hardware.memory_free() == 850_000, "files that were read long ago make room"
    (tmp_path / "max").write_text("max\n")
    assert hardware.memory_free() != 600_000


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1536, "1.5 KB"), (2e11, "200 GB"), (3e15, "3000 TB")]
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert hardware.human(size) == text
