"""The answer log: what was answered, a line for each, for attribution and for what is learned from it later.

Off unless asked for. It holds request ids, models, times, items and scores, and nothing of a person: whoever shows a
list keeps its request id, and posts it with what happened.
"""

from __future__ import annotations

import logging
from logging.handlers import QueueHandler, QueueListener, TimedRotatingFileHandler
from queue import SimpleQueue


class AnswerLog:
    """A file that begins anew each midnight (UTC); days that are older than `days` are deleted."""

    def __init__(self, path: str, days: int) -> None:
        self._log = logging.Logger("facta.answers", logging.INFO)
        file = TimedRotatingFileHandler(path, when="midnight", backupCount=days, utc=True, delay=True, encoding="utf-8")
        queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
        self._listener = QueueListener(queue, file)  # a thread of its own writes
        self._log.addHandler(QueueHandler(queue))
        self._listener.start()

    def write(self, answer: bytes) -> None:
        """`answer`: a body of JSON."""
        self._log.info("%s", answer.decode())

    def close(self) -> None:
        """Write what waits."""
        self._listener.stop()
