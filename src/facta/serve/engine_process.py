"""The process of a model: `python -m facta.serve.engine_process CONFIG DESCRIPTOR`, started by the HTTP process.

It ends when the other end of its line is closed, so it never outlives the process that it answers.
"""

from __future__ import annotations

import os
import signal
import sys

import torch

from facta.errors import FactaError
from facta.hardware import threads
from facta.kinds import import_named
from facta.serve.answering import Answering, refusal
from facta.serve.config import EngineConfig
from facta.serve.wire import FAILED, Line


def main() -> None:
    config, line = EngineConfig.model_validate_json(sys.argv[1]), Line(int(sys.argv[2]))
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal and systemd tell both processes
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(config.threads or max(threads() - 1, 1))  # HTTP needs one
    try:
        for module in config.modules:
            import_named(module)
        answering = Answering.of(
            config.name, config.artifact, config.ranker, config.store,
            cache=config.cache, stride=config.stride, waiting=config.waiting,
            popular_half_life=config.popular_half_life,
        )  # fmt: skip
        answering.warm()
    except FactaError as error:
        line.send(refusal(0, error)._replace(code=FAILED).packed())
        return
    line.send(answering.ready().packed())
    serve(line, answering)


def serve(line: Line, answering: Answering) -> None:
    """Answer until the line is closed. What came while a step ran is in the next one."""
    while True:
        asked = line.receive(wait=not len(answering))
        if line.closed:
            return
        answers = [frame for one in asked if (frame := answering.take(one)) is not None]
        answers += answering.step()
        line.send(b"".join(frame.packed() for frame in answers))


if __name__ == "__main__":
    main()
    os._exit(0)  # it only reads: taking torch apart in order takes seconds, while whoever stops the service waits
