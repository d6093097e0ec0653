"""Jobs of many threads, done one after the other by one thread, many of them in one commit.

A commit waits for the disk, whatever it holds. So all jobs that came while one commit was under way go into the next
one: alone, a job waits for nobody; in a crowd, they share the waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from itertools import groupby
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

from facta.errors import StoreError

Job = TypeVar("Job")
Outcome = Any  # what a job came to, or the FactaError that it raised before it changed anything

_MOST = 1000  # jobs in a commit: bounds how long the first of them waits for the last


class GroupCommit(Generic[Job]):
    """`commit` does jobs in one transaction and returns an outcome for each when all of them are durable; where it
    raises, none of them has happened."""

    def __init__(self, commit: Callable[[Sequence[Job]], Sequence[Outcome]]) -> None:
        self._commit = commit
        self._waiting: SimpleQueue[tuple[Any, Future[Any]] | None] = SimpleQueue()
        self._closing = Lock()
        self._closed = False
        self._thread = Thread(target=self._run, name="facta-store-writer", daemon=True)
        self._thread.start()

    def do(self, job: Job) -> Any:
        """The outcome of a job, after the commit that holds it. Raises what the job or its commit raises."""
        return self._put(job)

    def _put(self, work: Any) -> Any:
        answer: Future[Any] = Future()
        with self._closing:  # no job comes behind the last
            if self._closed:
                raise StoreError("The event store was closed; open it again.")
            self._waiting.put((work, answer))
        return answer.result()

    def alone(self, work: Callable[[], Any]) -> Any:
        """What cannot share a transaction, in its turn."""
        return self._put(work)

    def close(self) -> None:
        """Do what waits, then stop."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            group = [self._waiting.get()]
            while not self._waiting.empty() and len(group) < _MOST:
                group.append(self._waiting.get())
            last = None in group
            there = (one for one in group if one is not None)
            for alone, part in groupby(there, key=lambda one: callable(one[0])):
                if alone:
                    self._do_alone(part)
                else:
                    self._do([*part])

    def _do_alone(self, works: Iterable[tuple[Callable[[], Any], Future[Any]]]) -> None:
        for work, answer in works:
            try:
                answer.set_result(work())
            except Exception as error:
                answer.set_exception(error)

    def _do(self, group: Sequence[tuple[Job, Future[Any]]]) -> None:
        try:
            outcomes = self._commit([job for job, _ in group])
        except Exception as error:
            self._failed(group, error)
            return
        for (_, answer), outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

    def _failed(self, group: Sequence[tuple[Job, Future[Any]]], error: Exception) -> None:
        """A store that is down fails for all; otherwise one job of the group may be to blame: each goes alone."""
        if len(group) > 1 and not isinstance(error, StoreError):
            for one in group:
                self._do([one])
        else:
            for _, answer in group:
                answer.set_exception(error)
