"""Which code computes: what was asked for, or the fastest that is there, and why."""

from __future__ import annotations

import subprocess
import sys

import pytest

from facta.errors import ConfigError
from facta.ops import backend


def test_a_backend_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ConfigError, match=r"There is no backend 'cuda'; this installation has .*reference"),
        backend.use("cuda"),
    ):
        pass
    monkeypatch.setenv("FACTA_BACKEND", "sse2")
    with pytest.raises(ConfigError, match="There is no backend 'sse2'"):
        backend.current()


def test_the_backend_and_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACTA_BACKEND", raising=False)
    fastest = backend.available()[0]
    assert backend.current() == fastest and backend.available()[-1] == backend.REFERENCE
    there = fastest != backend.REFERENCE
    assert (backend.module() is not None) == there
    expected = f"{fastest}: the fastest of {fastest}, " if there else "reference: facta was installed without its"
    assert backend.why().startswith(expected)
    for name in backend.available():
        with backend.use(name):
            assert backend.current() == name and backend.why() == f"{name}, as asked for"
        monkeypatch.setenv("FACTA_BACKEND", name)
        assert backend.why() == f"{name}, as asked for"
        monkeypatch.delenv("FACTA_BACKEND")


def test_what_is_asked_for_within_is_forgotten_behind() -> None:
    before = backend.current()
    with pytest.raises(ZeroDivisionError), backend.use(backend.REFERENCE), backend.use(backend.available()[0]):
        raise ZeroDivisionError
    assert backend.current() == before


THREADS = """
import pathlib, torch
from facta.ops import backend
if backend.current() != backend.REFERENCE:
    torch.set_num_threads(2)
    torch.ops.facta.silu(backend.current(), torch.ones(4096, 64))
mapped = {line.split()[-1] for line in pathlib.Path("/proc/self/maps").read_text().splitlines() if "/" in line}
print(*sorted(one for one in mapped if "omp" in pathlib.Path(one).name))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's libraries are listed in /proc on Linux only")
def test_the_kernels_share_torch_s_threads() -> None:
    """One OpenMP runtime: two would put two pools of threads on the same processors."""
    run = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    (runtime,) = run.stdout.split()
    assert "torch" in runtime
