"""The processor's peak, and what figures say of the processor."""

import shutil

import pytest
from benchmarks import record
from benchmarks.speed.block import HEADS, SHAPES, WIDTH, step_operations
from benchmarks.speed.peak import BUILDS, peak_rate

from facta.ops import backend


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.skipif(backend.current() not in BUILDS, reason="needs kernels of a vector width")
def test_the_peak_is_a_rate_that_no_scalar_loop_reaches() -> None:
    """Fault: the chains spill to memory, or depend on each other; then the rate is below a fifth of this."""
    assert 20 < peak_rate(1, seconds=0.05) < 1000


def test_figures_name_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    described = record.hardware()
    assert described["cpu"] and described["cores"] >= 1
    first = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nflags\t\t: fma avx2 sse"
    lines = first + "\n\nprocessor\t: 1\n"
    monkeypatch.setattr(record.Path, "read_text", lambda *_, **__: lines)
    assert record._generation() == {"family": 25, "model": 1, "vectors": "AVX2, 256 bits"}
    monkeypatch.setattr(record.Path, "read_text", lambda *_, **__: lines.replace("avx2", "avx2 avx512f"))
    assert record._generation()["vectors"] == "AVX-512, 512 bits"


def test_the_operations_of_a_step_are_those_of_its_products() -> None:
    """By torch's own counter of matrix products: the projections of one token; attention of two, by hand."""
    rows, length = SHAPES["8k"]
    assert step_operations(1, 1) == 3 * (2 * WIDTH * 4 * WIDTH + 2 * WIDTH * WIDTH + 2 * 2 * WIDTH)
    pairs = length * (length + 1) // 2
    attention = 2 * HEADS * (WIDTH // HEADS) * 2 * pairs  # q·k and weights·v over what is seen
    assert step_operations(rows, length) == 3 * (2 * length * WIDTH * 5 * WIDTH + attention)
