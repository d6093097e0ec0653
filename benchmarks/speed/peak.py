"""peak_fma_*: the most fused multiply-adds a second that this processor sustains, beside torch's best matrix product.

    python -m benchmarks.speed.peak            measure and record
    python -m benchmarks.speed.peak --look     measure and print only

A loop of independent multiply-adds in registers, compiled for the vector width that the kernels use: what a kernel
could reach at most. (A library's product can be half of it.) float32, two operations a multiply-add; one thread, and
all that this process may use. Kernels state their share of it (`*_vs_peak`).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.speed.turns import product_rate
from facta import hardware
from facta.ops import backend

FIGURES: dict[str, Figure] = {
    "peak_fma_one": Figure("", "GFLOP/s", module("peak"), "peak of fused multiply-adds, one thread"),
    "peak_fma_all": Figure("", "GFLOP/s", module("peak"), "the same, all threads"),
}

SOURCE = Path(__file__).with_name("peak.cpp")
BUILDS = {
    "avx512": (64, 24, '"+v"', ["-mavx512f", "-mfma"]),
    "avx2": (32, 12, '"+x"', ["-mavx2", "-mfma"]),
    "neon": (16, 20, '"+w"', []),
}
"""Kernels -> bytes of a vector, chains, the register class in GCC's words, and what the compiler is told."""
TRIES = 3


@cache
def program(kernels: str) -> Path:
    """The loop, compiled for the vector width of some kernels; removed when the process ends."""
    if kernels not in BUILDS:
        raise RuntimeError(f"The kernels '{kernels}' have no vector width; the peak is of {', '.join(BUILDS)}.")
    width, chains, register, flags = BUILDS[kernels]
    built = Path(tempfile.mkdtemp(prefix="facta-peak-")) / "peak"
    defined = [f"-DBYTES={width}", f"-DCHAINS={chains}", f"-DREGISTER={register}"]
    compiler = os.environ.get("CXX", "c++")
    plain = [compiler, "-O3", "-std=c++17", "-ffp-contract=fast", "-pthread", *defined, *flags]
    subprocess.run([*plain, str(SOURCE), "-o", str(built)], check=True)
    return built


def peak_rate(threads: int, kernels: str | None = None, seconds: float = 0.3) -> float:
    """GFLOP/s of `threads` threads together, the best of a few tries."""
    command = [str(program(kernels or backend.current())), str(threads), str(seconds)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(TRIES)]
    return max(float(run.stdout) for run in runs)


def main() -> None:
    look = looking(__doc__)
    kernels = backend.current()
    for name, threads in (("one", 1), ("all", hardware.threads())):
        torch.set_num_threads(threads)
        peak, product = peak_rate(threads), product_rate()
        note = f"{kernels}, {threads} threads; torch's best product {product:.0f} GFLOP/s, {product / peak:.2f} of it"
        print(f"peak {peak:.0f} GFLOP/s: {note}", flush=True)
        if not look:
            record(f"peak_fma_{name}", peak, note=note)


if __name__ == "__main__":
    main()
