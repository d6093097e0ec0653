"""What a run asks of its process: memory that a step frees stays, or goes where a model is large."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

STATM = Path("/proc/self/statm")

SCRIPT = """
import resource, sys, torch
from torch import nn
from facta.training.process import LARGE_MODEL_BYTES, retain_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

def kept(numbers):
    with retain_freed_memory([nn.Parameter(torch.empty(numbers))]):
        before = resident()
        for _ in range(2):
            x = torch.ones(1 << 25)  # 128 MiB, mapped by itself otherwise
            del x
        return resident() - before

small, large = kept(1000), kept(LARGE_MODEL_BYTES // 4 + 1)
print(small, large, kept(1000))
before = resident()
with retain_freed_memory([]):
    x = torch.ones(1 << 25)
    del x
print(resident() - before)
"""


@pytest.mark.skipif(
    not (STATM.exists() and hasattr(ctypes.CDLL(None), "malloc_trim")), reason="of glibc; reads Linux's count of pages"
)
def test_what_a_step_frees_stays_unless_the_model_is_large_and_goes_in_the_end() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    small, large, again, behind = map(int, run.stdout.split())
    assert small > 120 and again > 120
    assert large < 8 and behind < 8
