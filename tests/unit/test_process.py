"""Memory that a step frees stays with the process, or goes where a model is large."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STATM = Path("/proc/self/statm")

SCRIPT = """
import sys, torch
from torch import nn
from facta.train.process import keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

parameters = [nn.Parameter(torch.empty(int(sys.argv[1])))]
keep_freed_memory(parameters)
before = resident()
for _ in range(2):
    x = torch.ones(1 << 25)  # 128 MiB, mapped by itself otherwise
    del x
print(resident() - before)
"""


@pytest.mark.skipif(not STATM.exists(), reason="reads Linux's count of pages")
@pytest.mark.parametrize(("numbers", "kept"), [(1000, True), (1 << 26, False)])
def test_what_a_step_frees_stays_unless_the_model_is_large(numbers: int, kept: bool) -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(numbers)], capture_output=True, text=True, check=True)
    assert (int(run.stdout) > 120) is kept
