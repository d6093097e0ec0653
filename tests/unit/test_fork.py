"""A server loads an artifact once and forks its workers: each of them answers."""

import os
import signal

import pytest
import torch

from tests.unit.test_engine import artifact


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of Python 3.12, about forks beside threads
def test_a_forked_worker_answers_after_its_parent_has() -> None:
    """Parent and child both compute with several threads' worth of work; without a reset the child waits for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine, histories = artifact(window=200), [[10 * (i % 12) for i in range(50 + n % 100)] for n in range(300)]
        expected = engine.recommend(histories, 5).ids
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            os._exit(0 if engine.recommend(histories, 5).ids == expected else 1)
        _, status = os.waitpid(child, 0)
    finally:
        torch.set_num_threads(before)
    assert not os.WIFSIGNALED(status), f"the worker was killed by signal {os.WTERMSIG(status)} while it waited"
    assert os.WEXITSTATUS(status) == 0
